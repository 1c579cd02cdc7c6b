"""The scanner's own image beside the reconstruction: another opinion, not a reference.

It was filtered, interpolated and corrected by means that nobody tells; agreement with it says that both show
the same slice, and little about which is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from noref.data.files import volume_of
from noref.data.shown import cropped
from noref.errors import NorefError
from noref.formats import read
from noref.formats.geometry import corner_of, counters_of
from noref.formats.mrd_image_files import holds_images, read_images
from noref.metrics import WINDOW, ssim_map
from noref.physics import ifft2c
from noref.scan import Header, Scan

PARALLEL = 0.999
"""Smallest cosine between normals of slices that lie alike, 2.6 degrees."""

COVERED = 0.5
"""Smallest share of the reconstructed image that the scanner's has to cover."""

SAME = 0.3
"""Correlation below which two images do not show the same slice."""

OBJECT = 0.05
"""Pixels brighter than this share of the 99.5th percentile are compared."""


@dataclass(frozen=True)
class VendorImage:
    """A slice that the scanner reconstructed.

    Attributes:
        values: magnitudes, float32 `(y, x)`.
        header: where it lies.
    """

    values: NDArray[np.float32]
    header: Header


@dataclass(frozen=True)
class Agreement:
    """How alike a reconstruction and the scanner's image are, over the object.

    Attributes:
        correlation: Pearson's, of magnitudes.
        ssim: mean structural similarity to the scanner's image, the reconstruction times the gain that fits
            best.
    """

    correlation: float
    ssim: float


def read_vendor(path: Path) -> list[VendorImage]:
    """All slices of a DICOM series, a NIfTI volume or an MRD file of images.

    Raises:
        NorefError: if it holds no images.
    """
    if path.is_file() and holds_images(path):
        return [VendorImage(values, header) for values, header in read_images(path)]
    slices = read(path)
    if slices.format not in ("DICOM", "NIfTI"):
        raise NorefError(f"{path}: {slices.format}, no image of a scanner; give DICOM, NIfTI or MRD images")
    return [VendorImage(ifft2c(one.kspace)[0].abs().numpy(), one.header) for one in slices]


def assigned(paths: Sequence[Path], names: Sequence[str]) -> list[tuple[list[VendorImage], tuple[int, int]]]:
    """The images among which each slice's is to be found, and its number among how many slices.

    Of one path they are all slices'; of several each belongs to a scan, in order, as patients lie in the same
    place in the scanner.

    Args:
        paths: as `read_vendor` takes them.
        names: `subject/scan/slice` of all slices.

    Raises:
        NorefError: if there are several paths, and not one for each scan.
    """
    if not paths:
        return []
    if len(paths) == 1:
        images = read_vendor(paths[0])
        return [(images, (index, len(names))) for index in range(len(names))]
    scans = [volume_of(name) for name in names]
    order = list(dict.fromkeys(scans))
    if len(paths) != len(order):
        raise NorefError(
            f"--vendor: {len(paths)} for {len(order)} scans; give one for each, in order, or one for all"
        )
    of = {scan: read_vendor(path) for scan, path in zip(order, paths, strict=True)}
    return [(of[scan], (scans[:index].count(scan), scans.count(scan))) for index, scan in enumerate(scans)]


def counterpart(images: Sequence[VendorImage], place: tuple[int, int], scan: Scan) -> NDArray[np.float32]:
    """The scanner's image of a slice, on the slice's grid `(y, x)`, NaN where it does not reach.

    Where both sides say where they lie, that decides; otherwise their order does.

    Args:
        images: the scanner's.
        place: the slice's number, and how many there are in all.
        scan: the slice.

    Raises:
        NorefError: if the slice has no counterpart, or numbers or matrices differ where places are not known.
    """
    header, name = scan.header, scan.id
    shape = _shape(cropped(torch.empty(scan.matrix), scan).numpy())
    if corner_of(header, shape) is not None and all(
        corner_of(one.header, _shape(one.values)) is not None for one in images
    ):
        return _placed(images, header, shape, name)
    index, number = place
    if len(images) != number:
        raise NorefError(
            f"--vendor: {len(images)} images for {number} slices, and not all say where they lie; give one "
            "for each slice, in their order"
        )
    found = images[index].values
    if found.shape != shape:
        mine, other = ("×".join(map(str, size)) for size in (shape, found.shape))
        raise NorefError(
            f"--vendor: an image of {other} for {name} of {mine}, and not both say where they lie; give "
            "images of the same matrix"
        )
    return found.astype(np.float32)


def _placed(
    images: Sequence[VendorImage], header: Header, shape: tuple[int, int], name: str
) -> NDArray[np.float32]:
    """The slice's own image, interpolated linearly in its plane.

    Of those oriented alike it is the nearest in height, and of several there, such as echoes, the one of the
    slice's counters.
    """
    assert header.position is not None
    assert header.directions is not None
    normal, centre = np.array(header.directions[2]), np.array(header.position)

    def distance(one: VendorImage) -> tuple[bool, float, bool]:
        assert one.header.directions is not None
        turned = abs(float(normal @ np.array(one.header.directions[2]))) < PARALLEL
        height = abs(float(normal @ (np.array(one.header.position) - centre)))
        return turned, round(height, 3), counters_of(one.header) != counters_of(header)

    found = min(images, key=distance)
    turned, height, _ = distance(found)
    assert found.header.spacing is not None
    assert found.header.directions is not None
    thickness = found.header.thickness or found.header.spacing[2]
    if turned or height > thickness / 2:
        apart = "is oriented otherwise" if turned else f"lies {height:.1f} mm away"
        raise NorefError(f"--vendor: the image nearest to {name} {apart}; give the images of this scan")
    corner = corner_of(found.header, _shape(found.values))
    assert corner is not None
    there = _points(header, shape) - corner
    along_x, along_y = (np.array(axis) for axis in found.header.directions[:2])
    places = np.stack([there @ along_y / found.header.spacing[0], there @ along_x / found.header.spacing[1]])
    made = scipy.ndimage.map_coordinates(found.values, places, order=1, cval=np.nan)
    covered = float(np.isfinite(made).mean())
    if covered < COVERED:
        raise NorefError(f"--vendor: its image covers {covered:.0%} of {name}; give the images of this scan")
    return np.asarray(made, np.float32)


def _points(header: Header, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Millimetres LPS of every pixel, `(y, x, 3)`."""
    assert header.spacing is not None
    assert header.directions is not None
    along_x, along_y = (np.array(axis) for axis in header.directions[:2])
    rows, columns = (np.arange(size)[:, None] for size in shape)
    down, across = rows * header.spacing[0] * along_y, columns * header.spacing[1] * along_x
    made: NDArray[np.float64] = corner_of(header, shape) + down[:, None] + across
    return made


def _shape(values: NDArray[np.float32]) -> tuple[int, int]:
    return values.shape[0], values.shape[1]


def agreement(image: NDArray[np.float32], vendor: NDArray[np.float32], name: str) -> Agreement:
    """How alike a magnitude image and the scanner's are, both `(y, x)`, the latter from `counterpart`.

    Raises:
        NorefError: if they do not show the same slice.
    """
    covered = np.isfinite(vendor)
    there = np.where(covered, vendor, 0)
    compared = covered & (there > OBJECT * np.percentile(there, 99.5))
    mine, other = image[compared].astype(float), there[compared].astype(float)
    varied = len(mine) > 1 and np.ptp(mine) > 0 and np.ptp(other) > 0
    correlation = float(np.corrcoef(mine, other)[0, 1]) if varied else 0.0
    if correlation < SAME:
        raise NorefError(
            f"--vendor: its image of {name} does not show the same slice (correlation {correlation:.2f}); "
            "give the images of this scan, not flipped or rotated"
        )
    gain = float((mine @ other) / (mine @ mine))
    scaled = np.where(covered, gain * image, 0).astype(np.float32)
    similar = ssim_map(torch.from_numpy(there)[None], torch.from_numpy(scaled)[None])[0].numpy()
    edge = WINDOW // 2
    return Agreement(correlation, float(similar[compared[edge:-edge, edge:-edge]].mean()))
