"""What is known of the scans of a training without their k-space."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from noref.data.packed import PackedMasks, packed, unpacked
from noref.data.prepare import fully_sampled
from noref.sampling.density import sampling_density
from noref.scan import Scan, bucket, full_readouts, padding_of

Shape = tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """What is known of a scan without its k-space.

    Attributes:
        id: subject/scan/slice.
        bucket: what it must share with others to be stacked.
        mask: Ω, `packed`.
        allowed: Ω∖Γ, `packed`.
        padding: `packed`.
        full: whether all of it was measured.
        trajectory: a digest of where its samples lie, empty on the Cartesian grid.
        raw: whether it was measured, not made from images or simulated; None where a store does not tell.
    """

    id: str
    bucket: tuple[int, ...]
    mask: bytes
    allowed: bytes
    padding: bytes
    full: bool
    trajectory: str = ""
    raw: bool | None = None

    @classmethod
    def of(cls, scan: Scan, once: dict[bytes, bytes]) -> Seen:
        """Of a scan with Ω and Γ; masks of scans that were seen `once` already are not kept again."""
        masks = map(packed, (scan.mask, scan.allowed, padding_of(scan)))
        mask, allowed, padding = (once.setdefault(mask, mask) for mask in masks)
        where = "" if scan.trajectory is None else _digest(scan.trajectory)
        return cls(scan.id, bucket(scan), mask, allowed, padding, fully_sampled(scan), where, scan.raw)

    @property
    def shape(self) -> Shape:
        """k-space matrix `(ky, kx)`."""
        return self.bucket[-2], self.bucket[-1]

    @property
    def rate(self) -> float:
        """R, the padding counted; off the grid that of read-outs."""
        mask = unpacked(self.mask)
        if self.trajectory:
            return full_readouts((self.bucket[-4], self.bucket[-3])) / int(mask.any(-1).sum())
        return mask.numel() / int(mask.sum())

    @property
    def pattern(self) -> tuple[Hashable, ...]:
        """Ω, padding and trajectory: what scans of one acquisition share."""
        return self.mask, self.padding, self.trajectory, self.bucket[2:]

    @property
    def whole(self) -> bool:
        """Whether all that a full scan holds is shown."""
        if self.trajectory:
            readouts = int(unpacked(self.mask).any(-1).sum())
            return readouts >= full_readouts((self.bucket[-4], self.bucket[-3]))
        return bool((unpacked(self.mask) | unpacked(self.padding)).all())


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16]


def by_shape(survey: Iterable[Seen]) -> dict[Shape, list[Seen]]:
    """Scans of equal matrix."""
    found: dict[Shape, list[Seen]] = {}
    for seen in survey:
        found.setdefault(seen.shape, []).append(seen)
    return found


def densities(survey: Iterable[Seen]) -> dict[Shape, Tensor]:
    """The probability with which Ω∖Γ holds each sample, float32 `(ky, kx)`, by matrix."""
    found = {}
    for shape, alike in by_shape(survey).items():
        # Beside accelerated scans, full ones say nothing of how those were sampled.
        alike = [seen for seen in alike if not seen.whole] or alike
        # Slices of one acquisition share their Ω, whatever Γ was taken from each.
        draws = {seen.mask for seen in alike}
        padding = torch.stack([unpacked(mask) for mask in {seen.padding for seen in alike}]).all(0)
        found[shape] = sampling_density(PackedMasks([seen.allowed for seen in alike]), len(draws), padding)
    return found


def raw_labels(survey: Collection[Seen]) -> list[str]:
    """What is to be said of scans wherever they go: that they, or how many of them, are not raw."""
    made = sum(seen.raw is False for seen in survey)
    which = "" if made == len(survey) else f"{made} of {len(survey)} slices "
    return [f"{which}not raw, made from images or simulated"] if made else []
