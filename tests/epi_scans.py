"""EPI as a scanner measures it, of an object whose k-space is known everywhere: Gaussian spots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mrd_files import NAVIGATOR, REVERSE, ismrmrd, readout

SPOTS = np.array([[0.02, -0.11, 0.05], [-0.08, 0.08, 0.04], [0.07, 0.12, 0.04], [0.0, 0.03, 0.05]])
"""Where they lie along x and y, and how wide they are, in encoded fields of view; inside half of one."""


def signal(coils: int, kx: np.ndarray, ky: float, seed: int = 0) -> np.ndarray:
    """k-space `(coils, samples)` at positions in cycles per encoded field of view; ky as for x."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(coils, len(SPOTS))) + 1j * rng.normal(size=(coils, len(SPOTS)))
    x, y, width = SPOTS.T[:, :, None]
    wave = np.exp(-2j * np.pi * (kx * x + ky * y) - 2 * (np.pi * width) ** 2 * (kx**2 + ky**2))
    return (100 * weights * width.T**2 @ wave).astype(np.complex64)


def full(coils: int, ky: int, kx: int, seed: int = 0) -> np.ndarray:
    """k-space on the grid, `(coils, ky, kx)`."""
    along = np.arange(kx) - kx // 2
    return np.stack([signal(coils, along, row - ky // 2, seed) for row in range(ky)], axis=1)


@dataclass(frozen=True)
class Shot:
    """What is wrong with reversed read-outs, and how the phase grows from one read-out to the next.

    Attributes:
        shift: samples by which they lie beside the grid.
        phase: radians.
        drift: radians a read-out.
    """

    shift: float = 0.6
    phase: float = 0.9
    drift: float = 0.0


def train(
    coils: int,
    ky: int,
    kx: int | np.ndarray,
    shot: Shot,
    rows: Sequence[int] | None = None,
    first: bool = False,
    navigators: int = 3,
    noise: float = 0.0,
    seed: int = 0,
    **head: object,
) -> list[ismrmrd.Acquisition]:
    """An echo train: navigators, and the lines of some rows, in turns.

    Args:
        coils: their number.
        ky: rows of k-space.
        kx: columns; or where forward read-outs are sampled, the reversed ones at minus that.
        shot: its faults.
        rows: those acquired; all if None.
        first: whether the first navigator is reversed, and the first line.
        navigators: how many.
        noise: standard deviation of the real part.
        seed: of the coils.
        head: fields of all headers.
    """
    along = np.arange(kx) - kx // 2 if isinstance(kx, int) else kx
    rng = np.random.default_rng(len(head) + seed)
    rows = list(range(ky)) if rows is None else list(rows)
    made = []
    for number, row in enumerate([*[ky // 2] * navigators, *rows]):
        navigates = number < navigators
        reverse = (number - (0 if navigates else navigators)) % 2 == (0 if first else 1)
        where = along
        if reverse:
            where = (along[::-1] if isinstance(kx, int) else -along) + shot.shift
        values = signal(coils, where, row - ky // 2, seed)
        values = values * np.exp(1j * (shot.phase * reverse + shot.drift * number))
        values = values + noise * (rng.normal(size=values.shape) + 1j * rng.normal(size=values.shape))
        flags = [REVERSE] * reverse + [NAVIGATOR] * navigates
        made.append(readout(values.astype(np.complex64), *flags, kspace_encode_step_1=row, **head))
    return made
