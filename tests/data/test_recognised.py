"""Partial echo, partial Fourier and padding are told from gaps between lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from synthetic import scan, spokes, undersampled

from noref.data.recognised import recognised
from noref.scan import Scan

SHAPE = (64, 48)


def cut(one: Scan, ky: slice = slice(None), kx: slice = slice(None)) -> Scan:
    """The scan of which only a part was measured."""
    kept = torch.zeros_like(one.mask)
    kept[ky, kx] = True
    return one.undersampled(kept)


@pytest.mark.parametrize("kind", ["lines", "equispaced", "regular", "poisson"])
@pytest.mark.parametrize("acceleration", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_each_is_seen_and_nothing_else(kind: str, acceleration: int, seed: int) -> None:
    whole = scan(SHAPE, 1, seed)
    one = whole if acceleration == 1 else undersampled(whole, kind, acceleration, 8, seed)
    assert recognised(one) == []
    assert recognised(cut(one, kx=slice(14, None))) == ["partial echo"]
    padded = torch.zeros_like(one.mask)
    padded[:5] = padded[-5:] = True
    assert recognised(replace(one.undersampled(~padded), padding=padded)) == ["padding"]
    if acceleration <= 2:
        assert recognised(cut(one, ky=slice(24, None))) == ["partial Fourier"]
        assert recognised(cut(one, ky=slice(0, 40), kx=slice(0, 34))) == ["partial echo", "partial Fourier"]


def test_spokes_have_neither() -> None:
    assert recognised(spokes(SHAPE, 1)) == []
