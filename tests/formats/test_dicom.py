"""DICOM out: judged by dciodvfy and dcmdump, and placed where NIfTI and dcm2niix place it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from noref import formats
from noref.data.files import files_of
from noref.errors import NorefError
from noref.formats import dicom, nifti
from noref.formats.png import WINDOW
from noref.physics import ifft2c
from noref.scan import Header


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def run(*words: object) -> str:
    done = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def oblique(*degrees: float, handed: int = 1) -> tuple[tuple[float, float, float], ...]:
    """Directions of x, y and slices, turned about all axes; the slices go on along or against x × y."""
    x, y, normal = (
        tuple(map(float, column)) for column in Rotation.from_euler("xyz", degrees, True).as_matrix().T
    )
    return x, y, tuple(handed * value for value in normal)


OBLIQUE = Header(
    spacing=(2.0, 1.25, 6.0),
    thickness=5.0,
    position=(10.0, -20.0, 35.0),
    directions=oblique(20, -35, 50),
    protocol="t2_tse\\tra é",
    repetition_time=4000.0,
    echo_time=101.5,
    flip_angle=150.0,
)
MARK = (1, 2, 7)
"""Slice, row and column of the brightest voxel."""


def marked(*shape: int) -> np.ndarray:
    """A complex volume whose brightest voxel is off all axes of symmetry."""
    rng = np.random.default_rng(0)
    volume = rng.random(shape) * np.exp(2j * np.pi * rng.random(shape))
    volume[MARK] = 20 + 0j
    return volume.astype(np.complex64)


def series(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def grey(file: pydicom.Dataset) -> np.ndarray:
    return file.pixel_array * float(file.RescaleSlope) + float(file.RescaleIntercept)


def place(file: pydicom.Dataset, row: int, column: int) -> np.ndarray:
    """PS3.3 C.7.6.2.1.1: patient coordinates of a pixel, LPS."""
    x, y = np.array(file.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, file.PixelSpacing)
    return np.array(file.ImagePositionPatient, float) + x * between_columns * column + y * between_rows * row


@needs("dciodvfy")
@needs("dcmdump")
@pytest.mark.filterwarnings("ignore:.*position and orientation in the patient are not known")
@pytest.mark.parametrize(
    "header",
    [
        Header(),
        OBLIQUE,
        replace(OBLIQUE, inversion_time=120.0, thickness=None, repetition_time=None, echo_time=None),
        Header(spacing=(1.0, 1.0, 3.0), position=(0.0, 0.0, 0.0), directions=oblique(0, 0, 0)),
    ],
    ids=["nothing known", "oblique", "inversion", "little known"],
)
@pytest.mark.parametrize("patient", [False, True])
def test_validators_find_no_error(tmp_path: Path, header: Header, patient: bool) -> None:
    given = dicom.patient_of(study(tmp_path / "of.dcm")) if patient else None
    dicom.write(tmp_path / "s.dcm", marked(3, 6, 9) * 1e-6, header, made="network istanet", patient=given)
    for file in sorted((tmp_path / "s.dcm").iterdir()):
        judged = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
        assert judged.returncode == 0
        assert "Error" not in judged.stdout + judged.stderr, judged.stderr
        assert "MRImage" in judged.stdout + judged.stderr
        dumped = run("dcmdump", file)
        assert "=MRImageStorage" in dumped
        assert "DERIVED\\SECONDARY\\OTHER" in dumped


def test_magnitudes_come_back_and_the_window_shows_them(tmp_path: Path) -> None:
    volume = marked(3, 6, 9) * 300
    dicom.write(tmp_path / "s.dcm", volume, OBLIQUE, made="network istanet trained by split")
    files = series(tmp_path / "s.dcm")
    magnitude = np.abs(volume)
    for file, image in zip(files, magnitude, strict=True):
        assert file.pixel_array.dtype == np.uint16
        np.testing.assert_allclose(grey(file), image, atol=magnitude.max() / 65535 * 0.51)
        assert float(file.WindowWidth) == pytest.approx(np.percentile(magnitude, WINDOW), rel=1e-6)
        assert float(file.WindowCenter) == pytest.approx(float(file.WindowWidth) / 2)
        assert "times" not in file.DerivationDescription
        assert file.SeriesDescription == "noref, network istanet trained by split"
        assert "network istanet trained by split" in file.DerivationDescription
        assert (file.RepetitionTime, file.EchoTime, file.FlipAngle) == (4000, 101.5, 150)
        assert (file.SliceThickness, file.SpacingBetweenSlices) == (5, 6)
        assert file.ProtocolName == "t2_tse/tra é"
    assert max(file.pixel_array.max() for file in files) == 65535
    assert [file.InstanceNumber for file in files] == [1, 2, 3]


@pytest.mark.parametrize(("size", "power"), [(1e-6, 7), (1e-3, 4), (1.0, 1), (4.99, 1), (5.01, 0), (1e4, 0)])
def test_small_units_become_larger_by_a_power_of_ten_that_is_told(
    tmp_path: Path, size: float, power: int
) -> None:
    volume = np.full((1, 4, 4), 20 * size)
    dicom.write(tmp_path / "s.dcm", volume, OBLIQUE)
    (file,) = series(tmp_path / "s.dcm")
    np.testing.assert_allclose(grey(file), 20 * size * 10**power, rtol=1e-6)
    assert (f"; magnitudes times 1e{power}" in file.DerivationDescription) == (power > 0)
    assert float(file.WindowWidth) >= 100


def test_an_empty_image_is_written(tmp_path: Path) -> None:
    dicom.write(tmp_path / "s.dcm", np.zeros((1, 4, 4)), OBLIQUE)
    assert not grey(series(tmp_path / "s.dcm")[0]).any()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    handed=st.sampled_from([1, -1]),
    position=st.tuples(*[st.floats(-300, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 9)] * 3),
    shape=st.tuples(st.integers(2, 4), st.integers(3, 8), st.integers(8, 11)),
)
def test_a_mark_lies_where_nifti_puts_it(
    tmp_path_factory: pytest.TempPathFactory,
    degrees: tuple[float, float, float],
    handed: int,
    position: tuple[float, float, float],
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
) -> None:
    folder = tmp_path_factory.mktemp("mark")
    header = Header(spacing=spacing, position=position, directions=oblique(*degrees, handed=handed))
    formats.write(folder / "s.dcm", marked(*shape), header)
    formats.write(folder / "v.nii", marked(*shape), header)
    volume = nibabel.load(folder / "v.nii")
    voxel = np.unravel_index(volume.get_fdata().argmax(), volume.shape)
    ras = volume.affine @ [*voxel, 1]
    files = series(folder / "s.dcm")
    brightest = max(range(shape[0]), key=lambda i: files[i].pixel_array.max())
    row, column = np.unravel_index(files[brightest].pixel_array.argmax(), shape[1:])
    assert (brightest, row, column) == MARK
    lps = place(files[brightest], int(row), int(column))
    np.testing.assert_allclose([-lps[0], -lps[1], lps[2]], ras[:3], atol=1e-3)
    # The centre of the first slice is where the header has it.
    first = place(files[0], 0, 0) + place(files[0], shape[1] - 1, shape[2] - 1)
    np.testing.assert_allclose(first / 2, position, atol=1e-6)


@needs("dcm2niix")
@pytest.mark.parametrize("handed", [1, -1])
def test_dcm2niix_puts_a_mark_where_noref_does(tmp_path: Path, handed: int) -> None:
    header = replace(OBLIQUE, directions=oblique(20, -35, 50, handed=handed))
    volume = marked(5, 16, 24)
    formats.write(tmp_path / "s.dcm", volume, header)
    formats.write(tmp_path / "noref.nii", volume, header)
    run("dcm2niix", "-f", "converted", "-o", tmp_path, tmp_path / "s.dcm")
    places = []
    for name in ("noref.nii", "converted.nii"):
        read = nibabel.load(tmp_path / name)
        voxel = np.unravel_index(read.get_fdata().argmax(), read.shape)
        places.append((read.affine @ [*voxel, 1])[:3])
    np.testing.assert_allclose(*places, atol=1e-2)


@needs("dcm2niix")
@pytest.mark.real_data
def test_a_real_series_keeps_its_place_and_values(real_data: Path, tmp_path: Path) -> None:
    """dcm2niix of the scanner's files, of noref's, and noref's own NIfTI show the same at the same place."""
    (folder,) = files_of(str(real_data / "prostate_dicom"))
    scans = formats.read(folder)
    images = np.stack([ifft2c(scan.kspace)[0].numpy() for scan in scans])
    headers = [scan.header for scan in scans]
    formats.write(tmp_path / "s.dcm", images, headers)
    formats.write(tmp_path / "noref.nii", images, headers)
    run("dcm2niix", "-f", "scanner", "-o", tmp_path, folder)
    run("dcm2niix", "-f", "written", "-o", tmp_path, tmp_path / "s.dcm")
    scanner = nibabel.load(tmp_path / "scanner.nii")
    voxels = np.random.default_rng(0).integers(1, np.array(scanner.shape) - 1, (3000, 3))
    expected = scanner.get_fdata()[tuple(voxels.T)]
    for name in ("noref.nii", "written.nii"):
        made = nibabel.load(tmp_path / name)
        there = np.linalg.inv(made.affine) @ scanner.affine @ np.c_[voxels, np.ones(len(voxels))].T
        values = map_coordinates(made.get_fdata(), there[:3], order=1)
        np.testing.assert_allclose(values, expected, atol=1e-4 * expected.max())


def test_every_slice_lies_where_its_own_header_says(tmp_path: Path) -> None:
    headers = [replace(OBLIQUE, position=(0.0, 0.0, z)) for z in (0.0, 5.0, 30.0)]
    formats.write(tmp_path / "s.dcm", marked(3, 6, 9), headers)
    read = [scan.header.position for scan in formats.read(tmp_path / "s.dcm")]
    np.testing.assert_allclose(sorted(read), sorted(header.position for header in headers), atol=1e-9)
    with pytest.warns(UserWarning, match="not evenly spaced"):
        formats.write(tmp_path / "v.nii", marked(3, 6, 9), headers)
    # Evenly spaced in another way than the header's spacing says: positions are believed.
    even = [replace(OBLIQUE, position=(0.0, 0.0, z)) for z in (0.0, 7.5, 15.0)]
    affine = nifti.affine_of(even, (3, 6, 9))
    np.testing.assert_allclose(affine[:3, 2], [0, 0, 7.5], atol=1e-9)


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    volume = marked(3, 6, 9) * 100
    formats.write(tmp_path / "s.dcm", volume, OBLIQUE)
    read = formats.read(tmp_path / "s.dcm")
    assert read.ids == ("s/s/000", "s/s/001", "s/s/002")
    position = np.array(OBLIQUE.position)
    for index, scan in enumerate(read):
        assert not scan.raw
        header = replace(scan.header, position=None, directions=None, protocol=OBLIQUE.protocol, spacing=None)
        assert header == replace(OBLIQUE, position=None, directions=None, spacing=None)
        np.testing.assert_allclose(scan.header.spacing, OBLIQUE.spacing)
        np.testing.assert_allclose(scan.header.directions, OBLIQUE.directions, atol=1e-9)
        there = position + index * 6.0 * np.array(OBLIQUE.directions[2])
        np.testing.assert_allclose(scan.header.position, there, atol=1e-9)


def test_uids_are_new_and_shared_as_they_have_to_be(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        dicom.write(tmp_path / name, marked(3, 6, 9), OBLIQUE)
    a, b = series(tmp_path / "a.dcm"), series(tmp_path / "b.dcm")
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({file[name].value for file in a}) == 1
        assert a[0][name].value != b[0][name].value
    instances = [file.SOPInstanceUID for file in (*a, *b)]
    assert len(set(instances)) == 6
    assert all(uid.is_valid for uid in instances)


def study(path: Path, **changed: str) -> Path:
    """A file of a patient's study, in Latin-1, with a date that the standard does not allow."""
    file = pydicom.Dataset()
    file.SpecificCharacterSet = "ISO_IR 100"
    file.PatientName, file.PatientID, file.PatientSex = "Grün^Änne", "4711", "F"
    file.StudyInstanceUID, file.FrameOfReferenceUID = "1.2.3.4", "1.2.3.5"
    file.SeriesInstanceUID, file.SOPInstanceUID = "1.2.3.6", "1.2.3.7"
    file.StudyDate, file.StudyDescription, file.AccessionNumber = "20200102", "Knie", "A1"
    file.OperatorsName, file.InstitutionName, file.PatientAddress = "Op", "Here", "There"
    file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    with pydicom.config.disable_value_validation():
        file.PatientBirthDate = "00000000"
    for name, value in changed.items():
        setattr(file, name, value)
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.save_as(path, enforce_file_format=True)
    return path


def test_nobody_is_named_unless_told_to(tmp_path: Path) -> None:
    dicom.write(tmp_path / "a.dcm", marked(2, 6, 9), OBLIQUE)
    for file in series(tmp_path / "a.dcm"):
        for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber"):
            assert not file[name].value
    dicom.write(
        tmp_path / "b.dcm", marked(2, 6, 9), OBLIQUE, patient=dicom.patient_of(study(tmp_path / "of.dcm"))
    )
    for file in series(tmp_path / "b.dcm"):
        assert str(file.PatientName) == "Grün^Änne"
        assert (file.PatientID, file.StudyInstanceUID, file.FrameOfReferenceUID) == (
            "4711",
            "1.2.3.4",
            "1.2.3.5",
        )
        assert file.SeriesInstanceUID not in ("1.2.3.6", "")
        assert not file.PatientBirthDate
        assert not {"OperatorsName", "InstitutionName", "PatientAddress"} & set(file.dir())


def test_a_place_that_is_not_known_is_not_claimed(tmp_path: Path) -> None:
    patient = dicom.patient_of(study(tmp_path / "of.dcm"))
    for name, header in (("a.dcm", Header()), ("b.dcm", Header(spacing=(2.0, 1.0, 5.0)))):
        with pytest.warns(
            UserWarning, match=f"{name}: position and orientation in the patient are not known"
        ):
            dicom.write(tmp_path / name, marked(2, 6, 9), header, patient=patient)
        files = series(tmp_path / name)
        assert all("not known" in file.ImageComments for file in files)
        # In coordinates of their own, which no other series shares.
        assert len({file.FrameOfReferenceUID for file in files} - {"1.2.3.5"}) == 1
    assert files[1].PixelSpacing == [2, 1]
    np.testing.assert_allclose(place(files[1], 0, 0) - place(files[0], 0, 0), [0, 0, 5])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: path, "not found"),
        (lambda path: path.write_text("a letter"), "no DICOM file"),
        (lambda path: study(path, StudyInstanceUID=""), "belongs to no study"),
        (lambda path: path.write_bytes(study(path).read_bytes()[:200]), "belongs to no study"),
    ],
    ids=["missing", "text", "no study", "cut"],
)
def test_a_patient_has_to_be_readable(tmp_path: Path, make, complaint: str) -> None:
    make(tmp_path / "of.dcm")
    with pytest.raises(NorefError, match=complaint) as caught:
        dicom.patient_of(tmp_path / "of.dcm")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = marked(2, 6, 9)
    skewed = replace(OBLIQUE, directions=((1.0, 0.0, 0.0), (0.1, 0.995, 0.0), (0.0, 0.0, 1.0)))
    with pytest.raises(NorefError, match="not perpendicular"):
        dicom.write(tmp_path / "a.dcm", volume, skewed)
    with pytest.raises(NorefError, match="NaN or infinity"):
        dicom.write(tmp_path / "a.dcm", volume * np.nan, OBLIQUE)
    with pytest.raises(NorefError, match="1 headers for 2 slices"):
        formats.write(tmp_path / "a.dcm", volume, [OBLIQUE])
    saved: list[Path] = []

    def fails_at_the_second(path: Path, *_: object, **__: object) -> None:
        saved.append(path)
        path.write_bytes(b"half")
        if len(saved) == 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pydicom, "dcmwrite", fails_at_the_second)
        with pytest.raises(NorefError, match=r"a\.dcm: cannot be written \(No space left on device\)"):
            dicom.write(tmp_path / "a.dcm", volume, OBLIQUE)
    assert list(tmp_path.iterdir()) == []
    dicom.write(tmp_path / "a.dcm", volume, OBLIQUE)
    before = [path.read_bytes() for path in sorted((tmp_path / "a.dcm").iterdir())]
    with pytest.raises(NorefError, match=r"a\.dcm: already holds files"):
        dicom.write(tmp_path / "a.dcm", volume, OBLIQUE)
    assert [path.read_bytes() for path in sorted((tmp_path / "a.dcm").iterdir())] == before
