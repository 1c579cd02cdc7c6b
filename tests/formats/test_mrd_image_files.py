"""Images of MRD files: those that noref writes, and those that the format's own package does."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from noref import formats
from noref.errors import NorefError
from noref.formats.geometry import headers_of
from noref.formats.mrd_image_files import holds_images, read_images
from noref.scan import Header

with warnings.catch_warnings():
    import ismrmrd

CORONAL = Header(
    spacing=(2.0, 1.0, 5.0),
    position=(10.0, -20.0, 30.0),
    directions=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
)


def images(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("header", [CORONAL, Header(spacing=(2.0, 1.0, 5.0)), Header()])
def test_what_is_written_is_read(tmp_path: Path, header: Header) -> None:
    volume = images(3, 6, 4)
    formats.write(tmp_path / "x.mrd", volume, header)
    assert holds_images(tmp_path / "x.mrd")
    read = read_images(tmp_path / "x.mrd")
    for (values, told), image, expected in zip(read, volume, headers_of(header, 3), strict=True):
        np.testing.assert_allclose(values, np.abs(image), rtol=1e-6)
        assert told.spacing == expected.spacing
        assert told.directions == expected.directions
        assert told.position == (pytest.approx(expected.position) if expected.position else None)


def test_images_of_the_formats_own_package(tmp_path: Path) -> None:
    """Two channels of integers, in a series of another name."""
    values = np.random.default_rng(1).integers(0, 100, (2, 1, 6, 4)).astype(np.uint16)
    made = ismrmrd.Image.from_array(values, transpose=False)
    made.field_of_view[:] = (8.0, 12.0, 5.0)
    made.position[:] = (1.0, 2.0, 3.0)
    made.read_dir[:], made.phase_dir[:], made.slice_dir[:] = np.eye(3)
    with ismrmrd.Dataset(str(tmp_path / "x.h5"), "scanner", mode="a") as file:
        file.append_image("magnitude", made)
    ((image, header),) = read_images(tmp_path / "x.h5")
    np.testing.assert_allclose(image, np.linalg.norm(values[:, 0].astype(float), axis=0), rtol=1e-6)
    assert header.spacing == (2.0, 2.0, 5.0)
    assert header.position == (1.0, 2.0, 3.0)


def test_other_files_hold_none(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((4, 4)))
    assert not holds_images(tmp_path / "x.npy")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = np.ones(3)
    assert not holds_images(tmp_path / "x.h5")


def test_volumes_and_damaged_files_are_refused(tmp_path: Path) -> None:
    formats.write(tmp_path / "x.mrd", images(2, 6, 4), CORONAL)
    with h5py.File(tmp_path / "x.mrd", "a") as file:
        data = file["dataset/image_0/data"][()]
        del file["dataset/image_0/data"]
        file["dataset/image_0/data"] = data.repeat(2, 2)
    with pytest.raises(NorefError, match="image_0 holds no single slices"):
        read_images(tmp_path / "x.mrd")
    content = (tmp_path / "x.mrd").read_bytes()
    (tmp_path / "y.mrd").write_bytes(content[: len(content) // 2])
    with pytest.raises(NorefError, match="damaged or incomplete"):
        holds_images(tmp_path / "y.mrd")
