"""The scanner's image: found by where it lies or by its order, and refused where it is another's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judging import truth
from numpy.typing import NDArray
from scipy import ndimage
from synthetic import scan

from noref import formats
from noref.acceptance.vendor import VendorImage, agreement, assigned, counterpart, read_vendor
from noref.errors import NorefError
from noref.formats.geometry import headers_of
from noref.scan import Header, Scan

SHAPE = (64, 48)
CORONAL = Header(
    spacing=(2.0, 1.5, 5.0),
    position=(10.0, -20.0, 30.0),
    directions=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
)


def at(header: Header) -> Scan:
    """A slice that lies there."""
    return replace(scan(SHAPE, 1), id="scan", header=header)


def volume(slices: int = 3, shape: tuple[int, int] = SHAPE) -> NDArray[np.float32]:
    """Magnitudes, every slice another object."""
    images = np.stack([truth(seed, shape)[0].abs().numpy() for seed in range(slices)])
    return np.asarray(ndimage.gaussian_filter(images, (0, 1, 1)), np.float32)


@pytest.mark.parametrize("name", ["v.dcm", "v.nii.gz", "v.mrd"])
def test_images_of_every_format_are_found_where_they_lie(tmp_path: Path, name: str) -> None:
    images, headers = volume(), headers_of(CORONAL, 3)
    formats.write(tmp_path / name, images, headers)
    read = read_vendor(tmp_path / name)
    assert len(read) == 3
    for index, (image, header) in enumerate(zip(images, headers, strict=True)):
        # The order of the scanner's images does not matter.
        found = counterpart(read[::-1], (index, 3), at(header))
        alike = agreement(image, found, "scan")
        assert alike.correlation == pytest.approx(1, abs=1e-3)
        assert alike.ssim == pytest.approx(1, abs=1e-3)


def test_planes_that_cross_and_echoes_are_told_apart() -> None:
    images = volume(4)
    along_x, along_y, normal = CORONAL.directions or ()
    axial = replace(CORONAL, directions=(along_x, normal, along_y))
    later = replace(CORONAL, contrast=1)
    headers = [axial, later, CORONAL, replace(axial, contrast=1)]
    there = [VendorImage(one, header) for one, header in zip(images, headers, strict=True)]
    for index, header in enumerate(headers):
        found = counterpart(there, (index, 4), at(header))
        np.testing.assert_allclose(found, images[index], atol=1e-5)


def test_an_image_on_a_finer_grid_is_resampled() -> None:
    (image,) = volume(1)
    finer = ndimage.zoom(image, 2, order=1, grid_mode=True, mode="nearest")
    header = replace(CORONAL, spacing=(1.0, 0.75, 5.0))
    found = counterpart([VendorImage(finer, header)], (0, 1), at(CORONAL))
    assert agreement(image, found, "scan").correlation > 0.98


def test_an_image_turned_within_its_plane_is_turned_back() -> None:
    (image,) = volume(1)
    along_x, along_y, normal = CORONAL.directions or ()
    flipped = replace(CORONAL, directions=(tuple(-a for a in along_x), along_y, tuple(-a for a in normal)))
    found = counterpart([VendorImage(image[:, ::-1], flipped)], (0, 1), at(CORONAL))
    np.testing.assert_allclose(found, image, atol=1e-4)
    turned = replace(
        CORONAL, spacing=(1.5, 2.0, 5.0), directions=(along_y, along_x, tuple(-a for a in normal))
    )
    found = counterpart([VendorImage(image.T.copy(), turned)], (0, 1), at(CORONAL))
    np.testing.assert_allclose(found, image, atol=1e-4)


def test_where_it_does_not_reach_nothing_is_compared() -> None:
    (image,) = volume(1)
    part = replace(CORONAL, position=(10.0 + 0.75 * 10, -20.0, 30.0))
    found = counterpart([VendorImage(image[:, 10:], part)], (0, 1), at(CORONAL))
    assert np.isnan(found[:, :10]).all()
    np.testing.assert_allclose(found[:, 10:], image[:, 10:], atol=1e-4)
    assert agreement(image, found, "scan").ssim == pytest.approx(1, abs=1e-3)


def test_without_places_their_order_counts() -> None:
    images = volume()
    given = [VendorImage(image, Header()) for image in images]
    for index, image in enumerate(images):
        np.testing.assert_array_equal(counterpart(given, (index, 3), at(CORONAL)), image)


def test_images_of_something_else_are_refused(tmp_path: Path) -> None:
    (image,) = volume(1)
    here = VendorImage(image, CORONAL)

    def moved(by: tuple[float, float, float]) -> VendorImage:
        return replace(here, header=replace(CORONAL, position=tuple(np.add(CORONAL.position, by))))

    axial = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    nowhere = VendorImage(image, Header())
    for given, number, complaint in (
        ([moved((0, 40, 0))], 1, "the image nearest to scan lies 40.0 mm away"),
        ([moved((60, 0, 0))], 1, "its image covers 17% of scan; give the images of this scan"),
        ([replace(here, header=replace(CORONAL, directions=axial))], 1, "is oriented otherwise"),
        ([nowhere, nowhere], 1, "2 images for 1 slices, and not all say where they lie"),
        ([VendorImage(image[:32], Header())], 1, "an image of 32×48 for scan of 64×48, and not both say"),
    ):
        with pytest.raises(NorefError, match=complaint):
            counterpart(given, (0, number), at(CORONAL))
    with pytest.raises(NorefError, match="does not show the same slice"):
        agreement(image, image[::-1, ::-1] * np.float32(0), "scan")
    with pytest.raises(NorefError, match=r"does not show the same slice \(correlation -?0\.\d+\)"):
        agreement(image, np.random.default_rng(0).random(SHAPE, np.float32), "scan")
    np.save(tmp_path / "x.npy", image)
    with pytest.raises(NorefError, match=r"x\.npy"):
        read_vendor(tmp_path / "x.npy")
    with pytest.raises(NorefError, match="not found"):
        read_vendor(tmp_path / "nothing.dcm")


def test_each_scan_has_its_own_images_where_several_are_given(tmp_path: Path) -> None:
    """Patients lie in the same place."""
    first, second = volume(4)[:2], volume(4)[2:]
    paths = [tmp_path / "a.nii", tmp_path / "b.nii"]
    for path, images in zip(paths, (first, second), strict=True):
        formats.write(path, images, CORONAL)
    names = ["a/x/000", "a/x/001", "b/y/000", "b/y/001"]
    found = assigned(paths, names)
    assert [place for _, place in found] == [(0, 2), (1, 2), (0, 2), (1, 2)]
    np.testing.assert_allclose(found[3][0][1].values, second[1], atol=1e-5)
    for images, place in assigned(paths[:1], names[:2]):
        assert len(images) == 2
        assert place[1] == 2
    assert assigned([], names) == []
    with pytest.raises(NorefError, match="2 for 1 scans; give one for each, in order, or one for all"):
        assigned(paths, names[:2])


def test_gain_does_not_matter() -> None:
    (image,) = volume(1)
    alike = agreement(image, 1000 * image, "scan")
    assert (alike.correlation, alike.ssim) == (pytest.approx(1), pytest.approx(1))
