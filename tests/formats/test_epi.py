"""EPI without ghosts: lines of both directions are brought in phase by their navigators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from epi_scans import Shot, full, signal, train
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd2_files import converted
from mrd_files import CALIBRATION, NOISE, REVERSE, kspace, readout, space, write, xml

from noref import formats
from noref.errors import NorefError
from noref.formats.mrd_epi import difference
from noref.physics import ifft2c
from noref.scan import Scan

KY, KX = 24, 32
HEADER = xml(space((KX, KY, 1), limits=(0, KY - 1, KY // 2), trajectory="epi"))


def read(path: Path) -> list[Scan]:
    return list(formats.read(path))


def worst(scan: Scan, expected: np.ndarray) -> float:
    """Largest deviation of the images, as a share of the brightest pixel."""
    one, other = ifft2c(scan.kspace), ifft2c(torch.from_numpy(expected))
    return float((one - other).abs().max() / other.abs().max())


def drifted(values: np.ndarray, drift: float, after: int = 3) -> np.ndarray:
    """k-space whose lines were acquired from the first to the last, while the phase grew."""
    ky = values.shape[1]
    return (values * np.exp(1j * drift * (np.arange(ky) + after))[:, None]).astype(np.complex64)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("ky", "kx"), [(24, 32), (25, 33), (24, 33), (23, 32)])
def test_no_ghost_is_left(tmp_path: Path, coils: int, first: bool, ky: int, kx: int) -> None:
    shot = Shot(0.7, -1.2)
    header = xml(space((kx, ky, 1), limits=(0, ky - 1, ky // 2), trajectory="epi"))
    (scan,) = read(write(tmp_path / "a.h5", train(coils, ky, kx, shot, first=first), header))
    assert scan.measured.all()
    assert worst(scan, full(coils, ky, kx)) < 1e-4


@given(shift=st.floats(-3, 3), phase=st.floats(-3, 3), slope=st.floats(-0.1, 0.1), coils=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_shift_and_phase_are_found(shift: float, phase: float, slope: float, coils: int) -> None:
    x = np.arange(64)
    image = np.exp(-(((x - 30) / 12) ** 2)) * np.exp(1j * np.arange(1, coils + 1)[:, None] * np.sin(x / 9))
    turn = phase + slope * shift * x
    other = image * np.exp(1j * turn)
    a, b = difference(torch.from_numpy(image), torch.from_numpy(other))
    assert b == pytest.approx(slope * shift, abs=1e-9)
    assert abs(np.exp(1j * a) - np.exp(1j * phase)) < 1e-7


@pytest.mark.parametrize("navigators", [3, 4, 5])
def test_drift_from_one_navigator_to_the_next_is_no_difference(tmp_path: Path, navigators: int) -> None:
    shot = Shot(0.4, 0.8, drift=0.3)
    made = train(3, KY, KX, shot, navigators=navigators)
    (scan,) = read(write(tmp_path / "a.h5", made, HEADER))
    assert worst(scan, drifted(full(3, KY, KX), 0.3, navigators)) < 1e-4


def test_of_two_navigators_the_drift_stays(tmp_path: Path) -> None:
    (still,) = read(write(tmp_path / "a.h5", train(3, KY, KX, Shot(), navigators=2), HEADER))
    assert worst(still, full(3, KY, KX)) < 1e-4
    made = train(3, KY, KX, Shot(drift=0.3), navigators=2)
    (moved,) = read(write(tmp_path / "b.h5", made, HEADER))
    assert worst(moved, drifted(full(3, KY, KX), 0.3, 2)) > 0.05


def test_the_ghost_sinks_into_the_noise(tmp_path: Path) -> None:
    noise, shot = 0.01, Shot(0.6, 0.9)
    silent = np.stack([one.data for one in train(4, KY, KX, shot)])
    noisy = train(4, KY, KX, shot, noise=noise)
    (scan,) = read(write(tmp_path / "a.h5", noisy, HEADER))
    left = ifft2c(scan.kspace - torch.from_numpy(full(4, KY, KX)))
    # As in every pixel of an image without ghosts; the fit takes a little of its own.
    assert float(left.abs().square().mean().sqrt()) < 1.1 * noise * 2**0.5
    assert np.abs(silent).max() > 20 * noise


@pytest.mark.parametrize("interleaved", [False, True])
def test_every_shot_slice_and_repetition_has_navigators_of_its_own(tmp_path: Path, interleaved: bool) -> None:
    made, numbers = [], [(r, s, i) for r in range(2) for s in range(2) for i in range(2)]
    if interleaved:
        numbers = sorted(numbers, key=lambda number: number[::-1])
    for repetition, slice_, segment in numbers:
        fault = Shot(0.5 * segment - 0.4 * slice_, 1.0 - repetition + 0.4 * segment)
        head = {"repetition": repetition, "slice": slice_, "segment": segment}
        made += train(2, KY, KX, fault, range(segment, KY, 2), seed=10 * slice_ + repetition, **head)
    scans = read(write(tmp_path / "a.h5", made, HEADER))
    assert [scan.id for scan in scans] == [f"a/a.repetition{r}/00{s}" for r in range(2) for s in range(2)]
    for scan, seed in zip(scans, (0, 10, 1, 11), strict=True):
        assert worst(scan, full(2, KY, KX, seed)) < 1e-4


def test_navigators_of_the_first_repetition_serve_all(tmp_path: Path) -> None:
    made = [one for r in range(3) for one in train(2, KY, KX, Shot(), navigators=0 if r else 3, repetition=r)]
    for scan in read(write(tmp_path / "a.h5", made, HEADER)):
        assert worst(scan, full(2, KY, KX)) < 1e-4


def test_navigators_of_one_direction_are_passed_over(tmp_path: Path) -> None:
    made = [one for r in range(2) for one in train(2, KY, KX, Shot(), navigators=3 - 2 * r, repetition=r)]
    for scan in read(write(tmp_path / "a.h5", made, HEADER)):
        assert worst(scan, full(2, KY, KX)) < 1e-4


def test_averages_of_opposite_direction(tmp_path: Path) -> None:
    made = [*train(2, KY, KX, Shot()), *train(2, KY, KX, Shot(-0.3, 2.0), first=True, average=1)]
    (scan,) = read(write(tmp_path / "a.h5", made, HEADER))
    assert worst(scan, full(2, KY, KX)) < 1e-4


def test_calibration_lines_are_corrected_by_the_navigators_before_them(tmp_path: Path) -> None:
    rows = range(KY // 2 - 5, KY // 2 + 5)
    calibrating = train(2, KY, KX, Shot(-0.5, 2.0), rows)
    for one in calibrating:
        one.setFlag(CALIBRATION)
    made = [*calibrating, *train(2, KY, KX, Shot(0.8, 0.3), range(0, KY, 2))]
    header = HEADER.replace(
        "</encoding>",
        "<parallelImaging><calibrationMode>separate</calibrationMode></parallelImaging></encoding>",
    )
    (scan,) = read(write(tmp_path / "a.h5", made, header))
    expected = full(2, KY, KX)
    assert scan.calibration is not None
    assert scan.calibration.shape == (2, 10, KX)
    left = scan.calibration - torch.from_numpy(expected[:, rows])
    assert float(left.abs().max()) < 1e-3 * float(np.abs(expected).max())
    expected[:, 1::2] = 0
    assert worst(scan, expected) < 1e-4


def test_partial_echoes_keep_what_was_not_measured(tmp_path: Path) -> None:
    made = train(2, KY, KX, Shot(0.0, 1.1))
    for one in made:
        one.discard_pre, one.discard_post = (0, 6) if one.isFlagSet(REVERSE) else (6, 0)
    (scan,) = read(write(tmp_path / "a.h5", made, HEADER))
    assert torch.equal(scan.measured, (torch.arange(KX) >= 6).expand(KY, KX))
    expected = full(2, KY, KX)
    expected[..., :6] = 0
    assert worst(scan, expected) < 1e-4


def test_lines_of_one_direction_need_no_navigators(tmp_path: Path) -> None:
    values = kspace(2, KY, KX)
    turned = [readout(values[:, row, ::-1], REVERSE, kspace_encode_step_1=row) for row in range(KY)]
    (scan,) = read(write(tmp_path / "a.h5", turned, HEADER))
    assert torch.equal(scan.kspace, torch.from_numpy(values))


@pytest.mark.parametrize("navigators", [0, 1])
def test_without_navigators_of_both_directions_ghosts_are_told(tmp_path: Path, navigators: int) -> None:
    path = write(tmp_path / "a.h5", train(2, KY, KX, Shot(), navigators=navigators), HEADER)
    with pytest.warns(UserWarning, match="without navigators of both") as caught:
        (scan,) = read(path)
    assert len(caught) == 1
    assert str(caught[0].message).startswith(str(path))
    assert worst(scan, full(2, KY, KX)) > 0.1


def test_navigators_of_other_channels_are_refused(tmp_path: Path) -> None:
    made = train(2, KY, KX, Shot())
    odd = train(3, KY, KX, Shot())[1]
    with pytest.raises(NorefError, match="navigators of different channels"):
        read(write(tmp_path / "a.h5", [made[0], odd, *made[2:]], HEADER))


# Read-outs that are sampled while the gradient rises and falls.
RISE, FLAT, FALL, SAMPLES = 120, 300, 100, 64


def ramped(dwell: float, delay: float, wide: int = KX, samples: int = SAMPLES) -> np.ndarray:
    """Where samples lie, in cycles per encoded field of view, by adding up the gradient finely."""
    fine = np.linspace(0, RISE + FLAT + FALL, 200001)
    height = np.interp(fine, [0, RISE, RISE + FLAT, RISE + FLAT + FALL], [0, 1, 1, 0])
    area = np.concatenate([[0], np.cumsum((height[1:] + height[:-1]) / 2 * np.diff(fine))])
    first, last = np.interp([delay, delay + dwell * samples], fine, area)
    middle = np.interp(delay + dwell * (np.arange(samples) + 0.5), fine, area)
    return (middle - area[-1] / 2) * wide / (last - first)


def epi_header(recon: float = 0.5, limits: bool = True, **told: float) -> str:
    longs = "".join(
        f"<userParameterLong><name>{name}</name><value>{value:.0f}</value></userParameterLong>"
        for name, value in told.items()
        if name != "dwellTime"
    )
    dwell = told.get("dwellTime")
    doubles = (
        ""
        if dwell is None
        else f"<userParameterDouble><name>dwellTime</name><value>{dwell}</value></userParameterDouble>"
    )
    return xml(
        space(
            (KX, KY, 1),
            (round(KX * recon), KY, 1),
            view=(200.0, 100.0, 4.0),
            recon_view=(200.0 * recon, 100.0, 4.0),
            limits=(0, KY - 1, KY // 2) if limits else None,
            trajectory="epi",
            more=f"<trajectoryDescription><identifier>ConventionalEPI</identifier>{longs}{doubles}"
            "</trajectoryDescription>",
        )
    )


def trapezoid(dwell: float, delay: float) -> dict[str, float]:
    return {
        "rampUpTime": RISE,
        "flatTopTime": FLAT,
        "rampDownTime": FALL,
        "acqDelayTime": delay,
        "numSamples": SAMPLES,
        "dwellTime": dwell,
    }


def even(coils: int, recon: float = 0.5) -> np.ndarray:
    """k-space on the grid of the clinical field of view, with the pixels' values that the encoded one has."""
    columns = round(KX * recon)
    along = (np.arange(columns) - columns // 2) / recon
    rows = [signal(coils, along, row - KY // 2) for row in range(KY)]
    return (np.stack(rows, axis=1) / recon**0.5).astype(np.complex64)


@pytest.mark.parametrize(("dwell", "delay"), [(7.5, 20.0), (6.5, 50.0), (7.0, 31.0)])
def test_ramps_are_regridded(tmp_path: Path, dwell: float, delay: float) -> None:
    where = ramped(dwell, delay)
    path = write(
        tmp_path / "a.h5", train(3, KY, where, Shot(0.5, 1.0)), epi_header(**trapezoid(dwell, delay))
    )
    (scan,) = read(path)
    assert scan.kspace.shape == (3, KY, KX // 2)
    assert scan.measured.all()
    assert scan.header.spacing == pytest.approx((100 / KY, 200 / KX, 4))
    assert scan.header.crop is None
    assert worst(scan, even(3)) < 5e-4


def test_mrd_2_tells_of_ramps_and_navigators_alike(tmp_path: Path) -> None:
    made = train(2, KY, ramped(7.0, 31.0), Shot(0.5, 1.0))
    path = write(tmp_path / "a.h5", made, epi_header(**trapezoid(7.0, 31.0)))
    (theirs,), (mine,) = read(path), read(converted(path, tmp_path / "a.mrd"))
    assert mine.shape == (KY, KX // 2)
    assert torch.equal(mine.kspace, theirs.kspace)


@pytest.mark.parametrize("left_out", ["acqDelayTime", "numSamples", "dwellTime"])
def test_what_trajectories_leave_out_comes_from_the_read_outs(tmp_path: Path, left_out: str) -> None:
    centred = (RISE + FLAT + FALL - 7.0 * SAMPLES) / 2
    told = {name: value for name, value in trapezoid(7.0, centred).items() if name != left_out}
    made = train(2, KY, ramped(7.0, centred), Shot(0.5, 1.0), sample_time_us=7.0)
    (scan,) = read(write(tmp_path / "a.h5", made, epi_header(**told)))
    assert worst(scan, even(2)) < 5e-4


def test_the_noise_of_regridded_lines_is_known(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = []
    for number in range(200):
        noise = rng.normal(size=(2, SAMPLES)) + 1j * rng.normal(size=(2, SAMPLES))
        head = {"kspace_encode_step_1": number % KY, "repetition": number // KY, "sample_time_us": 7.0}
        made.append(readout(noise.astype(np.complex64), *[REVERSE] * (number // KY % 2), **head))
    scanned = readout(kspace(2, 20000), NOISE, sample_time_us=7.0)
    path = write(tmp_path / "a.h5", [scanned, *made], epi_header(**trapezoid(7.0, 31.0)))
    scans = read(path)
    found = torch.cat([ifft2c(scan.kspace)[:, scan.measured.any(-1)].flatten(1) for scan in scans], 1)
    values = torch.cat([scan.kspace[:, scan.measured.any(-1)].flatten(1) for scan in scans], 1)
    assert found.shape == values.shape
    assert scans[0].noise_cov is not None
    power = float(values.abs().square().mean())
    assert power == pytest.approx(float(scans[0].noise_cov.diagonal().real.mean()), rel=0.05)
    # Neither that of the samples nor nothing like it.
    assert 0.2 < power / 2 < 0.9


BAD = [
    ({"flatTopTime": 0}, "EPI of 64 samples from 31 to 479 µs of a gradient of 220 µs"),
    ({"dwellTime": 9.0}, "EPI of 64 samples from 31 to 607 µs of a gradient of 520 µs"),
    ({"acqDelayTime": 90}, "EPI of 64 samples from 90 to 538 µs of a gradient of 520 µs"),
    ({"numSamples": 60}, "a read-out of 64 samples, where trajectoryDescription tells of 60"),
]


@pytest.mark.parametrize(("wrong", "complaint"), BAD, ids=[complaint for _, complaint in BAD])
def test_gradients_that_cannot_be_are_refused(
    tmp_path: Path, wrong: dict[str, float], complaint: str
) -> None:
    header = epi_header(**{**trapezoid(7.0, 31.0), **wrong})
    path = write(tmp_path / "a.h5", train(2, KY, ramped(7.0, 31.0), Shot()), header)
    with pytest.raises(NorefError, match=complaint) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
