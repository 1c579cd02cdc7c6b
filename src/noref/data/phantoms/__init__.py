"""Anatomies that no scanner has seen: every key is another subject.

They differ in structure, not only in shape, and are made to be as hard for wavelets as real slices are:
folded cortex, trabecular bone, muscle fibres, lung vessels, glands, at scales down to the pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from noref.data.phantoms.brain import brain
from noref.data.phantoms.canvas import Array, Canvas
from noref.data.phantoms.cardiac import cardiac
from noref.data.phantoms.geometric import geometric
from noref.data.phantoms.knee import knee
from noref.data.phantoms.prostate import prostate
from noref.errors import NorefError
from noref.seeding import Key

ANATOMIES: dict[str, Callable[[Canvas], None]] = {
    "brain": brain,
    "knee": knee,
    "cardiac": cardiac,
    "prostate": prostate,
    "phantom": geometric,
}
"""What `phantom` can draw, by name."""


def smooth_phase(shape: tuple[int, int], key: Key, z: float = 0.0) -> Array:
    """A smooth random phase, radians `(y, x)`, that spans 0.55 to 1.1 π over the middle of the field of view.

    Args:
        shape: grid `(y, x)`; the same phase on every grid.
        key: draws it.
        z: height of the slice, in half fields of view.
    """

    def field(grid: tuple[int, int]) -> Array:
        return Canvas(grid, key, z).field("phase", 1.2, 4.0, waves=24)

    # The span is set within the disc that every anatomy fills, on a grid that is the same for every shape.
    coarse = field((32, 32))
    v, u = np.mgrid[-16:16, -16:16] / 16
    span = np.ptp(coarse[u**2 + v**2 < 0.4**2])
    phase: Array = field(shape) * (Canvas(shape, key, z).draw("phase span", 0.55 * np.pi, 1.1 * np.pi) / span)
    return phase


def phantom(anatomy: str, shape: tuple[int, int], key: Key, z: float = 0.0) -> Tensor:
    """A slice of a random subject, `|x| exp(iφ)`, complex64 `(y, x)`.

    The magnitude lies in [0, 1]; the phase is smooth and spans at least π/2 over the middle of the object.

    Args:
        anatomy: a name in `ANATOMIES`.
        shape: grid `(y, x)` over a field of view that spans [−1, 1) both ways.
        key: of the subject; the same key is the same subject on every grid and at every height.
        z: height of the slice, in half fields of view; the slices of a subject change smoothly with it.

    Raises:
        NorefError: if the anatomy is unknown.
    """
    if anatomy not in ANATOMIES:
        raise NorefError(f"anatomy {anatomy}: unknown; choose one of {', '.join(ANATOMIES)}")
    canvas = Canvas(shape, key, z)
    ANATOMIES[anatomy](canvas)
    magnitude = np.clip(canvas.image, 0, 1)
    return torch.from_numpy(magnitude * np.exp(1j * smooth_phase(shape, key, z))).to(torch.complex64)
