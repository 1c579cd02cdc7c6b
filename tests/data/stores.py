"""Data sets small enough to be stored again and again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from synthetic import scan, undersampled
from torch import Tensor

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.data.store import PreparedDataset, Store
from noref.data.storing import write_store
from noref.scan import Header, Role, Scan

RETROSPECTIVE = Preparation(mask="random2d", acceleration=2, acs=4)


def padded(one: Scan) -> Scan:
    """The scan with two lines that were never sampled, and all that a header can say."""
    padding = torch.zeros_like(one.mask)
    padding[:2] = True
    header = Header((8, 8), (1.0, 1.5, 3.0), (0.1, 0.2, 1 / 3), ((1.0, 0.0, 0.0),) * 3, "T2 «ä»")
    kept = one.undersampled(~padding)
    return replace(kept, padding=padding, header=header, noise_cov=torch.eye(2) * (1 + 1j), raw=False)


def targets() -> Dataset:
    made = [undersampled(scan((20, 16), 2, seed=i, noise=0.01), "random2d", 2, 4) for i in range(3)]
    made.append(padded(undersampled(scan((18, 15), 2, seed=8, noise=0.01), "lines", 2, 6)))
    return Dataset(made, Preparation(), Role.TARGET)


def proxies() -> Dataset:
    return Dataset([scan((20, 16), 2, seed=i, sets=2) for i in range(2)], RETROSPECTIVE, Role.PROXY)


def single_coil() -> Dataset:
    return Dataset([scan((17, 16), 1, seed=i) for i in range(2)], RETROSPECTIVE, Role.TARGET)


def estimated() -> Dataset:
    made = [scan((32, 24), 4, seed=i, keep_maps=False) for i in range(2)]
    how = Preparation(mask="lines", acceleration=2, acs=12, maps="acs")
    return Dataset([replace(one, clean=one.kspace + 0.1) for one in made], how, Role.PROXY)


def stored(folder: Path | str, made: Dataset) -> PreparedDataset:
    write_store(folder, map(made.prepared, range(len(made))), made.how, made.role)
    return PreparedDataset(Store(folder), made.how, made.role)


def differing(one: Scan, other: Scan) -> list[str]:
    """The fields in which two scans differ, in any bit."""

    def same(a: object, b: object) -> bool:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        return type(a) is type(b) and a == b

    return [name for name in vars(one) if not same(getattr(one, name), getattr(other, name))]
