"""Images out: geometry as nibabel understands it, pictures, and the choice by suffix."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from noref import formats
from noref.errors import NorefError
from noref.formats import bart, nifti, png
from noref.scan import Header


def images(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


# A coronal volume: rows run to the feet (−S), columns to the left (L), slices to the back (P).
CORONAL = Header(
    spacing=(2.0, 1.0, 5.0),
    position=(10.0, -20.0, 30.0),
    directions=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
    protocol="T1",
)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_knows_where_the_patient_is(tmp_path: Path, suffix: str) -> None:
    volume = images(3, 5, 4)
    nifti.write(tmp_path / f"x{suffix}", volume, CORONAL)
    read = nibabel.load(tmp_path / f"x{suffix}")
    assert nibabel.aff2axcodes(read.affine) == ("L", "I", "P")
    np.testing.assert_array_equal(read.get_fdata(dtype=np.float32), np.abs(volume).transpose(2, 1, 0))
    # The centre of the first slice, in RAS, is where the header (LPS) puts it.
    np.testing.assert_allclose(read.affine @ [1.5, 2, 0, 1], [-10, 20, 30, 1])
    np.testing.assert_allclose(read.affine @ [1.5, 2, 2, 1], [-10, 20 - 10, 30, 1])
    assert read.header.get_zooms() == (1, 2, 5)
    assert read.header.get_xyzt_units()[0] == "mm"
    assert int(read.header["sform_code"]) == int(read.header["qform_code"]) == 1
    np.testing.assert_allclose(read.get_qform(), read.affine, atol=1e-5)


def test_nifti_claims_no_place_that_is_not_known(tmp_path: Path) -> None:
    nifti.write(tmp_path / "x.nii", images(3, 5, 4), Header(spacing=(2.0, 1.0, 5.0)))
    nifti.write(tmp_path / "y.nii", images(3, 5, 4))
    for name, zooms in (("x.nii", (1, 2, 5)), ("y.nii", (1, 1, 1))):
        header = nibabel.load(tmp_path / name).header
        assert header.get_zooms() == zooms
        assert int(header["sform_code"]) == int(header["qform_code"]) == 0


def test_nifti_keeps_the_phase_if_told_to(tmp_path: Path) -> None:
    volume = images(3, 5, 4)
    nifti.write(tmp_path / "x.nii", volume, CORONAL, magnitude=False)
    read = np.asanyarray(nibabel.load(tmp_path / "x.nii").dataobj)
    np.testing.assert_array_equal(read, volume.transpose(2, 1, 0))


def test_pictures_are_windowed_at_the_percentile(tmp_path: Path) -> None:
    volume = np.arange(1000, dtype=float).reshape(10, 10, 10)
    picture = png.grey(volume)
    assert picture[-1, -1, -4:].tolist() == [255] * 4
    assert picture[5, 0, 0] == round(500 / np.percentile(volume, 99.5) * 255)
    assert png.grey(np.zeros((1, 2, 2))).max() == 0
    assert png.grey(np.eye(100)).max() == 255  # fewer bright pixels than the percentile leaves out
    png.write_each(tmp_path / "all", volume)
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == [f"{i:03d}.png" for i in range(10)]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "all" / "007.png")), picture[7])


@pytest.mark.parametrize(
    ("slices", "shape"), [(1, (2, 3)), (2, (2, 6)), (3, (4, 6)), (4, (4, 6)), (5, (4, 9))]
)
def test_sheets_are_nearly_square_and_read_row_by_row(slices: int, shape: tuple[int, int]) -> None:
    cells = np.arange(1, slices + 1, dtype=np.uint8)[:, None, None] * np.ones((2, 3), np.uint8)
    sheet = png.sheet(cells)
    assert sheet.shape == shape
    in_order = sheet[::2, ::3].ravel()
    assert in_order[:slices].tolist() == list(range(1, slices + 1))
    assert not in_order[slices:].any()


def test_write_chooses_by_suffix(tmp_path: Path) -> None:
    volume = torch.from_numpy(images(2, 5, 4))
    for suffix in formats.SUFFIXES:
        formats.write(tmp_path / "new" / f"x{suffix}", volume, CORONAL)
    folder = tmp_path / "new"
    assert sorted(p.name for p in folder.iterdir()) == sorted([*(f"x{s}" for s in formats.SUFFIXES), "x.hdr"])
    np.testing.assert_array_equal(np.load(folder / "x.npy"), volume.numpy())
    cfl = bart.read_cfl(folder / "x.cfl")
    assert cfl.shape[:3] == (4, 5, 1)
    assert cfl.shape[bart.SLICE] == 2
    np.testing.assert_array_equal(cfl.reshape(4, 5, 2).transpose(2, 1, 0), volume.numpy())
    with Image.open(folder / "x.png") as picture:
        assert picture.size == (8, 5)
    with h5py.File(folder / "x.h5") as file:
        assert file["reconstruction"].shape == (2, 4, 5)
    formats.write(tmp_path / "one.npy", volume[0].conj())
    np.testing.assert_array_equal(np.load(tmp_path / "one.npy")[0], volume[0].numpy().conj())


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(NorefError, match=r"noref writes images as \.h5"):
        formats.write(tmp_path / "x.jpg", images(2, 5, 4))
    with pytest.raises(NorefError, match=r"expected \(slices, y, x\)"):
        formats.write(tmp_path / "x.npy", images(2, 2, 5, 4))
    (tmp_path / "taken.npy").mkdir()
    with pytest.raises(NorefError, match=r"taken\.npy: cannot be written"):
        formats.write(tmp_path / "taken.npy", images(2, 5, 4))
    assert [p.name for p in tmp_path.iterdir()] == ["taken.npy"]
