"""What phantoms are drawn with: coordinates, random fields, shapes as signed distances.

One unit is half the field of view: the slice spans [−1, 1) along y (down) and x (right), and `z` is in the
same unit. Everything is a function of the position, so that one subject can be drawn on any grid and at any
height; random numbers are drawn by name, never in an order that could depend on grid or height.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from noref.seeding import Key

Array = npt.NDArray[np.floating[Any]]

SLICE_BLUR = 0.01
"""Edges are at least this wide: a slice has a thickness, so no tissue border is sharp."""


class Canvas:
    """One slice of one subject while it is drawn.

    Attributes:
        image: magnitude `(y, x)`.
        x, y: anatomical coordinates `(y, x)` of the pixels, after `pose`.
        rows, columns: scanner coordinates `(y, 1)` and `(1, x)`.
        z: height of the slice.
    """

    def __init__(self, shape: tuple[int, int], key: Key, z: float) -> None:
        self.z = z
        self.image = np.zeros(shape, np.float32)
        self._key = key
        self._pixel = (2 / shape[0], 2 / shape[1])
        v, u = (((np.arange(size) - size // 2) * (2 / size)).astype(np.float32) for size in shape)
        self.rows, self.columns = v[:, None], u[None, :]
        self._edge = max(*self._pixel, SLICE_BLUR)
        self._turn = 0.0
        self.y, self.x = np.meshgrid(v, u, indexing="ij")

    def draw(self, name: str, low: float, high: float) -> float:
        """A number of this subject, uniform between `low` and `high`."""
        return float(self._key.fold(name).numpy().uniform(low, high))

    def jitter(self, name: str, values: Sequence[float], size: float) -> list[float]:
        """The values, each moved by up to `size`."""
        moved = self._key.fold(name).numpy().uniform(-size, size, len(values))
        return [float(value + move) for value, move in zip(values, moved, strict=True)]

    def contrast(self, *weightings: dict[str, float]) -> dict[str, float]:
        """One of the weightings with up to 30 % of another, every tissue up to 12 % off."""
        generator = self._key.fold("contrast").numpy()
        first, second = generator.integers(len(weightings), size=2)
        share = generator.uniform(0, 0.3)
        return {
            tissue: (weightings[first][tissue] * (1 - share) + weightings[second][tissue] * share)
            * generator.uniform(0.88, 1.12)
            for tissue in weightings[0]
        }

    def pose(self, *, turn: float, shift: float, scale: tuple[float, float], bend: float) -> None:
        """Turns (radians), shifts, scales and bends the anatomy under the pixels, all at random."""
        self._turn = self.draw("turn", -turn, turn)
        sine, cosine = np.sin(self._turn), np.cos(self._turn)
        x = self.columns - self.draw("shift x", -shift, shift)
        y = self.rows - self.draw("shift y", -shift, shift)
        wide, high = self.draw("width", *scale), self.draw("height", *scale)
        self.x = ((cosine * x + sine * y) / wide + bend * self.field("bend x", 1.0, 3.0)).astype(np.float32)
        self.y = ((cosine * y - sine * x) / high + bend * self.field("bend y", 1.0, 3.0)).astype(np.float32)

    def _waves(
        self, name: str, finest: float, coarsest: float, count: int, fibre: float | None, stretch: float
    ) -> tuple[Array, Array, Array]:
        generator = self._key.fold(name).numpy()
        size = 2 * np.pi / np.exp(generator.uniform(np.log(finest), np.log(coarsest), count))
        angle = generator.uniform(0, 2 * np.pi, count)
        along, across = size * np.cos(angle), size * np.sin(angle)
        if fibre is not None:
            direction = fibre + self._turn
            along = along / stretch
            kx = along * np.cos(direction) - across * np.sin(direction)
            ky = along * np.sin(direction) + across * np.cos(direction)
        else:
            kx, ky = along, across
        # Structures go on through a few slices, however fine they are within one.
        kz = 0.3 * np.minimum(size, 30.0) * generator.standard_normal(count)
        phase = generator.uniform(0, 2 * np.pi, count) + kz * self.z
        return kx.astype(np.float32), ky.astype(np.float32), phase.astype(np.float32)

    def _sum(self, kx: Array, ky: Array, phase: Array, weight: Array) -> Array:
        """`Σ_w weight_w cos(ky y + kx x + phase)`: one real matrix product, as waves are separable."""
        down = self.rows * ky + phase
        right = self.columns.T * kx
        left = np.concatenate((np.cos(down) * weight, -np.sin(down) * weight), axis=1)
        total: Array = left @ np.concatenate((np.cos(right), np.sin(right)), axis=1).T
        return total

    def field(
        self,
        name: str,
        finest: float,
        coarsest: float,
        *,
        waves: int = 96,
        fibre: float | None = None,
        stretch: float = 6.0,
    ) -> Array:
        """A random field `(y, x)` of mean 0 and variance 1, averaged over each pixel.

        Its wavelengths lie between `finest` and `coarsest` with equal power per octave, the spectrum of
        natural images; along the direction `fibre` (radians) they are `stretch` times as long.
        """
        kx, ky, phase = self._waves(name, finest, coarsest, waves, fibre, stretch)
        height, width = self._pixel
        average = np.sinc(kx * width / (2 * np.pi)) * np.sinc(ky * height / (2 * np.pi))
        return self._sum(kx, ky, phase, (average * np.sqrt(2 / waves)).astype(np.float32))

    def _zero(self, name: str, wavelength: float, waves: int = 64) -> tuple[Array, Array, Array]:
        kx, ky, phase = self._waves(name, 0.8 * wavelength, 1.25 * wavelength, waves, None, 1.0)
        quarter = np.float32(np.pi / 2)
        one = np.ones_like(kx)
        return (
            self._sum(kx, ky, phase, one),
            self._sum(kx, ky, phase + quarter, kx),
            self._sum(kx, ky, phase + quarter, ky),
        )

    def sheets(self, name: str, wavelength: float) -> Array:
        """Distance `(y, x)` to winding sheets, half a wavelength apart: sulci, septa, trabeculae.

        To first order `|n|/‖∇n‖` for a random field `n` of nearly one wavelength.
        """
        n, dx, dy = self._zero(name, wavelength)
        return np.abs(n) / (np.hypot(dx, dy) + 1e-6)

    def threads(self, name: str, wavelength: float) -> Array:
        """Distance `(y, x)` to threads winding through space, such as vessels: dots, short curves.

        To first order the length of `J⁻¹n` for two random fields `n` with the Jacobian `J`.
        """
        a, ax, ay = self._zero(f"{name} a", wavelength, 32)
        b, bx, by = self._zero(f"{name} b", wavelength, 32)
        determinant = np.abs(ax * by - ay * bx) + 1e-3
        return np.hypot(by * a - ay * b, ax * b - bx * a) / determinant

    def ellipse(
        self,
        x: float,
        y: float,
        a: float,
        b: float,
        *,
        turn: float = 0.0,
        height: float = 0.0,
        c: float = np.inf,
    ) -> Array:
        """Signed distance `(y, x)`, negative inside, of an ellipse; if `c` is finite, of an
        ellipsoid cut at this height above its centre.

        To first order `k (k − 1)/s`, `k² = Σ (p/axis)²`, `s² = Σ (p/axis²)²`.
        """
        sine, cosine = np.float32(np.sin(turn)), np.float32(np.cos(turn))
        dx, dy = self.x - np.float32(x), self.y - np.float32(y)
        p = (cosine * dx + sine * dy) / np.float32(a)
        q = (cosine * dy - sine * dx) / np.float32(b)
        r = np.float32(height / c)
        k = np.sqrt(p * p + q * q + r * r) + np.float32(1e-6)
        slope = np.sqrt((p / a) ** 2 + (q / b) ** 2 + (r / c) ** 2) + np.float32(1e-6)
        distance: Array = (k * (k - 1) / slope).astype(np.float32)
        return distance

    def tube(self, points: Sequence[tuple[float, float]], radius: float) -> Array:
        """Signed distance `(y, x)` of a line of the given radius through points `(x, y)`."""
        nearest = np.full_like(self.x, np.inf)
        for (x0, y0), (x1, y1) in pairwise(points):
            ex, ey = x1 - x0, y1 - y0
            dx, dy = self.x - np.float32(x0), self.y - np.float32(y0)
            along = np.clip((dx * ex + dy * ey) / (ex * ex + ey * ey), 0, 1).astype(np.float32)
            nearest = np.minimum(nearest, (dx - along * ex) ** 2 + (dy - along * ey) ** 2)
        return np.sqrt(nearest) - np.float32(radius)

    def fill(self, distance: Array, value: float | Array, *, blur: float = 0.0) -> None:
        """Paints the inside of a shape, of this signed distance, over what is there."""
        share = np.clip(0.5 - distance / max(self._edge, blur), 0, 1)
        self.image += share * (value - self.image)
