"""Known structure added to a measured scan: does the reconstruction give it back?

Only the difference between two images of the same noise is judged, so that nothing about the object itself
has to be known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.acceptance.candidates import Applied
from noref.data.noise import noise_power
from noref.data.shown import cropped, magnitude
from noref.scan import Scan, encoding_of
from noref.seeding import Key

CONTRASTS = (0.5, -0.5, 0.3, -0.3)
"""Of the lesions, relative to the intensity around them; taken in turn."""

MILLIMETRES, PIXELS = 4.0, 4.0
"""Diameter of a lesion: the larger of both; `UNPLACED` pixels where the spacing is not known."""

UNPLACED = 5.0

DIM = 0.2
"""Lesions lie where the image is brighter than this share of its 99.5th percentile."""

_FINER = 4
"""Points per pixel at which widths are measured."""


@dataclass(frozen=True)
class Lesion:
    """A disc of constant contrast.

    Attributes:
        place: row and column of its centre.
        radius: pixels along y and x, which differ where pixels are not square.
        contrast: relative to the intensity around it; negative for dark.
        local: complex64 `(sets, y, x)`, the smooth image that it scales.
        disc: float32 `(y, x)`, 1 inside, 0 outside, the border about a pixel wide.
    """

    place: tuple[int, int]
    radius: tuple[float, float]
    contrast: float
    local: Tensor
    disc: Tensor

    @property
    def image(self) -> Tensor:
        """What is added to the object, `c · disc · local`, complex64 `(sets, y, x)`."""
        return self.contrast * self.disc * self.local

    def distance(self) -> Tensor:
        """Of every pixel from the centre, in radii, float32 `(y, x)`."""
        return _distance(self.place, self.radius, (self.disc.shape[0], self.disc.shape[1]))


@dataclass(frozen=True)
class Recovery:
    """What a reconstruction gives back of a lesion.

    Attributes:
        contrast: share of the contrast: the regression of the difference on the lesion; 1 is all of it.
        width: full width at half maximum over the lesion's own; None where no peak is left.
        leakage: energy of the difference beyond two radii over the lesion's energy.
    """

    contrast: float
    width: float | None
    leakage: float


def lesions(scan: Scan, neutral: Tensor, number: int, seed: int) -> list[Lesion]:
    """Lesions in the scan's object, at places drawn for the scan, apart from each other.

    Args:
        scan: prepared.
        neutral: complex64 `(sets, y, x)`, an image that none of the judged methods made; its smooth part says
            how bright the object is and which phase it has.
        number: of lesions; fewer where they do not fit.
        seed: of the acceptance.
    """
    radius = _radius(scan)
    local = _smoothed(neutral, radius)
    bright = magnitude(local)
    inside = bright > DIM * float(np.quantile(bright.numpy(), 0.995))
    # A lesion and as much around it lies in the object, and in the clinical field of view.
    rows, columns = (math.ceil(2 * r) for r in radius)
    room = np.ones((2 * rows + 1, 2 * columns + 1), bool)
    free = scipy.ndimage.binary_erosion((inside & _in_view(scan, inside)).numpy(), room)
    draws = Key(seed, scan.id, "lesion").numpy()
    found: list[Lesion] = []
    while len(found) < number and free.any():
        places = np.argwhere(free)
        y, x = (int(at) for at in places[draws.integers(len(places))])
        away = _distance((y, x), radius, (free.shape[0], free.shape[1]))
        disc = (0.5 + (1 - away) * min(radius)).clamp(0, 1)
        found.append(Lesion((y, x), radius, CONTRASTS[len(found) % len(CONTRASTS)], local, disc))
        free &= (away > 4).numpy()
    return found


def with_lesion(scan: Scan, lesion: Lesion) -> Scan:
    """The scan as it would have been measured of the object with the lesion: `y + A_Ω (c · disc · local)`."""
    added = encoding_of(scan, scan.mask).forward(lesion.image[None])[0]
    return replace(scan, kspace=scan.kspace + added)


def recovery(applied: Applied, scan: Scan, lesion: Lesion, without: Tensor) -> tuple[Recovery, Tensor]:
    """How much of a lesion a reconstruction gives back, and the difference that it made.

    `Δ = R(y + A d) − R(y)`; contrast `Re ⟨d, Δ⟩ / ⟨d, d⟩`.

    Args:
        applied: R.
        scan: prepared, without the lesion.
        lesion: d.
        without: `R(y)`, complex64 `(sets, y, x)`.
    """
    difference = applied(with_lesion(scan, lesion)).image - without
    inserted = lesion.image
    energy = float(inserted.abs().square().sum())
    contrast = float((inserted.conj() * difference).sum().real) / energy
    own, made = (
        _width(contrast_map(inserted, lesion), lesion),
        _width(contrast_map(difference, lesion), lesion),
    )
    beyond = (lesion.distance() > 2) * difference.abs().square().sum(0)
    width = None if own is None or made is None else made / own
    return Recovery(contrast, width, float(beyond.sum()) / energy), difference


def contrast_map(image: Tensor, lesion: Lesion) -> NDArray[np.float32]:
    """A complex difference `(sets, y, x)` relative to the object around the lesion, `(y, x)`.

    `Re Σ_s l_s* Δ_s / |l|²`, `|l|` at the centre of the lesion.
    """
    along = (lesion.local.conj() * image).sum(0).real
    power = lesion.local.abs().square().sum(0)[lesion.place]
    made: NDArray[np.float32] = (along / power).numpy()
    return made


def visibility(scan: Scan, lesion: Lesion) -> float | None:
    """Signal-to-noise ratio at which an ideal observer of Ω would tell the lesion: `√(2 Σ |A d|² / σ²)`.

    None where nothing tells the noise. Below about 5 noise hides the lesion from anyone.

    Source: Barrett & Myers, Foundations of Image Science (2004), section 13.2.12.
    """
    power, _ = noise_power(scan)
    if power is None:
        return None
    signal = encoding_of(scan, scan.mask).forward(lesion.image[None])[0].abs().square()
    noise = power[:, None, None] * (1.0 if scan.weights is None else scan.weights.square().clamp_min(1e-20))
    return math.sqrt(2 * float((signal / noise).sum()))


def patch(values: NDArray[Any], lesion: Lesion, reach: float = 4.0) -> NDArray[Any]:
    """The part of an image `(y, x)` around a lesion, so many radii to every side."""
    rows, columns = (
        slice(max(0, at - math.ceil(reach * r)), at + math.ceil(reach * r) + 1)
        for at, r in zip(lesion.place, lesion.radius, strict=True)
    )
    return values[rows, columns]


def _width(values: NDArray[np.float32], lesion: Lesion) -> float | None:
    """Root of the area above half of the peak, of the part that holds the peak, in a lesion's contrast."""
    near = (lesion.distance() <= 1.5).numpy()
    fine = scipy.ndimage.zoom(np.sign(lesion.contrast) * patch(values, lesion), _FINER, order=1)
    fine_near = scipy.ndimage.zoom(patch(near, lesion).astype(np.float32), _FINER, order=1) > 0.5
    peak = np.where(fine_near, fine, -np.inf).argmax()
    top = fine.flat[peak]
    if not top > 0:
        return None
    labels, _ = scipy.ndimage.label(fine > top / 2)
    return math.sqrt(float((labels == labels.flat[peak]).sum()))


def _radius(scan: Scan) -> tuple[float, float]:
    spacing: Sequence[float] | None = scan.header.spacing
    if spacing is None:
        return UNPLACED / 2, UNPLACED / 2
    size = max(MILLIMETRES, PIXELS * max(spacing[:2]))
    return size / 2 / spacing[0], size / 2 / spacing[1]


def _smoothed(image: Tensor, radius: tuple[float, float]) -> Tensor:
    """Gaussian smoothing of a complex image `(sets, y, x)` with a standard deviation of one radius."""
    parts = (scipy.ndimage.gaussian_filter(part.numpy(), (0, *radius)) for part in (image.real, image.imag))
    real, imaginary = (torch.from_numpy(part) for part in parts)
    return torch.complex(real, imaginary)


def _in_view(scan: Scan, inside: Tensor) -> Tensor:
    view = torch.zeros_like(inside)
    # A view of the tensor: what is set in it is set there.
    cropped(view, scan)[:] = True
    return view


def _distance(place: tuple[int, int], radius: tuple[float, float], shape: tuple[int, int]) -> Tensor:
    y, x = ((torch.arange(size) - at) / r for size, at, r in zip(shape, place, radius, strict=True))
    return torch.hypot(y[:, None].expand(shape), x[None, :].expand(shape))
