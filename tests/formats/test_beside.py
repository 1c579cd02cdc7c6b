"""Noise and calibration scans in files of their own: which belongs to which image, and what is made of it."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import twix_files
from mrd_files import CALIBRATION, NOISE, kspace, lines, readout, space, write, xml

from noref import formats
from noref.coils.whitening import noise_covariance
from noref.config import Source
from noref.data.files import open_scans
from noref.errors import NorefError
from noref.formats import Beside, Reading, bart, calibration_beside, with_calibration
from noref.scan import Scan

SHAPE = (3, 16, 20)
NOISE_SAMPLES = kspace(3, 400, seed=9)
EVERY_SECOND = list(range(0, 16, 2))
PLACE: dict[str, object] = {
    "read_dir": (1.0, 0.0, 0.0),
    "phase_dir": (0.0, 1.0, 0.0),
    "slice_dir": (0.0, 0.0, 1.0),
}


def header(patient: str = "", view: tuple[float, float, float] = (40.0, 32.0, 5.0)) -> str:
    told = f"<subjectInformation><patientID>{patient}</patientID></subjectInformation>"
    encoding = space((20, 16, 1), view=view, limits=(0, 15, 8))
    return xml(encoding, more=told if patient else "")


def image(path: Path, patient: str = "", slices: int = 1, **head: object) -> Path:
    """Every second line of some slices, 5 mm apart."""
    made = [
        one
        for s in range(slices)
        for one in lines(
            kspace(*SHAPE, seed=s),
            rows=EVERY_SECOND,
            slice=s,
            **{**PLACE, "position": (0.0, 0.0, 5.0 * s), **head},
        )
    ]
    return write(path, made, header(patient))


def reference(path: Path, patient: str = "", order: tuple[int, ...] = (0,), *flags: int) -> Path:
    """Fully sampled centres of slices in some order."""
    made = [
        one
        for number, s in enumerate(order)
        for one in lines(
            kspace(*SHAPE, seed=50 + s),
            *flags,
            rows=list(range(5, 12)),
            slice=number,
            **PLACE,
            position=(0.0, 0.0, 5.0 * s),
        )
    ]
    return write(path, made, header(patient))


def centre(seed: int) -> torch.Tensor:
    """What a calibration scan of `reference` holds evenly around the centre."""
    return torch.from_numpy(kspace(*SHAPE, seed=seed)[:, 5:12])


def test_all_settings_of_reading_are_named_once() -> None:
    told = inspect.signature(formats.read).parameters
    fields = Reading.model_fields
    assert set(fields) == set(told) - {"path", "role"}
    assert all(field.default == told[name].default for name, field in fields.items())
    assert set(fields) <= set(Source.model_fields)


@pytest.mark.parametrize("flags", [(), (CALIBRATION,)], ids=["lines of an image", "calibration lines alone"])
def test_a_calibration_scan_comes_from_a_file_of_its_own(tmp_path: Path, flags: tuple[int, ...]) -> None:
    a, b = image(tmp_path / "a.h5"), reference(tmp_path / "b.h5", "", (0,), *flags)
    slices = formats.read(a, calibration=b)
    for one in (slices, pickle.loads(pickle.dumps(slices))):
        (scan,) = one
        assert scan.calibration is not None
        assert torch.equal(scan.calibration, centre(50))
        assert torch.equal(scan.kspace, formats.read(a)[0].kspace)


@pytest.mark.parametrize(("first", "mine"), [(0, 4), (2, 2)], ids=["numbered as the image", "by itself"])
@pytest.mark.parametrize("flags", [(), ("PATREFSCAN",)], ids=["lines of an image", "calibration lines alone"])
def test_so_it_does_for_siemens(tmp_path: Path, flags: tuple[str, ...], first: int, mine: int) -> None:
    acquired, own, told = kspace(2, 8, 12), kspace(2, 8, 12, seed=4), twix_files.protocol()
    lines_ = twix_files.lines(own[:, first:], *flags, rows=range(2 - first, 7 - first), centre_line=mine)
    a = twix_files.write(tmp_path / "a.dat", ("gre", told, twix_files.lines(acquired, rows=range(0, 8, 2))))
    b = twix_files.write(tmp_path / "b.dat", ("gre", told, lines_))
    (scan,) = formats.read(a, calibration=b)
    assert torch.equal(scan.calibration, torch.from_numpy(own[:, 2:7]))
    assert torch.equal(scan.kspace, formats.read(a)[0].kspace)
    if flags:
        with pytest.raises(NorefError, match=r"b\.dat: holds no image data"):
            formats.read(b)


def test_a_measurement_of_reference_lines_is_named_beside_others(tmp_path: Path) -> None:
    """And arrays' axes are not asked of it."""
    own, told = kspace(2, 8, 12, seed=4), twix_files.protocol()
    lines_ = twix_files.lines(own, "PATREFSCAN", rows=range(2, 7))
    both = ("ref", told, lines_), ("gre", told, twix_files.lines(kspace(2, 8, 12)))
    b = twix_files.write(tmp_path / "b.dat", *both)
    np.save(tmp_path / "k.npy", kspace(2, 8, 12))
    how = Reading(axes="coils,ky,kx", calibration=Beside(path=str(b), key="ref"))
    (scan,) = open_scans(str(tmp_path / "k.npy"), how)
    assert torch.equal(scan.calibration, torch.from_numpy(own[:, 2:7]))


def test_slices_are_told_by_their_places_and_else_by_their_numbers(tmp_path: Path) -> None:
    a, b = image(tmp_path / "a.h5", slices=3), reference(tmp_path / "b.h5", order=(2, 0, 1))
    for s, scan in enumerate(formats.read(a, calibration=b)):
        assert torch.equal(scan.calibration, centre(50 + s))
    np.save(tmp_path / "k.npy", np.stack([kspace(*SHAPE, seed=s) for s in range(2)]))
    np.save(tmp_path / "c.npy", np.stack([kspace(*SHAPE, seed=s) for s in (70, 71)]))
    found = formats.read(tmp_path / "k.npy", axes="slice,coils,ky,kx", calibration=tmp_path / "c.npy")
    for s, scan in enumerate(found):
        assert torch.equal(scan.calibration, torch.from_numpy(kspace(*SHAPE, seed=70 + s)))


def test_a_calibration_scan_is_brought_to_the_images_field_of_view(tmp_path: Path) -> None:
    a = image(tmp_path / "a.h5")
    wide = write(tmp_path / "b.h5", lines(kspace(*SHAPE)), header(view=(80.0, 64.0, 5.0)))
    assert formats.read(a, calibration=wide)[0].calibration.shape == (3, 8, 10)


def noise_h5(path: Path) -> Path:
    return write(path / "n.h5", [readout(NOISE_SAMPLES, NOISE, sample_time_us=2.0)], None)


def noise_npy(path: Path) -> Path:
    np.save(path / "n.npy", NOISE_SAMPLES.T)
    return path / "n.npy"


def noise_mat(path: Path) -> Path:
    scipy.io.savemat(path / "n.mat", {"n": NOISE_SAMPLES.T})
    return path / "n.mat"


def noise_cfl(path: Path) -> Path:
    bart.write_cfl(path / "n.cfl", NOISE_SAMPLES.T.reshape(20, 20, 1, 3))
    return path / "n.cfl"


@pytest.mark.parametrize("made", [noise_h5, noise_npy, noise_mat, noise_cfl])
def test_noise_scans_come_from_a_file_of_their_own(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    file = made(tmp_path)
    np.save(tmp_path / "k.npy", kspace(*SHAPE))
    axes = None if file.suffix in (".h5", ".cfl") else "kx,coils"
    how = Reading(axes="coils,ky,kx", noise=Beside(path=str(file), axes=axes))
    if file.suffix == ".cfl":
        how = Reading(noise=Beside(path=str(file)), axes=None)
        np.save(tmp_path / "k.npy", kspace(*SHAPE)[0])
        bart.write_cfl(tmp_path / "k.cfl", kspace(*SHAPE).transpose(2, 1, 0)[:, :, None])
    name = "k.cfl" if file.suffix == ".cfl" else "k.npy"
    (scan,) = open_scans(str(tmp_path / name), how)
    torch.testing.assert_close(scan.noise_cov, noise_covariance(torch.from_numpy(NOISE_SAMPLES)))


def test_noise_of_another_file_knows_the_dwell_times_and_counts_instead_of_the_files(tmp_path: Path) -> None:
    own = [readout(7 * NOISE_SAMPLES, NOISE, sample_time_us=2.0)]
    a = write(tmp_path / "a.h5", own + lines(kspace(*SHAPE), sample_time_us=4.0), header())
    (scan,) = formats.read(a, noise=noise_h5(tmp_path))
    torch.testing.assert_close(scan.noise_cov, noise_covariance(torch.from_numpy(NOISE_SAMPLES)) / 2)


def test_each_image_gets_the_scan_of_its_name_or_its_patient(tmp_path: Path) -> None:
    folder = tmp_path / "calibration"
    folder.mkdir()
    named = image(tmp_path / "one.h5"), image(tmp_path / "two.h5")
    reference(folder / "one_refscan.h5", order=(0,))
    reference(folder / "two.h5", order=(0, 1))
    told = image(tmp_path / "three.h5", patient="P3")
    reference(folder / "other.h5", "P3", (0, 1, 2))
    files = calibration_beside(sorted(folder.iterdir()))
    assert [files.of(formats.read(one))[0].name for one in (*named, told)] == [
        "one_refscan.h5",
        "two.h5",
        "other.h5",
    ]
    with pytest.raises(NorefError, match="of 3 calibration scans none can be its own; name one of"):
        files.of(formats.read(image(tmp_path / "four.h5")))


def test_a_folder_of_both_holds_images_and_what_belongs_to_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        image(tmp_path / f"{name}.h5")
        reference(tmp_path / f"{name}_cal.h5")
    scans = open_scans(str(tmp_path), Reading(calibration=Beside(path=str(tmp_path / "*_cal.h5"))))
    assert scans.ids == ("one/one/000", "two/two/000")
    assert all(scan.calibration is not None for scan in scans)


def test_both_may_be_arrays_of_one_file(tmp_path: Path) -> None:
    both = {"k": kspace(*SHAPE), "acs": kspace(3, 7, 20, seed=3)}
    np.savez(tmp_path / "a.npz", **both)
    file = str(tmp_path / "a.npz")
    (scan,) = open_scans(file, Reading(axes="coils,ky,kx", key="k", calibration=Beside(path=file, key="acs")))
    assert torch.equal(scan.calibration, torch.from_numpy(both["acs"]))


def other_patient(folder: Path) -> None:
    formats.read(image(folder / "a.h5", "P1"), calibration=reference(folder / "b.h5", "P2"))


def other_patients_noise(folder: Path) -> None:
    noise = write(folder / "n.h5", [readout(NOISE_SAMPLES, NOISE)], header("P2"))
    formats.read(image(folder / "a.h5", "P1"), noise=noise)


def other_place(folder: Path) -> None:
    a = image(folder / "a.h5", position=(0, 0, 60))
    formats.read(a, calibration=reference(folder / "b.h5"))[0]


def other_coils(folder: Path) -> None:
    other = write(folder / "b.h5", lines(kspace(2, 16, 20)), header())
    formats.read(image(folder / "a.h5"), calibration=other)[0]


def other_slices(folder: Path) -> None:
    np.save(folder / "k.npy", np.stack([kspace(*SHAPE)] * 2))
    np.save(folder / "c.npy", kspace(*SHAPE)[None])
    formats.read(folder / "k.npy", axes="slice,coils,ky,kx", calibration=folder / "c.npy")[1]


def no_centre(folder: Path) -> None:
    other = write(folder / "b.h5", lines(kspace(*SHAPE), rows=[0, 1, 2]), header())
    formats.read(image(folder / "a.h5"), calibration=other)[0]


def other_channels(folder: Path) -> None:
    other = write(folder / "n.h5", [readout(kspace(2, 100), NOISE)], None)
    formats.read(image(folder / "a.h5"), noise=other)[0]


def no_noise(folder: Path) -> None:
    formats.read(image(folder / "a.h5"), noise=reference(folder / "b.h5"))


def no_axes(folder: Path) -> None:
    np.save(folder / "n.npy", NOISE_SAMPLES)
    formats.read(image(folder / "a.h5"), noise=folder / "n.npy")


def no_file(folder: Path) -> None:
    formats.read(image(folder / "a.h5"), noise=folder / "n.h5")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (other_patient, "a calibration scan of another patient than"),
        (other_patients_noise, "a noise scan of another patient than"),
        (other_place, "calibration scan lies 60 mm away from the image"),
        (other_coils, "a calibration scan of 2 coils, but 3 in a/a/000"),
        (other_slices, "holds slices 000 to 000, and no calibration for k/k/001"),
        (no_centre, "a calibration scan whose centre was not sampled"),
        (other_channels, "noise scans of 2 channels, but 3 in a/a/000"),
        (no_noise, "holds no noise scans"),
        (no_axes, "say with noise.axes which axis is coils"),
        (no_file, "n.h5: not found"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_scans_that_belong_to_others_are_one_line(
    tmp_path: Path, given: Callable[[Path], None], message: str
) -> None:
    with pytest.raises(NorefError, match=message) as caught:
        given(tmp_path)
    assert "\n" not in str(caught.value)


def test_in_python_a_scan_calibrates_another_if_it_is_of_its_patient_and_coils(tmp_path: Path) -> None:
    scan = formats.read(image(tmp_path / "a.h5", "P1"))[0]
    own, other = (formats.read(reference(tmp_path / f"of{p}.h5", p))[0] for p in ("P1", "P2"))
    assert torch.equal(with_calibration(scan, own).calibration, centre(50))
    with pytest.raises(NorefError, match="a calibration scan of another patient than"):
        with_calibration(scan, other)
    fewer: Scan = replace(own, kspace=own.kspace[:2])
    with pytest.raises(NorefError, match="a calibration scan of 2 coils, but 3 in"):
        with_calibration(scan, fewer)


@pytest.mark.real_data
def test_a_real_phantom_takes_its_reference_scan(real_data: Path) -> None:
    folder = real_data / "multicoil"
    (scan,) = formats.read(
        folder / "xingkong_phantom_16ch_R2.mat",
        axes="kx,ky,coils",
        calibration=folder / "xingkong_phantom_16ch_refscan.mat",
    )
    given = scipy.io.loadmat(folder / "xingkong_phantom_16ch_refscan.mat")["refscan"]
    assert scan.calibration is not None
    lines_, samples = scan.calibration.shape[1:]
    assert lines_ == 24
    middle = slice(32 - samples // 2, 32 - samples // 2 + samples)
    expected = given.transpose(2, 1, 0)[..., middle].astype(np.complex64)
    assert torch.equal(scan.calibration, torch.from_numpy(expected))


def test_noise_scans_of_a_twix_file_without_an_image_serve_another(tmp_path: Path) -> None:
    twix_files = pytest.importorskip("twix_files")
    made = twix_files.lines(NOISE_SAMPLES[:, None, :20], "NOISEADJSCAN")
    path = twix_files.write(tmp_path / "n.dat", ("noise", twix_files.protocol(), made))
    (scan,) = formats.read(image(tmp_path / "a.h5"), noise=path)
    assert scan.noise_cov is not None
    # By the receiver's bandwidth, of which twix files have 0.793.
    expected = noise_covariance(torch.from_numpy(NOISE_SAMPLES[:, :20])) / 0.793
    torch.testing.assert_close(scan.noise_cov, expected)
