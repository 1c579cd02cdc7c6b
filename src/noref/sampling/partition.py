"""Splits of a scan's samples into what a network is shown and what it is graded on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.sampling.centre import centre_block
from noref.sampling.draw import chance_of_units, draw_units, sampled_in_lines, whole_lines
from noref.sampling.holdout import calibrated
from noref.scan import Scan
from noref.seeding import Key

Share = float | tuple[float, float] | list[float]


def check_share(share: Share) -> None:
    """Refuses shares of nothing, of everything, and ranges from high to low.

    Raises:
        NorefError: naming the share.
    """
    values = [share] if isinstance(share, float | int) else list(share)
    inside = bool(values) and all(0 < value <= 1 for value in values)
    if not inside or (len(values) == 2 and values[0] > values[1]):
        raise NorefError(f"share={share}: give a number above 0 and up to 1, [low, high], or a list")


def draw_share(share: Share, key: Key) -> float:
    """The share itself, a uniform draw from a pair `(low, high)`, or one of a list of three or more."""
    if isinstance(share, float | int):
        return float(share)
    if len(share) == 2:
        return float(key.numpy().uniform(*share))
    return float(key.numpy().choice(share))


def protected(scan: Scan, centre: float) -> Tensor:
    """Samples that are always shown, bool `(ky, kx)`.

    The centre block, and the whole ACS where the maps were made from it: a Λ inside the ACS would have been
    seen through the maps. A single coil has no maps, and a separate calibration scan is not part of Ω. Off
    the grid nothing is protected: what is held back are whole read-outs, and those shown cross the centre,
    too.

    Args:
        scan: the target.
        centre: size of the block as a share of the matrix.
    """
    if scan.trajectory is not None:
        return torch.zeros_like(scan.mask)
    rows, columns = (max(2, round(centre * n)) for n in scan.shape)
    block = centre_block(scan.shape, rows, columns)
    if scan.coils > 1 and scan.calibration is None:
        block |= calibrated(scan)
    return block & scan.mask


@dataclass(frozen=True)
class Partition:
    """Divides Ω into Θ, shown, and Λ, held back: disjoint, their union Ω, `|Λ| = ρ|Ω|` exactly.

    Where `ρ|Ω|` is more than what lies outside the protected centre, Λ is all of that; it is never empty.

    Attributes:
        weight: `uniform`, or `gaussian`: `exp(−½((k − k₀)/σ)²)` draws Λ, `σ = (n − 1)/width` per axis.
        unit: `points`, `lines`, or `auto`: lines for scans acquired in them. Points inside an acquired line
            are nearly given by their neighbours along the read-out. Off the grid always whole read-outs, each
            as likely as any other.
        share: ρ, the share given to Λ: a number, a pair to draw from uniformly, or a list to choose from.
        centre: size of the protected centre block as a share of the matrix (the papers' 4 of 320).
        width: of the Gaussian; 4 for SSDU, 3.5 for JSSL.
    """

    weight: Literal["uniform", "gaussian"] = "uniform"
    unit: Literal["auto", "points", "lines"] = "auto"
    share: Share = 0.4
    centre: float = 4 / 320
    width: float = 4.0

    def __post_init__(self) -> None:
        check_share(self.share)

    def __call__(self, scan: Scan, key: Key) -> tuple[Tensor, Tensor]:
        """Θ and Λ of one scan, each bool `(ky, kx)`.

        Raises:
            NorefError: if nothing lies outside the protected centre.
        """
        return self.among(self.candidates(scan), scan, key)

    def among(self, candidates: Tensor, scan: Scan, key: Key) -> tuple[Tensor, Tensor]:
        """The same, of candidates that are known already."""
        mask = scan.mask
        share = draw_share(self.share, key.fold("share"))
        held = draw_units(candidates, mask, share, key, self._log_weight(scan), self._by_lines(scan))
        if not held.numpy().any():
            raise NorefError(
                f"{scan.id}: none of the {int(mask.sum())} samples can be held back, {int(candidates.sum())} "
                "lie outside the protected centre, so there is nothing to grade the network on; protect a "
                "smaller centre or hold back points"
            )
        return mask & ~held, held

    def chance(self, scan: Scan, held: Tensor) -> Tensor:
        """`P(k ∈ Λ | k ∈ Ω)` of each sample for a Λ as large as `held`, float32 `(ky, kx)`."""
        mask = scan.mask
        return chance_of_units(
            self.candidates(scan), mask, held, self._log_weight(scan), self._by_lines(scan)
        )

    def candidates(self, scan: Scan) -> Tensor:
        """What may be held back, bool `(ky, kx)`: points, or whole lines, outside the protected centre."""
        outside = scan.mask & ~protected(scan, self.centre)
        return outside & whole_lines(outside, scan.mask) if self._by_lines(scan) else outside

    def _by_lines(self, scan: Scan) -> bool:
        if scan.trajectory is not None:
            return True
        return sampled_in_lines(scan.mask) if self.unit == "auto" else self.unit == "lines"

    def _log_weight(self, scan: Scan) -> Tensor | None:
        # Off the grid the number of a read-out says nothing of where it lies.
        if self.weight == "uniform" or scan.trajectory is not None:
            return None
        axes = []
        for n in scan.shape:
            k = torch.arange(n, dtype=torch.float64) - n // 2
            axes.append(-0.5 * (k / max((n - 1) / self.width, 1e-9)) ** 2)
        return axes[0][:, None] + axes[1]
