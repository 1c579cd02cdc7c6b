"""What of a reconstruction is scored and pictured."""

from __future__ import annotations

from torch import Tensor

from noref.scan import Scan


def magnitude(image: Tensor) -> Tensor:
    """`(sets, y, x)` complex to `(y, x)`: root sum of squares over the sets."""
    return image.abs().square().sum(0).sqrt()


def cropped(image: Tensor, scan: Scan) -> Tensor:
    """The clinical field of view of images `(…, y, x)`: read-out oversampling cut off, as the header says."""
    for axis, size in zip((-2, -1), scan.header.crop or (), strict=False):
        # The phase width may be smaller than the crop.
        keep = min(size, image.shape[axis])
        image = image.narrow(axis, image.shape[axis] // 2 - keep // 2, keep)
    return image


def shown(image: Tensor, scan: Scan) -> Tensor:
    """What is scored and pictured: the magnitude `(y, x)`, clinical field of view, in the file's units."""
    return cropped(magnitude(image), scan) * abs(scan.scale)
