"""Receive coils that move from scan to scan, from the law of Biot and Savart.

The sensitivity to the transverse magnetisation is `S = B_x − i B_y` of a unit current in the coil, `B₀` along
the slice normal. Positions are in half fields of view: the slice spans [−1, 1) along y and x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.seeding import Key

Points = NDArray[np.float64]
Field = Callable[[Points, Points, float], NDArray[np.complex128]]

KINDS = ("loop", "birdcage")
"""What `maps` can model."""

WIRE = 0.05
"""Radius of the conductors, which keeps the field finite where one crosses the field of view."""

ROW = 12
"""With more elements than this, they stand in several rows along z."""

QUADRATURE = 8
"""Elements of the ring that one coil combines, each turned by its angle: a volume coil."""


def loop(angle: float, centre: NDArray[np.float64], radius: float, tilt: float) -> Field:
    """A circular loop facing the axis, by its complete elliptic integrals (Smythe, Static and dynamic
    electricity, 7.10): with `α² = (a − ρ)² + h²`, `β² = (a + ρ)² + h²`, `m = 1 − α²/β²`,

        B_h = (K + E (a² − ρ² − h²)/α²)/β,    B_ρ = (h/ρ)·(−K + E (a² + ρ² + h²)/α²)/β.
    """
    normal = np.array([-np.cos(angle + tilt), -np.sin(angle + tilt), 0.0])

    def field(x: Points, y: Points, z: float) -> NDArray[np.complex128]:
        dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
        h = dx * normal[0] + dy * normal[1]
        rho = np.sqrt(np.maximum(dx**2 + dy**2 + dz**2 - h**2, 1e-6))
        height = h**2 + WIRE**2
        alpha, beta = (radius - rho) ** 2 + height, (radius + rho) ** 2 + height
        k, e = scipy.special.ellipkm1(alpha / beta), scipy.special.ellipe(1 - alpha / beta)
        axial = (k + e * (radius**2 - rho**2 - height) / alpha) / np.sqrt(beta)
        radial = h / rho**2 * (-k + e * (radius**2 + rho**2 + height) / alpha) / np.sqrt(beta)
        b_x = axial * normal[0] + radial * (dx - h * normal[0])
        b_y = axial * normal[1] + radial * (dy - h * normal[1])
        return np.asarray(b_x - 1j * b_y)

    return field


def rung(centre: NDArray[np.float64], half: float) -> Field:
    """A straight conductor along z of length `2·half`: `S = −i/w·(sin α₁ + sin α₂)/2`, `w = x + iy − c`."""

    def field(x: Points, y: Points, z: float) -> NDArray[np.complex128]:
        w = (x - centre[0]) + 1j * (y - centre[1])
        square = np.abs(w) ** 2 + WIRE**2
        up, down = centre[2] + half - z, z - centre[2] + half
        length = up / np.sqrt(up**2 + square) + down / np.sqrt(down**2 + square)
        return np.asarray(-1j * w.conj() / square * length / 2)

    return field


def _elements(kind: str, count: int, key: Key) -> tuple[list[Field], NDArray[np.float64]]:
    """The elements around the object, and the angle at which each stands."""
    generator = key.numpy()
    shift = generator.uniform(-0.08, 0.08, 2)
    axes = generator.uniform(1.3, 1.5) * generator.uniform(0.95, 1.1, 2)
    start = generator.uniform(0, 2 * np.pi)
    rows = -(-count // ROW)
    members = -(-count // rows)
    spacing = 2 * np.pi / members
    fields: list[Field] = []
    angles = np.empty(count)
    for element in range(count):
        row, place = divmod(element, members)
        # Rows are staggered, as neighbouring loops are when their coupling is cancelled.
        angle = start + spacing * (place + 0.5 * (row % 2) + generator.uniform(-0.15, 0.15))
        z = 0.6 * (row - (rows - 1) / 2) + generator.uniform(-0.1, 0.1)
        centre = np.array([axes[0] * np.cos(angle) + shift[0], axes[1] * np.sin(angle) + shift[1], z])
        size, tilt = generator.uniform(0.9, 1.3), generator.uniform(-0.2, 0.2)
        if kind == "loop":
            radius = size * min(np.sin(spacing / 2) * axes.mean(), 0.65)
            fields.append(loop(angle, centre, radius, tilt))
        else:
            fields.append(rung(centre, size))
        angles[element] = angle
    return fields, angles


def maps(kind: str, coils: int, shape: tuple[int, int], key: Key, z: float = 0.0) -> Tensor:
    """Sensitivities of coils placed around the object, complex64 `(coils, y, x)`.

    `Σ_c |S_c|²` is 1 on average over the middle of the field of view, and not uniform. One coil is a ring of
    elements in quadrature, nearly uniform.

    Args:
        kind: `loop`, circular loops that face the object; `birdcage`, straight rungs along z.
        coils: their number.
        shape: grid `(y, x)` over the field of view.
        key: of the scan: where the coils are, how large and how turned.
        z: height of the slice, in half fields of view.

    Raises:
        NorefError: if the kind is unknown or there is no coil.
    """
    if kind not in KINDS or coils < 1:
        raise NorefError(f"{coils} coils of kind {kind}: choose 1 coil or more of {', '.join(KINDS)}")
    fields, angles = _elements(kind, coils if coils > 1 else QUADRATURE, key.fold("place"))
    phases = key.fold("phase").numpy().uniform(0, 2 * np.pi, len(fields))

    def received(grid: tuple[int, int]) -> NDArray[np.complex128]:
        y, x = np.meshgrid(*((np.arange(n) - n // 2) * (2 / n) for n in grid), indexing="ij")
        each = np.stack([field(x, y, z) for field in fields])
        turns = angles if coils == 1 else phases
        turned: NDArray[np.complex128] = np.exp(1j * turns)[:, None, None] * each
        return turned.sum(0, keepdims=True) if coils == 1 else turned

    # The same power on every grid, so that a finer one shows the same coils.
    v, u = np.mgrid[-16:16, -16:16] / 16
    power = (np.abs(received((32, 32))) ** 2).sum(0)[u**2 + v**2 < 0.7**2].mean()
    return torch.from_numpy(received(shape) / np.sqrt(power)).to(torch.complex64)
