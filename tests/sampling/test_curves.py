"""Pseudo-radial and pseudo-spiral masks: connected curves from the centre, in exact number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from noref.sampling import curves
from noref.sampling.masks import acquisition_mask
from noref.sampling.spokes import spoke_angles
from noref.seeding import Key

KINDS = ["pseudo-radial", "pseudo-spiral"]


def key(seed: int = 0) -> Key:
    return Key(seed, "s/a/0", "mask")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(64, 64), (63, 80), (51, 33)])
def test_all_samples_hang_together(kind: str, shape: tuple[int, int]) -> None:
    for seed in range(5):
        mask = acquisition_mask(kind, shape, 5, 3, key(seed)).numpy()
        _, parts = ndimage.label(mask, structure=np.ones((3, 3)))
        # An arm may leave k-space at one side and come back at a corner.
        assert parts == 1 if kind == "pseudo-radial" else parts <= 4
        assert mask[shape[0] // 2, shape[1] // 2]


@settings(max_examples=30, deadline=None)
@given(size=st.integers(8, 60), seed=st.integers(0, 999))
def test_a_spoke_has_a_sample_in_every_line_it_crosses_and_no_other(size: int, seed: int) -> None:
    angle = float(np.random.default_rng(seed).uniform(0, 2 * math.pi))
    places = curves._places(curves._spokes(np.array([angle]), size), (size, size))
    rows, columns = places // size - size // 2, places % size - size // 2
    along = rows if abs(math.cos(angle)) >= abs(math.sin(angle)) else columns
    assert sorted(along) == list(range(-(size // 2), (size + 1) // 2)) or len(along) >= size - 1
    assert len(set(along)) == len(along)
    # Within half a sample of the straight line.
    distance = rows * math.sin(angle) - columns * math.cos(angle)
    assert np.abs(distance).max() <= 0.5 + 1e-9
    assert np.array_equal(np.abs(along), np.sort(np.abs(along)))


def test_spokes_of_a_pseudo_radial_mask_follow_each_other_by_the_golden_angle() -> None:
    shape = (101, 101)
    mask = acquisition_mask("pseudo-radial", shape, 12, 1, key(3)).numpy()
    start = float(key(3).numpy().uniform(0, 2 * math.pi))
    covered, spokes = np.zeros(shape, bool), 0
    while covered.sum() < mask.sum():
        angle = float(spoke_angles(spokes + 1, golden=True, start=start)[-1])
        reach = 1 / max(abs(math.cos(angle)), abs(math.sin(angle)))
        for step in np.arange(-50, 51):
            y, x = (int(np.rint(step * reach * f(angle))) + 50 for f in (math.cos, math.sin))
            covered[y, x] = True
        spokes += 1
    # All but a part of the last spoke.
    assert not (mask & ~covered).any()
    assert (covered & ~mask).sum() < 101
    assert spokes == pytest.approx(101 / 12, abs=2)


@pytest.mark.parametrize("kind", KINDS)
def test_no_direction_is_favoured(kind: str) -> None:
    shape = (64, 64)
    mean = np.mean([acquisition_mask(kind, shape, 6, 0, key(s)).numpy() for s in range(200)], 0)
    ky, kx = (np.arange(n) - n // 2 for n in shape)
    radius, angle = np.hypot(ky[:, None], kx), np.arctan2(ky[:, None], kx)
    ring = (radius > 8) & (radius < 30)
    sectors = ((angle + math.pi) / (math.pi / 4)).astype(int) % 8
    shares = np.array([mean[ring & (sectors == s)].mean() for s in range(8)])
    assert np.abs(shares / shares.mean() - 1).max() < 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_falls_as_documented(kind: str) -> None:
    shape = (256, 256)
    mean = np.mean([acquisition_mask(kind, shape, 10, 0, key(s)).numpy() for s in range(30)], 0)
    radius = np.hypot(*(np.mgrid[:256, :256] - 128))
    edges = np.arange(40, 120, 10)
    density = np.array([mean[(radius >= a) & (radius < a + 10)].mean() for a in edges])
    r = (edges + 5) / (128 * 2**0.5)
    expected = 1 / r if kind == "pseudo-radial" else np.sqrt(1 + math.pi**2 * r) / r
    ratio = density / expected
    assert np.abs(ratio / ratio.mean() - 1).max() < 0.06


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_does_not_depend_on_those_before(kind: str) -> None:
    first = acquisition_mask(kind, (40, 33), 4, 6, key(3))
    acquisition_mask(kind, (40, 33), 4, 6, key(4))
    curves._arm.cache_clear()
    assert torch.equal(first, acquisition_mask(kind, (40, 33), 4, 6, key(3)))
