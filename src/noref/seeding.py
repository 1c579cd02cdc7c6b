"""The only source of randomness.

Every random number in noref is drawn from a generator that a `Key` makes, and a `Key` says what the
numbers are for. Two draws with different purposes, scans or epochs are independent; the same key gives
the same numbers whatever was drawn before, on whatever rank or worker.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass(frozen=True)
class Key:
    """Names one independent stream of random numbers.

    What a scanner would have fixed (a retrospective target's Ω and noise, everyone's Γ) is keyed by the
    data set's seed and the scan alone: such keys have no `epoch`. What changes while training
    (partitions, proxies' masks) has one.

    Attributes:
        seed: of the data set or of the training run.
        scan: the scan's id, or "" for what belongs to no scan.
        purpose: what the numbers are for, such as "mask", "noise", "holdout", "view".
        epoch: of training, or None for what is fixed for life.
        index: tells several draws for one purpose apart.
    """

    seed: int
    scan: str
    purpose: str
    epoch: int | None = None
    index: tuple[int | str, ...] = ()

    def fold(self, item: int | str) -> Key:
        """A key for one of several draws below this one."""
        return replace(self, index=(*self.index, item))

    def entropy(self) -> int:
        """128 bits that depend on every field."""
        text = repr((self.seed, self.scan, self.purpose, self.epoch, self.index))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator for this key."""
        return np.random.Generator(np.random.PCG64(self.entropy()))

    def torch(self) -> torch.Generator:
        """A fresh PyTorch generator (CPU) for this key."""
        return torch.Generator().manual_seed(self.entropy() & (2**63 - 1))
