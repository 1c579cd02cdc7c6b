"""Read-outs that the format's own package wrote come to lie where scanners measured them."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mrd_files import (
    CALIBRATION,
    CALIBRATION_AND_IMAGING,
    NOISE,
    REVERSE,
    ismrmrd,
    kspace,
    lines,
    readout,
    space,
    write,
    xml,
)

from noref import formats
from noref.formats.base import pseudonym
from noref.formats.mrd_header import MrdHeader, parse
from noref.formats.mrd_images import header_of, image
from noref.physics import fft2c, ifft2c, pad_centre
from noref.scan import Scan

PLAIN = xml(space((12, 8, 1), limits=(0, 7, 4)))


def read(path: Path, averages: formats.Averages = "mean") -> list[Scan]:
    return list(formats.read(path, averages=averages))


def same(scan: Scan, values: np.ndarray) -> bool:
    return torch.equal(scan.kspace, torch.from_numpy(values))


@pytest.mark.parametrize("group", ["dataset", "measurement 3", "scans/first"])
@pytest.mark.parametrize("coils", [1, 3])
def test_lines_lie_where_they_are_numbered(tmp_path: Path, group: str, coils: int) -> None:
    values = kspace(coils, 8, 12)
    path = write(tmp_path / "a.h5", lines(values)[::-1], PLAIN, group)
    slices = formats.read(path)
    assert (slices.format, slices.ids) == ("ISMRMRD HDF5", ("a/a/000",))
    scan = pickle.loads(pickle.dumps(slices))[0]
    assert same(scan, values)
    assert scan.measured.all()
    assert (scan.padding, scan.calibration, scan.noise_cov, scan.trajectory) == (None,) * 4


@pytest.mark.parametrize(("ky", "kx"), [(7, 12), (8, 11), (9, 13)])
def test_odd_matrices_have_their_centre_at_half(tmp_path: Path, ky: int, kx: int) -> None:
    values = kspace(2, ky, kx)
    header = xml(space((kx, ky, 1), limits=(0, ky - 1, ky // 2)))
    assert same(read(write(tmp_path / "a.mrd", lines(values), header))[0], values)


def test_slices_contrasts_phases_repetitions_and_sets_are_told_apart(tmp_path: Path) -> None:
    names = ("contrast", "phase", "repetition", "set")
    made, values = [], {}
    for i, name in enumerate(names):
        for number in range(2):
            for slice_ in range(2):
                scan = kspace(2, 8, 12, seed=100 * i + 10 * number + slice_)
                values[name, number, slice_] = scan
                # Beside the first of all scans, one of each kind.
                if number or i == 0:
                    made += lines(scan, slice=slice_, **{name: number})
    slices = formats.read(write(tmp_path / "a.h5", made, PLAIN))
    assert len(slices) == 10
    found = dict(zip(slices.ids, slices, strict=True))
    for name in names:
        text = ".".join(f"{other}{int(other == name)}" for other in names)
        for slice_ in range(2):
            assert same(found[f"a/a.{text}/00{slice_}"], values[name, 1, slice_])
    text = ".".join(f"{name}0" for name in names)
    assert same(found[f"a/a.{text}/001"], values["contrast", 0, 1])


def test_segments_are_parts_of_one_image(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    made = [readout(values[:, row], kspace_encode_step_1=row, segment=row % 2) for row in range(8)]
    (scan,) = read(write(tmp_path / "a.h5", made, PLAIN))
    assert same(scan, values)


def test_averages_are_averaged_or_kept_apart(tmp_path: Path) -> None:
    one, two = kspace(2, 8, 12, seed=1), kspace(2, 8, 12, seed=2)
    noise = kspace(2, 200, seed=3)
    made = [readout(noise, NOISE), *lines(one), *lines(two, average=1)]
    path = write(tmp_path / "a.h5", made, PLAIN)
    (mean,) = read(path)
    torch.testing.assert_close(mean.kspace, torch.from_numpy((one + two) / 2))
    halves = read(path, "apart")
    assert [half.id for half in halves] == ["a/a.average0/000", "a/a.average1/000"]
    assert same(halves[0], one)
    assert same(halves[1], two)
    assert mean.noise_cov is not None
    assert halves[0].noise_cov is not None
    torch.testing.assert_close(2 * mean.noise_cov, halves[0].noise_cov)


def test_lines_that_were_averaged_more_often_than_others(tmp_path: Path) -> None:
    values = kspace(1, 8, 12)
    made = [*lines(values), *lines(3 * values, rows=[3, 4], average=1)]
    (scan,) = read(write(tmp_path / "a.h5", made, PLAIN))
    expected = values.copy()
    expected[:, 3:5] *= 2
    torch.testing.assert_close(scan.kspace, torch.from_numpy(expected))


def test_reversed_lines_are_turned(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    made = [
        readout(
            values[:, row, ::-1] if row % 2 else values[:, row],
            *[REVERSE] * (row % 2),
            kspace_encode_step_1=row,
        )
        for row in range(8)
    ]
    header = xml(space((12, 8, 1), limits=(0, 7, 4), trajectory="epi"))
    with pytest.warns(UserWarning, match="without navigators"):
        (scan,) = read(write(tmp_path / "a.h5", made, header))
    assert same(scan, values)


@pytest.mark.parametrize("reverse", [False, True])
def test_partial_echoes_and_discarded_samples(tmp_path: Path, reverse: bool) -> None:
    values = kspace(2, 8, 12)
    # The echo comes after 3 samples instead of 6; then one and two samples at its ends are discarded.
    short = values[..., 3:]
    order = slice(None, None, -1 if reverse else 1)
    # A flipped centre stays in the middle of an even number of samples, and of an odd one.
    centre = 2 * (9 // 2) - 3 if reverse else 3
    for pre, post in ((0, 0), (1, 2)):
        head = {"discard_pre": pre, "discard_post": post, "center_sample": centre}
        flags = [REVERSE] * reverse
        path = write(tmp_path / f"{pre}.h5", lines(short[..., order], *flags, **head), PLAIN)
        (scan,) = read(path)
        first, last = (post, pre) if reverse else (pre, post)
        kept = np.zeros(12, bool)
        kept[3 + first : 12 - last] = True
        assert torch.equal(scan.measured, torch.from_numpy(kept).expand(8, 12))
        assert same(scan, values * kept)


def test_partial_fourier_leaves_lines_out_that_are_no_zeros(tmp_path: Path) -> None:
    values = kspace(2, 5, 12)
    header = xml(space((12, 8, 1), limits=(0, 4, 1)))
    (scan,) = read(write(tmp_path / "a.h5", lines(values), header))
    assert torch.equal(scan.measured[:, 0].nonzero().flatten(), torch.arange(3, 8))
    torch.testing.assert_close(scan.kspace[:, 3:], torch.from_numpy(values))
    assert scan.padding is None


def test_lines_beyond_the_resolution_are_known_zeros(tmp_path: Path) -> None:
    values = kspace(2, 6, 12)
    header = xml(space((12, 10, 1), limits=(0, 5, 3)))
    (scan,) = read(write(tmp_path / "a.h5", lines(values, rows=[0, 2, 3, 4]), header))
    assert scan.padding is not None
    assert scan.padding[:, 0].nonzero().flatten().tolist() == [0, 1, 9]
    assert scan.measured[:, 0].nonzero().flatten().tolist() == [2, 4, 5, 6]


def test_read_outs_of_no_image_are_left_out(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    other = [
        ismrmrd.ACQ_IS_NAVIGATION_DATA,
        ismrmrd.ACQ_IS_PHASECORR_DATA,
        ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
        ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
        ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
        ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION_REFERENCE,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION,
    ]
    odd = [readout(kspace(3, 7), flag, kspace_encode_step_1=40 + flag) for flag in other]
    (scan,) = read(write(tmp_path / "a.h5", [*odd, *lines(values)], PLAIN))
    assert same(scan, values)


def test_calibration_lines_that_belong_to_the_image_join_it(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    made = [
        *lines(values, rows=[0, 2, 6]),
        *lines(values, CALIBRATION_AND_IMAGING, rows=[4]),
        *lines(values, CALIBRATION, rows=[3, 5]),
    ]
    for mode in ("", "embedded", "interleaved", "other"):
        header = xml(space((12, 8, 1), limits=(0, 7, 4), calibration=mode))
        (scan,) = read(write(tmp_path / f"{mode}.h5", made, header))
        assert scan.mask[:, 0].nonzero().flatten().tolist() == [0, 2, 3, 4, 5, 6]
        assert scan.calibration is None


@pytest.mark.parametrize("mode", ["separate", "external", ""])
def test_separate_calibration_scans(tmp_path: Path, mode: str) -> None:
    values, other = kspace(2, 8, 12), kspace(2, 8, 12, seed=5)
    rows = [2, 3, 4, 5, 6]
    made = [*lines(other, CALIBRATION, rows=rows), *lines(values, rows=[0, 2, 4, 6])]
    header = xml(space((12, 8, 1), limits=(0, 7, 4), calibration=mode))
    (scan,) = read(write(tmp_path / "a.h5", made, header))
    assert scan.mask[:, 0].nonzero().flatten().tolist() == [0, 2, 4, 6]
    assert scan.calibration is not None
    # Its centre, line 4, lies at half of five lines.
    assert torch.equal(scan.calibration, torch.from_numpy(other[:, rows]))


def test_a_calibration_scan_serves_every_repetition_of_its_slice(tmp_path: Path) -> None:
    values, other = kspace(2, 8, 12), kspace(2, 8, 12, seed=5)
    rows = [3, 4, 5]
    made = [
        *(one for s in range(2) for one in lines((s + 1) * other, CALIBRATION, rows=rows, slice=s)),
        *(
            one
            for r in range(2)
            for s in range(2)
            for one in lines(values, rows=[0, 2, 4, 6], repetition=r, slice=s)
        ),
    ]
    header = xml(space((12, 8, 1), limits=(0, 7, 4), calibration="separate"))
    scans = read(write(tmp_path / "a.h5", made, header))
    assert len(scans) == 4
    for scan in scans:
        assert scan.calibration is not None
        factor = 1 + int(scan.id[-1])
        assert torch.equal(scan.calibration, torch.from_numpy(factor * other[:, rows]))


def test_interleaved_repetitions_calibrate_each_other(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    made = [
        one for r in range(4) for one in lines((r + 1) * values, rows=list(range(r % 2, 8, 2)), repetition=r)
    ]
    header = xml(space((12, 8, 1), limits=(0, 7, 4), calibration="interleaved"))
    scans = read(write(tmp_path / "a.h5", made, header))
    for number, scan in enumerate(scans, 1):
        assert scan.acceleration == 2
        assert scan.calibration is not None
        # Of its own lines there is one other repetition, of the others the mean of two.
        expected = values.copy()
        expected[:, 1 - number % 2 :: 2] *= (number + 1) % 4 + 1
        expected[:, number % 2 :: 2] *= 3 if number % 2 else 2
        torch.testing.assert_close(scan.calibration, torch.from_numpy(expected))


def test_a_calibration_scan_of_another_encoding_is_brought_to_the_field_of_view(tmp_path: Path) -> None:
    # 64 pixels of 4 mm; calibrated with 32 pixels of 10 mm of the same, smooth object.
    y = (torch.arange(32) - 16) * 10 / 128
    wide = torch.exp(-20 * (y[:, None] ** 2 + y**2)) * torch.arange(1, 3)[:, None, None] + 0j
    x = (torch.arange(64) - 32) * 4 / 128
    image = torch.exp(-20 * (x[:, None] ** 2 + x**2)) * torch.arange(1, 3)[:, None, None] + 0j
    made = [
        *lines(fft2c(wide).numpy(), CALIBRATION, encoding_space_ref=1),
        *lines(fft2c(image).numpy(), rows=list(range(0, 64, 2))),
    ]
    header = xml(
        space((64, 64, 1), view=(256, 256, 5), limits=(0, 63, 32), calibration="separate"),
        space((32, 32, 1), view=(320, 320, 5), limits=(0, 31, 16)),
    )
    (scan,) = read(write(tmp_path / "a.h5", made, header))
    assert scan.calibration is not None
    assert scan.calibration.shape == (2, 25, 25)
    # As pictures they are the same, but for the factor that pixels of another size bring.
    mine = ifft2c(pad_centre(scan.calibration, (64, 64)))
    true = image / image.abs().max() * mine.abs().max()
    assert float((mine - true).abs().max()) < 0.02 * float(mine.abs().max())


def test_several_encoding_spaces_are_scans_of_their_own(tmp_path: Path) -> None:
    small, large = kspace(2, 6, 10), kspace(2, 8, 12)
    header = xml(space((12, 8, 1), limits=(0, 7, 4)), space((10, 6, 1), limits=(0, 5, 3)))
    made = [*lines(large), *lines(small, encoding_space_ref=1)]
    slices = formats.read(write(tmp_path / "a.h5", made, header))
    assert slices.ids == ("a/a.encoding0/000", "a/a.encoding1/000")
    assert same(slices[0], large)
    assert same(slices[1], small)


def test_several_measurements_share_a_noise_scan(tmp_path: Path) -> None:
    path, noise = tmp_path / "a.h5", kspace(2, 500)
    write(path, [readout(noise, NOISE, sample_time_us=2.0)], PLAIN, "noise")
    for name in ("one", "two"):
        values = kspace(2, 8, 12, seed=len(name))
        write(path, lines(values, sample_time_us=8.0), PLAIN, name)
    slices = formats.read(path)
    assert slices.ids == ("a/a.one/000", "a/a.two/000")
    expected = noise @ noise.conj().T / 500
    for scan in slices:
        assert scan.noise_cov is not None
        # Sampled a quarter as fast, a quarter of the noise.
        np.testing.assert_allclose(scan.noise_cov, expected / 4, rtol=1e-4, atol=1e-6)


def test_noise_scans_of_several_lengths_and_the_receivers_bandwidth(tmp_path: Path) -> None:
    noise = [kspace(2, 40), kspace(2, 300, seed=1)]
    system = (
        "<acquisitionSystemInformation><relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth>"
    )
    header = PLAIN.replace("<encoding>", f"{system}</acquisitionSystemInformation><encoding>")
    made = [*(readout(one, NOISE) for one in noise), *lines(kspace(2, 8, 12))]
    (scan,) = read(write(tmp_path / "a.h5", made, header))
    joined = np.concatenate(noise, axis=1)
    assert scan.noise_cov is not None
    np.testing.assert_allclose(scan.noise_cov, joined @ joined.conj().T / 340 / 0.8, rtol=1e-4, atol=1e-6)


def test_geometry_comes_from_the_encoded_pixels(tmp_path: Path) -> None:
    directions = {"read_dir": (0, 0, 1), "phase_dir": (0, 1, 0), "slice_dir": (-1, 0, 0)}
    more = (
        "<subjectInformation><patientID>P7</patientID></subjectInformation>"
        "<measurementInformation><protocolName>T2 tse</protocolName></measurementInformation>"
    )
    # The scanner interpolates 24 × 20 pixels, of which it shows 12 × 15, to 256 × 256.
    encoding = space((24, 20, 1), (256, 256, 1), view=(48, 40, 3), recon_view=(24, 30, 3), limits=(0, 19, 10))
    made = [
        one
        for s in range(2)
        for one in lines(kspace(1, 20, 24), slice=s, position=(1, 2, 3 + 4 * s), **directions)
    ]
    slices = formats.read(write(tmp_path / "a.h5", made, xml(encoding, more=more)))
    who = pseudonym("P7")
    assert slices.ids == (f"{who}/a/000", f"{who}/a/001")
    header = slices[1].header
    assert (header.crop, header.spacing, header.position) == ((15, 12), (2, 2, 3), (1, 2, 7))
    assert header.directions == ((0, 0, 1), (0, 1, 0), (-1, 0, 0))
    assert header.protocol == "T2 tse"


@pytest.mark.parametrize(
    "header",
    [
        None,
        xml(),
        xml("<encoding/>"),
        PLAIN.replace(' xmlns="http://www.ismrm.org/ISMRMRD"', ""),
        xml(space((12, 8, 1))),
        xml("<encoding><encodedSpace><matrixSize><x>wide</x></matrixSize></encodedSpace></encoding>"),
        "\n" + PLAIN + "\n",
    ],
)
def test_what_a_header_lacks_comes_from_the_data(tmp_path: Path, header: str | None) -> None:
    values = kspace(2, 8, 12)
    made = lines(values)
    for one in made:
        one.center_sample = 0
    (scan,) = read(write(tmp_path / "a.h5", made, header))
    assert same(scan, values)


def test_a_header_that_is_no_xml_is_told(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    path = write(tmp_path / "a.h5", lines(values), "<ismrmrdHeader>")
    with pytest.warns(UserWarning, match="a.h5: its header is no XML"):
        (scan,) = read(path)
    assert same(scan, values)


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_positions_off_the_grid_are_cycles_per_field_of_view(tmp_path: Path, scale: float) -> None:
    rng = np.random.default_rng(0)
    # From −0.5 to 0.5, or in cycles per encoded field of view.
    positions = rng.uniform(-0.5, 0.5, size=(5, 14, 3)).astype(np.float32)
    values = kspace(2, 5, 14)
    made = [
        readout(values[:, i], traj=scale * positions[i], kspace_encode_step_1=i, discard_post=i)
        for i in range(5)
    ]
    made[2].resize(14, 2, 3)
    made[2].data[:] = values[:, 2]
    made[2].traj[:] = scale * positions[2]
    view = {"view": (320.0, 320.0, 5.0), "recon_view": (160.0, 160.0, 5.0)}
    header = xml(space((16, 16, 1), (8, 8, 1), trajectory="radial", **view))
    (scan,) = read(write(tmp_path / "a.h5", made, header))
    assert scan.kspace.shape == (2, 5, 14)
    assert scan.trajectory is not None
    expected = positions[..., 1::-1] * 8
    torch.testing.assert_close(scan.trajectory, torch.from_numpy(expected.copy()), atol=1e-5, rtol=1e-5)
    assert scan.measured.sum(1).tolist() == [14, 13, 12, 11, 10]
    assert same(scan, values * scan.measured.numpy())
    assert scan.header.matrix == scan.matrix == (8, 8)


def test_positions_on_the_grid_are_not_needed(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    made = [
        readout(values[:, i], traj=np.zeros((12, 2), np.float32), kspace_encode_step_1=i) for i in range(8)
    ]
    (scan,) = read(write(tmp_path / "a.h5", made, PLAIN))
    assert scan.trajectory is None
    assert same(scan, values)


def test_other_hdf5_files_are_read_as_before(tmp_path: Path) -> None:
    values = kspace(2, 3, 8, 12)
    with h5py.File(tmp_path / "fastmri.h5", "w") as file:
        file["kspace"] = values
    assert formats.read(tmp_path / "fastmri.h5").format == "fastMRI HDF5"
    path = write(tmp_path / "a.h5", lines(values[0]), PLAIN)
    with h5py.File(path, "a") as file:
        file["dataset/extra"] = values
    assert formats.read(path).format == "ISMRMRD HDF5"
    assert len(formats.read(path, key="dataset/extra", axes="slice,coils,ky,kx")) == 2


@pytest.mark.parametrize(
    ("vendor", "sign"), [("SIEMENS", -1), ("Siemens Healthineers", -1), ("GE", 1), ("", 1)]
)
def test_directions_of_siemens_are_those_of_the_forward_transform(
    tmp_path: Path, vendor: str, sign: int
) -> None:
    vectors = {"read_dir": (0, 1, 0), "phase_dir": (1, 0, 0), "slice_dir": (0, 0, 1)}
    made = [
        readout(kspace(1, 12), kspace_encode_step_1=row, position=(1, 2, 3), **vectors) for row in range(8)
    ]
    told = f"<systemVendor>{vendor}</systemVendor>"
    system = f"<acquisitionSystemInformation>{told}</acquisitionSystemInformation>"
    header = xml(space((12, 8, 1), limits=(0, 7, 4)), more=system)
    (scan,) = read(write(tmp_path / "a.h5", made, header))
    expected = ((0, sign, 0), (sign, 0, 0), (0, 0, 1))
    assert scan.header.directions == expected
    assert scan.header.position == (1, 2, 3)
    # So are those of an image that a server made of it, which has them from its read-outs.
    sent = image(np.zeros((8, 12), np.complex64), (12, 8, 5))
    for name, vector in vectors.items():
        sent.head[name] = vector
    assert header_of(sent, parse(header.encode()) or MrdHeader()).directions == expected
