"""What an acceptance measured, slice by slice, and the numbers of it for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.acceptance.added import Added
from noref.acceptance.floor import Floor
from noref.acceptance.lesion import Recovery
from noref.acceptance.repeat import Repeat

VISIBLE = 5.0
"""Lesions of a lower `lesion.visibility` are hidden by noise from everyone, and not counted."""


@dataclass(frozen=True)
class LesionResult:
    """One inserted lesion.

    Attributes:
        place: row and column.
        contrast: that was inserted.
        visibility: its signal-to-noise ratio; None where nothing tells the noise.
        recovered: what each method gave back.
    """

    place: tuple[int, int]
    contrast: float
    visibility: float | None
    recovered: Mapping[str, Recovery]

    @property
    def counted(self) -> bool:
        """Whether noise lets it be seen."""
        return self.visibility is None or self.visibility >= VISIBLE


@dataclass(frozen=True)
class VendorResult:
    """How alike the scanner's image is: correlation and SSIM of each method."""

    correlation: Mapping[str, float]
    ssim: Mapping[str, float]


@dataclass(frozen=True)
class SliceResult:
    """All that one slice said.

    Attributes:
        id: subject/scan/slice.
        acceleration: R.
        raw: whether its k-space was measured, not made from images.
        gamma: Γ of each method.
        floor: of Γ.
        added: to the acquired samples, by each method that is not made of them alone.
        lesions: that were inserted.
        repeats: of each method, where there is a second measurement.
        vendor: where there is the scanner's image.
    """

    id: str
    acceleration: float
    raw: bool
    gamma: Mapping[str, float]
    floor: Floor
    added: Mapping[str, Added]
    lesions: Sequence[LesionResult]
    repeats: Mapping[str, Repeat] = field(default_factory=dict)
    vendor: VendorResult | None = None

    @property
    def volume(self) -> str:
        """`subject/scan`."""
        return self.id.rsplit("/", 1)[0]


@dataclass(frozen=True)
class Pictures:
    """What the page shows of one slice.

    Attributes:
        id: of the slice.
        images: magnitudes `(y, x)` by method, in the file's units.
        differences: magnitudes of the complex difference to the acquired image, by method.
        acquired: the method that shows acquired samples alone.
        patches: of lesions: `inserted` and each method's difference, relative to the object `(y, x)`, by the
            contrast that was inserted.
        vendor: the scanner's image on the same grid, zero where it does not reach, or None.
        covered: where it reaches, or None.
    """

    id: str
    images: Mapping[str, NDArray[np.float32]]
    differences: Mapping[str, NDArray[np.float32]]
    acquired: str
    patches: Mapping[float, Mapping[str, NDArray[np.float32]]]
    vendor: NDArray[np.float32] | None = None
    covered: NDArray[np.bool_] | None = None


def mean_recovery(slices: Sequence[SliceResult], method: str, bright: bool) -> Recovery | None:
    """Of the bright or the dark lesions that noise does not hide; None without any.

    The width is that of the lesions of which a peak is left, None if that is none of them.
    """
    found = [
        lesion.recovered[method]
        for one in slices
        for lesion in one.lesions
        if lesion.counted and (lesion.contrast > 0) == bright
    ]
    if not found:
        return None
    widths = [one.width for one in found if one.width is not None]
    return Recovery(
        fmean(one.contrast for one in found),
        fmean(widths) if widths else None,
        fmean(one.leakage for one in found),
    )


def geometric_mean(values: Sequence[float]) -> float:
    """`exp(mean log)`: of ratios, which differ by factors; 0 if one of them is."""
    return math.exp(fmean(map(math.log, values))) if min(values) > 0 else 0.0


def over(slices: Sequence[SliceResult], ratio: Callable[[SliceResult], float | None]) -> float | None:
    """The geometric mean of a ratio over the slices that have it."""
    values = [value for value in map(ratio, slices) if value is not None]
    return geometric_mean(values) if values else None


def numbers(value: Any) -> Any:
    """Dataclasses, mappings and sequences as JSON has them; numbers that are not finite become None."""
    if hasattr(value, "__dataclass_fields__"):
        return numbers(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): numbers(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [numbers(of) for of in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
