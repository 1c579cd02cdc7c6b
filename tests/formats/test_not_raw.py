"""What made an image, and that its k-space was not raw, goes into every file that can say so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from noref import formats
from noref.formats import bart
from noref.scan import Header

MADE = "network istanet trained by split, not raw"
IMAGES = np.arange(1, 49, dtype=np.complex64).reshape(2, 6, 4)
PLACED = Header(
    spacing=(2.0, 3.0, 5.0),
    position=(10.0, 20.0, 30.0),
    directions=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    protocol="a protocol with a name that is so long that NIfTI has no room for all of it",
)


def of_hdf5(path: Path) -> list[str]:
    with h5py.File(path) as file:
        return [file.attrs["reconstructed_by"]]


def of_mrd(path: Path) -> list[str]:
    ismrmrd = pytest.importorskip("ismrmrd")
    with ismrmrd.Dataset(str(path), mode="r") as file:
        found = [file.read_image("image_0", number).meta for number in range(2)]
    assert all(meta["ImageProcessingHistory"] == ["noref", MADE] for meta in found)
    return [meta["ImageComment"] for meta in found]


def of_mrd2(path: Path) -> list[str]:
    mrd = pytest.importorskip("mrd")
    with path.open("rb") as file, mrd.BinaryMrdReader(file) as reader:
        reader.read_header()
        return [item.value.meta["ImageComment"][0].value for item in reader.read_data()]


def of_cfl(path: Path) -> list[str]:
    lines = path.with_suffix(".hdr").read_text().splitlines()
    return [lines[lines.index("# Command") + 1].removeprefix("noref: ")]


def of_png(path: Path) -> list[str]:
    with Image.open(path) as picture:
        return [picture.info["Description"]]


def of_nifti(path: Path) -> list[str]:
    text = bytes(nibabel.load(path).header["descrip"]).rstrip(b"\0").decode()
    return [text[: len(MADE)]]


def of_dicom(path: Path) -> list[str]:
    files = [pydicom.dcmread(one) for one in sorted(path.iterdir())]
    assert all(MADE in file.DerivationDescription for file in files)
    return [file.SeriesDescription.removeprefix("noref, ") for file in files]


TELL = {
    ".h5": of_hdf5,
    ".mrd": of_mrd,
    ".mrd.h5": of_mrd,
    ".mrd2": of_mrd2,
    ".cfl": of_cfl,
    ".png": of_png,
    ".nii": of_nifti,
    ".nii.gz": of_nifti,
    ".dcm": of_dicom,
}


def test_all_formats_but_arrays_are_looked_at() -> None:
    assert {*TELL, ".npy"} == {*formats.SUFFIXES, ".mrd.h5"}


@pytest.mark.parametrize("suffix", TELL)
def test_files_say_what_made_them(suffix: str, tmp_path: Path) -> None:
    formats.write(tmp_path / f"x{suffix}", IMAGES, PLACED, made=MADE)
    assert set(TELL[suffix](tmp_path / f"x{suffix}")) == {MADE}


def test_bart_reads_what_says_what_made_it(tmp_path: Path) -> None:
    formats.write(tmp_path / "x.cfl", IMAGES, made=f"{MADE}\n# Dimensions\n1 2 3")
    np.testing.assert_array_equal(bart.read_cfl(tmp_path / "x.cfl").squeeze().transpose(2, 1, 0), IMAGES)
    if shutil.which("bart") is None:
        pytest.skip("bart is not installed")
    told = subprocess.run(
        ["bart", "show", "-m", "x"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    dimensions = next(line for line in told.stdout.splitlines() if line.startswith("AoD:"))
    assert dimensions.split()[1:5] == ["4", "6", "1", "1"]
    subprocess.run(["bart", "scale", "2", "x", "y"], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_array_equal(bart.read_cfl(tmp_path / "y.cfl").squeeze().transpose(2, 1, 0), 2 * IMAGES)
