"""Partial Fourier leaves out the first lines of any mask, and R counts it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noref.errors import NorefError
from noref.sampling.centre import acs_size, centre_block
from noref.sampling.masks import IN_POINTS, MASKS, SPACED, acquisition_mask
from noref.seeding import Key

SHARES = [6 / 8, 5 / 8]


def key(seed: int = 0) -> Key:
    return Key(seed, "s/a/0", "mask")


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", [(64, 48), (81, 65)])
def test_nothing_is_sampled_beyond_and_the_acs_is_whole(
    kind: str, share: float, shape: tuple[int, int]
) -> None:
    first = shape[0] - round(share * shape[0])
    masks = [acquisition_mask(kind, shape, 3, 8, key(seed), share) for seed in range(10)]
    together = torch.stack(masks).any(0)
    assert not bool(together[:first].any())
    # As far as may be: only corners, and the ellipse, keep a Gaussian and discs from the first line.
    assert bool(together[first : first + 4].any())
    block = centre_block(shape, 8, 8 if kind in IN_POINTS else shape[1])
    assert all(bool(mask[block].all()) for mask in masks)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in MASKS if kind not in SPACED]),
    shape=st.tuples(st.integers(24, 70), st.integers(24, 70)),
    acceleration=st.floats(2.6, 8),
    share=st.floats(0.56, 1),
    seed=st.integers(0, 999),
)
def test_r_counts_partial_fourier(
    kind: str, shape: tuple[int, int], acceleration: float, share: float, seed: int
) -> None:
    mask = acquisition_mask(kind, shape, acceleration, 2, key(seed), share)
    unit = 1 if kind in IN_POINTS else shape[1]
    count = round(mask.numel() / unit / acceleration)
    if kind == "equispaced":
        assert abs(int(mask.sum()) // unit - count) <= 2
    else:
        assert int(mask.sum()) == count * unit


@pytest.mark.parametrize("kind", MASKS)
def test_all_of_the_lines_are_no_partial_fourier(kind: str) -> None:
    plain = acquisition_mask(kind, (48, 40), 4, 6, key(2))
    assert torch.equal(plain, acquisition_mask(kind, (48, 40), 4, 6, key(2), 1.0))


@pytest.mark.parametrize("kind", sorted(SPACED))
def test_spaced_masks_only_lose_lines(kind: str) -> None:
    plain, partial = (acquisition_mask(kind, (48, 40), 4, 6, key(2), share) for share in (1.0, 0.75))
    assert torch.equal(partial[12:], plain[12:])


@pytest.mark.parametrize("kind", MASKS)
def test_what_cannot_be_had_is_refused_in_one_line(kind: str) -> None:
    with pytest.raises(
        NorefError, match=f"mask {kind}: partial_fourier 0.55 cuts into the 8 calib"
    ) as caught:
        acquisition_mask(kind, (64, 64), 4, 8, key(), 0.55)
    assert "\n" not in str(caught.value)
    if kind not in SPACED:
        with pytest.raises(NorefError, match=r"partial_fourier 0\.625 alone undersamples by more than"):
            acquisition_mask(kind, (64, 64), 1.5, 8, key(), 0.625)


@pytest.mark.parametrize("kind", ["lines", "random2d"])
def test_just_all_that_partial_fourier_leaves(kind: str) -> None:
    mask = acquisition_mask(kind, (64, 48), 4 / 3, acs_size(0.1, 64), key(), 0.75)
    assert not bool(mask[:16].any())
    assert bool(mask[16:].all())
