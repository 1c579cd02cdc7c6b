"""DICOM, NIfTI and CMRxRecon by command: in, out, prepared, trained on, and refused in one line."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from command import TINY, done, refused, tree

import noref
from noref.errors import NorefError
from noref.formats import mrd_writing
from noref.scan import Header

HEADER = Header(
    spacing=(4.0, 5.0, 6.0),
    thickness=5.0,
    position=(10.0, -20.0, 30.0),
    directions=((1.0, 0.0, 0.0), (0.0, 0.8, -0.6), (0.0, 0.6, 0.8)),
    protocol="t2 tse",
    repetition_time=3000.0,
    echo_time=80.0,
)


def images(seed: int, slices: int = 2) -> np.ndarray:
    """Discs of different grey in noise, `(slices, 48, 48)`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    made = [(y**2 + (x - 0.1 * i) ** 2 < 0.6) * (300.0 + 100 * rng.random()) for i in range(slices)]
    return np.stack(made) + rng.random((slices, 48, 48))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A DICOM series of two slices."""
    noref.write(tmp_path / "in" / "knee.dcm", images(0), HEADER)
    return tmp_path / "in" / "knee.dcm"


def values(folder: Path) -> np.ndarray:
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return np.stack([file.pixel_array * float(file.RescaleSlope) for file in files])


def test_images_are_described(series: Path, tmp_path: Path) -> None:
    noref.write(tmp_path / "in" / "knee.nii.gz", images(0), HEADER)
    for path, name in (
        (series, "DICOM"),
        (series / "0001.dcm", "DICOM"),
        (tmp_path / "in" / "knee.nii.gz", "NIfTI"),
    ):
        told = done("inspect", path, "--picture", tmp_path / "p.png").out
        assert f"  format: {name}\n" in told
        assert "  raw: no, made from images\n" in told
        assert "  matrix: 48 × 48 (ky × kx)\n" in told
        assert "spacing 4 × 5 × 6 mm, placed in the scanner" in told
    assert "TR 3000 ms, TE 80 ms, protocol t2 tse" in done("inspect", series).out
    assert done("inspect", series, "--domain", "image").out == done("inspect", series).out


def test_a_series_is_reconstructed_to_where_it_was(series: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("again.dcm", "again.nii.gz", "again.npy"):
        told = done("reconstruct", "zero-filled", series, "-o", out / name)
        assert told.out == f"{out / name}\n"
        assert ("made of what is not raw, which .npy cannot say" in told.err) == (name == "again.npy")
    np.testing.assert_allclose(values(out / "again.dcm"), images(0), atol=0.05)
    before, after = (pydicom.dcmread(folder / "0002.dcm") for folder in (series, out / "again.dcm"))
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices"):
        np.testing.assert_allclose(np.array(after[name].value), np.array(before[name].value), atol=1e-9)
    assert (after.SliceThickness, after.RepetitionTime, after.EchoTime) == (5, 3000, 80)
    assert after.ProtocolName == "t2 tse"
    assert after.SeriesDescription == "noref, zero-filled, not raw"
    volume = nibabel.load(out / "again.nii.gz")
    np.testing.assert_allclose(
        volume.get_fdata().transpose(2, 1, 0), np.abs(np.load(out / "again.npy")), rtol=1e-5
    )
    lps = volume.affine @ [0, 0, 1, 1] * [-1, -1, 1, 1]
    np.testing.assert_allclose(lps[:3], np.array(after.ImagePositionPatient, float), atol=1e-4)
    assert "not raw" in bytes(volume.header["descrip"]).decode()


def test_a_place_that_was_made_up_is_none_when_read(tmp_path: Path) -> None:
    """What `reconstruct` warns of, as DICOM cannot be without a place, is told again by the file."""
    volume = np.arange(3.0)[:, None, None] + images(0)[:1]
    np.save(tmp_path / "stack.npy", volume)
    named = [tmp_path / "stack.npy", "axes=slice,y,x", "domain=image"]
    for name in ("a.dcm", "a.npy"):
        told = done("reconstruct", "zero-filled", *named, "-o", tmp_path / name)
    assert "made up" in done("reconstruct", "zero-filled", *named, "-o", tmp_path / "b.dcm").err
    told = done("inspect", tmp_path / "a.dcm")
    assert "format: DICOM" in told.out
    assert "placed in the scanner" not in told.out
    assert all(scan.header.position is None for scan in noref.read(tmp_path / "a.dcm"))
    np.testing.assert_allclose(values(tmp_path / "a.dcm"), np.abs(np.load(tmp_path / "a.npy")), atol=0.05)
    # Nor does it become one by being written again.
    done("reconstruct", "zero-filled", tmp_path / "a.dcm", "-o", tmp_path / "again.nii.gz")
    assert nibabel.load(tmp_path / "again.nii.gz").header["sform_code"] == 0
    assert "made up" in done("reconstruct", "zero-filled", tmp_path / "a.dcm", "-o", tmp_path / "c.dcm").err


def test_a_model_learns_from_images_and_writes_dicom(run: Path, undersampled: Path, tmp_path: Path) -> None:
    for number in range(3):
        noref.write(tmp_path / "scans" / f"s{number}.dcm", images(number), HEADER)
    sampling = ["mask=random2d", "acceleration=2", "acs=12"]
    model = tmp_path / "model"
    target = [f"data.target.{one}" for one in (f"path={tmp_path / 'scans'}", *sampling)]
    done("train", "ssdu", *target, f"output={model}", *TINY)
    card = (model / "model" / "README.md").read_text()
    assert "- target: 6 slices (1 coils, 48×48); not raw, made from images or simulated; they carry" in card
    told = done(
        "reconstruct", model, tmp_path / "scans", *sampling, "-o", tmp_path / "out", "--suffix", ".dcm"
    )
    outputs = [tmp_path / "out" / f"s{number}.dcm" for number in range(3)]
    assert told.out.splitlines() == [str(path) for path in outputs]
    file = pydicom.dcmread(outputs[0] / "0001.dcm")
    assert "network istanet trained by split, not raw" in file.DerivationDescription
    assert file.SeriesDescription == "noref, network istanet trained by split, not raw"
    # Raw scans say nothing of the kind, and simulated ones, which have a place, are put there.
    done("reconstruct", run, undersampled / "brain-0001.h5", "-o", tmp_path / "brain.dcm")
    position = noref.read(undersampled / "brain-0001.h5")[0].header.position
    read = noref.read(tmp_path / "brain.dcm")[0].header.position
    np.testing.assert_allclose(read, position, atol=1e-6)


def test_prepared_images_keep_their_headers(series: Path, tmp_path: Path) -> None:
    settings = ["mask=lines", "acceleration=2", "acs=12"]
    done("prepare", series, *settings, "-o", tmp_path / "store")
    assert "not raw, made from images or simulated" in done("inspect", tmp_path / "store").out
    stored = noref.data.store.Store(tmp_path / "store")
    assert [scan.header for scan in stored] == [scan.header for scan in noref.read(series)]
    assert not any(scan.raw for scan in stored)


def test_raw_scans_and_images_in_one_store_are_told_apart(undersampled: Path, tmp_path: Path) -> None:
    (raw,) = noref.read(min(undersampled.glob("*.h5")))[:1]
    mrd_writing.write(tmp_path / "raw.h5", [raw])
    noref.write(tmp_path / "head.nii.gz", images(3), HEADER)
    told = done(
        "prepare", tmp_path / "raw.h5", tmp_path / "head.nii.gz", "holdout=0", "-o", tmp_path / "store"
    )
    said = "2 of 3 slices not raw, made from images or simulated"
    assert said in told.err
    assert said in done("inspect", tmp_path / "store").out


def test_volumes_of_a_file_are_counted(tmp_path: Path) -> None:
    headers = [replace(HEADER, repetition=r) for r in range(3) for _ in range(2)]
    for index, header in enumerate(headers):
        headers[index] = replace(header, position=(10.0, -20.0, 6.0 * (index % 2)))
    noref.write(tmp_path / "x.nii.gz", images(0, 6), headers)
    told = done("inspect", tmp_path / "x.nii.gz").out
    assert "  slices: 6, in 3 volumes; what follows is about x/x.1/001\n" in told
    noref.write(tmp_path / "y.nii.gz", images(0, 2), HEADER)
    assert "  slices: 2; what follows is about y/y/001\n" in done("inspect", tmp_path / "y.nii.gz").out


def test_dicom_belongs_to_nobody_unless_told_to_whom(series: Path, tmp_path: Path) -> None:
    of = pydicom.dcmread(series / "0001.dcm")
    of.PatientName, of.PatientID, of.StudyInstanceUID = "Known^Well", "4711", "1.2.3.4"
    of.save_as(tmp_path / "of.dcm")
    of.save_as(series / "0001.dcm")
    done("reconstruct", "zero-filled", series / "0001.dcm", "-o", tmp_path / "nobody.dcm")
    done("reconstruct", "zero-filled", series, "-o", tmp_path / "known.dcm", "--patient", tmp_path / "of.dcm")
    nobody, known = (pydicom.dcmread(tmp_path / name / "0001.dcm") for name in ("nobody.dcm", "known.dcm"))
    assert "Known" not in str(nobody)
    assert "4711" not in str(nobody)
    assert nobody.StudyInstanceUID != "1.2.3.4"
    assert (known.PatientName, known.PatientID, known.StudyInstanceUID) == ("Known^Well", "4711", "1.2.3.4")


def test_written_dicom_is_valid(undersampled: Path, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    done("reconstruct", "cg-sense", undersampled, "-o", tmp_path, "--suffix", ".dcm")
    files = sorted(tmp_path.glob("*/*.dcm"))
    assert len(files) == 6
    for path in files:
        judged = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=True)
        assert "Error" not in judged.stdout + judged.stderr


def test_series_are_not_written_over(series: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in series.iterdir()}
    other = tmp_path / "other.nii"
    noref.write(other, images(1), HEADER)
    for output, complaint in (
        (["-o", series], "already holds files; name a new folder"),
        (["-o", series.parent, "--suffix", ".dcm"], "already holds files; name a new folder"),
    ):
        shutil.copy(other, tmp_path / "knee.nii")
        assert complaint in refused("reconstruct", "zero-filled", tmp_path / "knee.nii", *output)
    assert "is an input" in refused("reconstruct", "zero-filled", series, "-o", series)
    assert {path: path.read_bytes() for path in series.iterdir()} == before
    (tmp_path / "new.dcm").mkdir()
    done("reconstruct", "zero-filled", other, "-o", tmp_path / "new.dcm")
    assert tree(tmp_path / "new.dcm") == ["0001.dcm", "0002.dcm"]


def test_bad_clinical_files_are_refused_in_one_line(series: Path, tmp_path: Path) -> None:
    out, of = tmp_path / "out", series / "0001.dcm"
    before = tree(tmp_path)

    def told(*arguments: str | Path) -> str:
        line = refused("reconstruct", "zero-filled", *arguments)
        assert tree(tmp_path) == before
        return line

    assert "--patient: only DICOM belongs to one; write .dcm" in told(series, "-o", out, "--patient", of)
    missing = tmp_path / "no.dcm"
    assert f"{missing}: not found" in told(series, "-o", tmp_path / "x.dcm", "--patient", missing)
    assert "leave out axes, key and mask_key" in told(series, "axes=slice,y,x", "-o", out)
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)
    assert "empty: no scans there" in told(tmp_path / "empty", "-o", out)
    assert "empty: no scans there" in refused("inspect", tmp_path / "empty")
    with pytest.raises(NorefError, match="empty: is a folder without DICOM images"):
        noref.read(tmp_path / "empty")
    (series / "0002.dcm").write_bytes((series / "0002.dcm").read_bytes()[:-1000])
    assert "0002.dcm: damaged or incomplete" in told(series, "-o", tmp_path / "x.dcm")
    ct = pydicom.dcmread(of)
    ct.SOPClassUID = ct.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    ct.save_as(of)
    assert "0001.dcm: is CT Image Storage, not an MR image" in told(series, "-o", tmp_path / "x.dcm")
    assert "not an MR image" in refused("inspect", series)
    (tmp_path / "cut.nii.gz").write_bytes(b"\x1f\x8b\x08" + bytes(40))
    before = tree(tmp_path)
    assert "cut.nii.gz: damaged or incomplete" in told(tmp_path / "cut.nii.gz", "-o", out)


def test_cmrxrecon_by_command(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:40j, -1:1:48j]
    image = (y**2 + x**2 < 0.5) * np.exp(-((y - np.arange(3)[:, None, None] + 1) ** 2))
    coils = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=(-2, -1))), axes=(-2, -1))
    stack = coils * (1 + 0.1 * np.arange(4))[:, None, None, None, None]  # (nt, 1, nc, ny, nx)
    stack = stack + 0.1 * (rng.normal(size=stack.shape) + 1j * rng.normal(size=stack.shape))
    mask = np.zeros((40, 48))
    mask[::3] = 1
    mask[12:28] = 1

    def save(path: Path, name: str, array: np.ndarray) -> None:
        with h5py.File(path, "w", userblock_size=512) as file:
            if np.iscomplexobj(array):
                pairs = np.empty(array.shape, [("real", "f4"), ("imag", "f4")])
                pairs["real"], pairs["imag"] = array.real, array.imag
                array = pairs
            file[name] = array
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))

    (tmp_path / "P001").mkdir()
    save(tmp_path / "P001" / "cine_sax.mat", "kspace_sub03", stack * mask)
    save(tmp_path / "P001" / "cine_sax_mask.mat", "mask03", mask)
    told = done("inspect", tmp_path / "P001" / "cine_sax.mat").out
    assert "format: CMRxRecon, MATLAB v7.3, 1 slices of 4 frames, mask cine_sax_mask.mat (R = 3.00" in told
    assert "  coils: 3\n" in told
    assert "sampling: lines, R = 1.67, ACS 16 lines" in told
    assert "  raw: yes\n" in told
    done("reconstruct", "cg-sense", tmp_path / "P001", "-o", tmp_path / "out", "--suffix", ".npy")
    assert tree(tmp_path / "out") == ["cine_sax.npy"]
    made = np.abs(np.load(tmp_path / "out" / "cine_sax.npy"))
    assert made.shape == (4, 40, 48)
    # Frames grow brighter by a tenth each.
    np.testing.assert_allclose(made.mean((1, 2)) / made[0].mean(), 1 + 0.1 * np.arange(4), rtol=0.02)
    (tmp_path / "P001" / "cine_sax_mask.mat").write_bytes(b"half")
    assert "cine_sax_mask.mat: damaged" in refused("inspect", tmp_path / "P001" / "cine_sax.mat")
