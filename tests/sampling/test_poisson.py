from __future__ import annotations

import numpy as np
import pytest
import sigpy.mri
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.sampling import poisson
from noref.sampling.masks import acquisition_mask
from noref.sampling.poisson import poisson_points, radial_distance
from noref.seeding import Key


def key(seed: int) -> Key:
    return Key(seed, "s/a/0", "mask")


def closest(points: NDArray[np.bool_], radius: NDArray[np.float64]) -> float:
    """The smallest distance of two points over the smaller of their radii, by comparing all pairs."""
    where = np.argwhere(points)
    metres = where * (max(points.shape) / np.array(points.shape))
    apart = np.linalg.norm(metres[:, None] - metres, axis=-1)
    smaller = np.minimum.outer(radius[points], radius[points])
    ratio = apart / smaller
    np.fill_diagonal(ratio, np.inf)
    return float(ratio.min(initial=np.inf))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    block=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    slope=st.floats(0, 20),
    corners=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_points_keep_their_distance_and_leave_no_room(
    shape: tuple[int, int], block: tuple[int, int], slope: float, corners: bool, seed: int
) -> None:
    block = (min(block[0], shape[0]), min(block[1], shape[1]))
    points = poisson._throw(poisson._discs(shape, block, corners, slope), key(seed))
    distance = radial_distance(shape, block)
    assert closest(points, 0.5 + slope * distance) >= 1
    # Everywhere else is the block, beyond the ellipse, or inside some point's disc.
    possible = np.ones(shape, np.bool_) if corners else distance < 1
    rows, columns = (slice(n // 2 - b // 2, n // 2 - b // 2 + b) for n, b in zip(shape, block, strict=True))
    possible[rows, columns] = False
    assert not (points & ~possible).any()
    stretch = max(shape) / np.array(shape)
    where = np.argwhere(points)
    reach = 1 + slope * distance[points]
    for place in np.argwhere(possible & ~points):
        assert (np.linalg.norm((where - place) * stretch, axis=-1) < reach).any()


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 48), st.integers(8, 48)),
    rate=st.floats(1.0, 30),
    seed=st.integers(0, 1000),
)
def test_so_many_points_as_asked_for_and_apart(shape: tuple[int, int], rate: float, seed: int) -> None:
    block = (3, 2)
    count = max(round(shape[0] * shape[1] / rate) - 6, 0)
    points = poisson_points(shape, block, count, key(seed)).numpy()
    assert points.sum() == count
    if count:
        slope = poisson._slope(shape, block, True, count)
        # A draw of too few points is made again with smaller discs, hardly ever with ones much smaller.
        radius = 0.5 + 0.8 * slope * radial_distance(shape, block)
        assert closest(points, radius) >= 1


def test_an_ellipse_too_small_is_refused() -> None:
    with pytest.raises(NorefError, match=r"all of the ellipse is 1\.\d\d-fold .* acceleration 1\.1 is less"):
        acquisition_mask("poisson-elliptical", (32, 32), 1.1, 4, key(0))


def spectrum(masks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean power of what differs from mask to mask, over its own mean, by distance from zero in bins of 4."""
    power = (np.abs(np.fft.fft2(masks - masks.mean(0))) ** 2).mean(0)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) * n for n in masks.shape[1:]), indexing="ij"))
    rings = (frequency // 4).astype(int)
    mean = np.bincount(rings.ravel(), power.ravel()) / np.bincount(rings.ravel())
    return np.asarray(mean / power.mean())


def test_sigpy_has_the_same_density_and_the_same_noise() -> None:
    shape, calib, rate = (64, 64), 8, 6
    theirs = np.stack(
        [
            np.abs(sigpy.mri.poisson(shape, rate, (calib, calib), seed=seed, dtype=np.float32))
            for seed in range(24)
        ]
    ).astype(np.float64)
    ours, random = (
        np.stack(
            [acquisition_mask(kind, shape, rate, calib, key(seed)).numpy() for seed in range(24)]
        ).astype(np.float64)
        for kind in ("poisson-elliptical", "random2d")
    )
    assert theirs.mean() == pytest.approx(ours.mean(), rel=0.03)
    distance = radial_distance(shape, (calib, calib))
    for low in np.arange(0, 1, 0.2):
        ring = (distance > low) & (distance <= low + 0.2)
        assert ours[:, ring].mean() == pytest.approx(theirs[:, ring].mean(), rel=0.2)
    assert not ours[:, distance >= 1].any()
    # Blue noise: random points have as much power at low frequencies as at high ones.
    blue, reference, white = spectrum(ours), spectrum(theirs), spectrum(random)
    assert white[:3].mean() > 0.7
    assert blue[:3].mean() < 0.4
    assert blue[:3].mean() < 1.5 * reference[:3].mean()


def test_a_mask_does_not_depend_on_those_before() -> None:
    first = acquisition_mask("poisson", (40, 33), 4, 6, key(3))
    acquisition_mask("poisson", (40, 33), 4, 6, key(4))
    poisson._slope.cache_clear()
    poisson._discs.cache_clear()
    assert torch.equal(first, acquisition_mask("poisson", (40, 33), 4, 6, key(3)))
