"""Images out: slices, echoes and repetitions come back where they were, in every format that can say so."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from mrd_files import lines, space, write, xml

from noref import formats
from noref.formats.geometry import COUNTERS
from noref.formats.mrd_image_files import read_images
from noref.physics import ifft2c
from noref.scan import Header

AXIAL = Header(
    spacing=(2.0, 3.0, 5.0),
    thickness=5.0,
    position=(10.0, 20.0, 30.0),
    directions=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    repetition_time=100.0,
    echo_time=5.0,
    flip_angle=15.0,
)
SAGITTAL = replace(AXIAL, directions=((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)))
CORONAL = replace(AXIAL, directions=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)))


def at(*heights: float) -> list[Header]:
    return [replace(AXIAL, position=(10.0, 20.0, height)) for height in heights]


def echoes(headers: Sequence[Header]) -> list[Header]:
    return [replace(one, contrast=i, echo_time=5.0 + 7 * i) for i in range(2) for one in headers]


def repeated(headers: Sequence[Header]) -> list[Header]:
    return [replace(one, repetition=i) for i in range(3) for one in headers]


CASES = {
    "with gaps": at(0, 10, 20),
    "uneven": at(0, 5, 20),
    "downwards": at(0, -5, -10),
    "interleaved": at(0, 10, 5),
    "three planes": [AXIAL, SAGITTAL, CORONAL],
    "two echoes": echoes(at(0, 5)),
    "three repetitions": repeated(at(0, 5)),
    "echoes and repetitions": repeated(echoes(at(0, 10))),
    "a slice again and again": repeated(at(4)),
}


def images(number: int) -> np.ndarray:
    """Magnitudes of another mean each."""
    rng = np.random.default_rng(0)
    return (rng.random((number, 6, 4)) + 1 + np.arange(number)[:, None, None]).astype(np.float32)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def headers(request: pytest.FixtureRequest) -> list[Header]:
    return request.param


def check_alike(one: Header, other: Header) -> None:
    for name in ("thickness", "repetition_time", "echo_time", "flip_angle", *COUNTERS):
        assert getattr(one, name) == getattr(other, name), name
    assert one.position == pytest.approx(other.position, abs=1e-4)
    np.testing.assert_allclose(one.directions, other.directions, atol=1e-6)
    assert one.spacing[:2] == pytest.approx(other.spacing[:2])


def test_mrd_images_come_back_as_they_were(headers: list[Header], tmp_path: Path) -> None:
    volume = images(len(headers))
    formats.write(tmp_path / "x.mrd", volume, headers)
    found = read_images(tmp_path / "x.mrd")
    for (image, told), values, header in zip(found, volume, headers, strict=True):
        np.testing.assert_array_equal(image, values)
        check_alike(told, header)


def test_mrd_2_images_say_where_they_lie(headers: list[Header], tmp_path: Path) -> None:
    mrd = pytest.importorskip("mrd")
    volume = images(len(headers))
    formats.write(tmp_path / "x.mrd2", volume, headers)
    with (tmp_path / "x.mrd2").open("rb") as file, mrd.BinaryMrdReader(file) as reader:
        limits = reader.read_header().encoding[0].encoding_limits
        found = [item.value for item in reader.read_data()]
    for image, values, header in zip(found, volume, headers, strict=True):
        head = image.head
        np.testing.assert_array_equal(image.data[0, 0], values)
        assert head.position.tolist() == list(header.position)
        assert (np.stack([head.col_dir, head.line_dir, head.slice_dir]) == header.directions).all()
        assert [getattr(head, name) for name in COUNTERS] == [getattr(header, name) for name in COUNTERS]
        assert float(image.meta["EchoTime"][0].value) == header.echo_time
    assert limits.repetition.maximum == max(header.repetition for header in headers)
    assert limits.slice.maximum == max(image.head.slice for image in found)


def test_dicom_files_say_where_and_when_they_are(headers: list[Header], tmp_path: Path) -> None:
    volume = images(len(headers))
    formats.write(tmp_path / "s.dcm", volume, headers)
    files = [pydicom.dcmread(path) for path in sorted((tmp_path / "s.dcm").iterdir())]
    told = []
    for file, values, header in zip(files, volume, headers, strict=True):
        pixels = file.pixel_array * float(file.RescaleSlope)
        np.testing.assert_allclose(pixels / pixels.mean(), values / values.mean(), rtol=1e-3)
        along = np.array(file.ImageOrientationPatient, float).reshape(2, 3)
        np.testing.assert_allclose(along, header.directions[:2], atol=1e-9)
        corner = np.array(file.ImagePositionPatient, float)
        np.testing.assert_allclose(corner + 4.5 * along[0] + 5 * along[1], header.position, atol=1e-9)
        assert (file.EchoTime, file.RepetitionTime, file.FlipAngle) == (header.echo_time, 100, 15)
        assert file.SliceThickness == 5
        assert file.get("EchoNumbers", 1) == header.contrast + 1
        assert file.get("TemporalPositionIdentifier", 1) == header.repetition + 1
        told.append(
            (*corner, *along.ravel(), file.get("EchoNumbers"), file.get("TemporalPositionIdentifier"))
        )
    assert len(set(told)) == len(files)
    assert len({file.SeriesInstanceUID for file in files}) == 1
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    for path in sorted((tmp_path / "s.dcm").iterdir()):
        judged = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in judged.stdout + judged.stderr, judged.stderr
        assert judged.returncode == 0


@pytest.mark.parametrize(
    ("name", "between"),
    [("with gaps", 10), ("uneven", None), ("interleaved", 5), ("two echoes", 5), ("three planes", None)],
)
def test_dicom_tells_how_far_slices_are_apart(name: str, between: float | None, tmp_path: Path) -> None:
    formats.write(tmp_path / "s.dcm", images(len(CASES[name])), CASES[name])
    for path in (tmp_path / "s.dcm").iterdir():
        assert pydicom.dcmread(path).get("SpacingBetweenSlices") == between


def test_what_else_tells_dicom_images_apart(tmp_path: Path) -> None:
    """Phases are times, sets and averages acquisitions; what nothing tells apart is numbered."""
    kinds = {
        "phase": ("TemporalPositionIdentifier", [replace(AXIAL, phase=i) for i in range(3)]),
        "set": ("AcquisitionNumber", [replace(AXIAL, set=i) for i in range(3)]),
        "average": ("AcquisitionNumber", [replace(AXIAL, average=i) for i in range(3)]),
        "nothing": ("TemporalPositionIdentifier", [AXIAL] * 3),
        "echo time": ("EchoNumbers", [replace(AXIAL, echo_time=4.0 + i) for i in range(3)]),
        "place": ("InstanceNumber", at(0, 5, 10)),
    }
    for name, (keyword, headers) in kinds.items():
        formats.write(tmp_path / f"{name}.dcm", images(3), headers)
        files = [pydicom.dcmread(path) for path in sorted((tmp_path / f"{name}.dcm").iterdir())]
        assert [file[keyword].value for file in files] == [1, 2, 3]
        others = {"EchoNumbers", "TemporalPositionIdentifier", "AcquisitionNumber"} - {keyword}
        assert not any(other in file for file in files for other in others)


@pytest.mark.parametrize("name", ["two echoes", "three repetitions", "echoes and repetitions"])
def test_dicom_series_come_back(name: str, tmp_path: Path) -> None:
    headers = CASES[name]
    volume = images(len(headers))
    formats.write(tmp_path / "s.dcm", volume, headers)
    found = formats.read(tmp_path / "s.dcm")

    def key(header: Header) -> tuple[float, ...]:
        return (round(header.position[2], 3), header.contrast, header.repetition)

    mine = sorted(zip(map(key, headers), volume.mean((1, 2)).tolist(), strict=True))
    theirs = sorted((key(one.header), float(ifft2c(one.kspace).real.mean())) for one in found)
    assert [one for one, _ in theirs] == [one for one, _ in mine]
    means = np.array([mean for _, mean in theirs])
    np.testing.assert_allclose(means / means[0], [mean / mine[0][1] for _, mean in mine], rtol=1e-3)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_dcm2niix_sees_echoes_and_repetitions(tmp_path: Path) -> None:
    for name, headers in (("e", echoes(at(0, 10, 20))), ("r", repeated(at(0, 10, 20)))):
        (tmp_path / name).mkdir()
        formats.write(tmp_path / f"{name}.dcm", images(len(headers)), headers)
        command = ["dcm2niix", "-f", "x", "-o", tmp_path / name, tmp_path / f"{name}.dcm"]
        subprocess.run(command, check=True, capture_output=True)
    shapes = [nibabel.load(path).shape for path in sorted((tmp_path / "e").glob("*.nii"))]
    assert shapes == [(4, 6, 3)] * 2
    (path,) = (tmp_path / "r").glob("*.nii")
    assert nibabel.load(path).shape == (4, 6, 3, 3)
    assert nibabel.load(path).header.get_zooms()[2] == 10


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_has_volumes_where_slices_repeat(headers: list[Header], tmp_path: Path, suffix: str) -> None:
    volume = images(len(headers))
    path = tmp_path / f"x{suffix}"
    uneven = headers in (CASES["uneven"], CASES["three planes"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        formats.write(path, volume, headers)
    assert len(caught) == uneven
    read = nibabel.load(path)
    stored = read.get_fdata(dtype=np.float32)
    assert stored.shape[:2] == (4, 6)
    places = len({(header.position, header.directions) for header in headers})
    repeats = (len(headers) // places,) if len(headers) > places else ()
    assert stored.shape[2:] == (places, *repeats)
    if uneven:
        return
    # Every image lies where its header, LPS, has its centre, RAS.
    times: dict[tuple[float, ...], int] = {}
    for image, header in zip(volume, headers, strict=True):
        t = times.get(header.position, 0)
        times[header.position] = t + 1
        here = np.linalg.inv(read.affine) @ [*(np.array(header.position) * [-1, -1, 1]), 1]
        np.testing.assert_allclose(here[:3], [1.5, 2.5, round(here[2])], atol=1e-4)
        z = round(here[2])
        np.testing.assert_array_equal(stored[:, :, z, t] if stored.ndim == 4 else stored[:, :, z], image.T)


def test_nifti_says_what_makes_no_volume(tmp_path: Path) -> None:
    for name, said in (("uneven", "not evenly spaced"), ("three planes", "not oriented alike")):
        with pytest.warns(UserWarning, match=said):
            formats.write(tmp_path / "x.nii", images(3), CASES[name])
    with pytest.warns(UserWarning, match="not all there equally often"):
        formats.write(tmp_path / "x.nii", images(3), [*at(0, 5), replace(at(5)[0], repetition=1)])


def test_volumes_without_a_place_are_told_by_their_counters(tmp_path: Path) -> None:
    headers = [Header(spacing=(2.0, 3.0, 5.0), repetition=r) for r in range(3) for _ in range(2)]
    volume = images(6)
    formats.write(tmp_path / "x.nii", volume, headers)
    read = nibabel.load(tmp_path / "x.nii")
    np.testing.assert_array_equal(read.get_fdata(), volume.reshape(3, 2, 6, 4).transpose(3, 2, 1, 0))
    assert read.header.get_zooms() == (3, 2, 5, 1)
    formats.write(tmp_path / "x.mrd", volume, headers)
    assert [told.repetition for _, told in read_images(tmp_path / "x.mrd")] == [0, 0, 1, 1, 2, 2]


def test_volumes_of_nifti_come_back(tmp_path: Path) -> None:
    headers = repeated(at(0, 10, 20))
    volume = images(9)
    formats.write(tmp_path / "x.nii.gz", volume, headers)
    found = formats.read(tmp_path / "x.nii.gz")
    formats.write(
        tmp_path / "y.nii.gz",
        np.stack([ifft2c(s.kspace)[0].numpy() for s in found]),
        [s.header for s in found],
    )
    one, other = (nibabel.load(tmp_path / name) for name in ("x.nii.gz", "y.nii.gz"))
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-4)
    np.testing.assert_allclose(one.get_fdata(), other.get_fdata(), atol=1e-4)
    assert [scan.header.repetition for scan in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_raw_data_tell_thickness_and_counters(tmp_path: Path) -> None:
    """Of a multi-echo scan with gaps between its slices, to DICOM and back."""
    rng = np.random.default_rng(0)
    place = {"read_dir": (1, 0, 0), "phase_dir": (0, 1, 0), "slice_dir": (0, 0, 1)}
    made = []
    for contrast, slice_, repetition in np.ndindex(2, 2, 2):
        values = (rng.normal(size=(1, 8, 12)) + 1j).astype(np.complex64)
        counters = {"contrast": contrast, "slice": slice_, "repetition": repetition}
        made += lines(values, position=(0, 0, 10 * slice_), **counters, **place)
    timing = "<sequenceParameters><TR>100</TR><TE>5</TE><TE>12</TE></sequenceParameters>"
    header = xml(space((12, 8, 1), view=(24.0, 16.0, 4.0), limits=(0, 7, 4)), more=timing)
    read = formats.read(write(tmp_path / "a.h5", made, header))
    headers = [scan.header for scan in read]
    assert [(one.contrast, one.repetition) for one in headers] == [
        (c, r) for c in range(2) for r in range(2) for _ in range(2)
    ]
    assert {one.thickness for one in headers} == {4.0}
    formats.write(tmp_path / "s.dcm", np.stack([ifft2c(s.kspace)[0].numpy() for s in read]), headers)
    for path, one in zip(sorted((tmp_path / "s.dcm").iterdir()), headers, strict=True):
        file = pydicom.dcmread(path)
        assert (file.SliceThickness, file.SpacingBetweenSlices) == (4, 10)
        assert (file.EchoTime, file.EchoNumbers) == (one.echo_time, one.contrast + 1)
