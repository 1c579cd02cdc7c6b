"""Frames of a dynamic scan complement each other, and each holds as many lines as it should."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noref.errors import NorefError
from noref.sampling.centre import centre_lines
from noref.sampling.frames import FRAME_MASKS, frame_masks
from noref.seeding import Key


def key(seed: int = 0, scan: str = "s/a/0") -> Key:
    return Key(seed, scan, "mask")


sizes = st.integers(8, 70)
seeds = st.integers(0, 1000)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(list(FRAME_MASKS)),
    frames=st.integers(1, 12),
    size=sizes,
    acceleration=st.integers(1, 8),
    acs=st.integers(0, 6),
    seed=seeds,
)
def test_frames_are_whole_lines_and_hold_the_acs(
    kind: str, frames: int, size: int, acceleration: int, acs: int, seed: int
) -> None:
    acs = min(acs, size // acceleration)
    masks = frame_masks(kind, frames, (size, 5), acceleration, acs, key(seed))
    assert masks.dtype is torch.bool
    assert masks.shape == (frames, size, 5)
    assert torch.equal(masks, masks[..., :1].expand(masks.shape))
    assert bool(masks[:, centre_lines(acs, size)].all())
    assert torch.equal(masks, frame_masks(kind, frames, (size, 5), acceleration, acs, key(seed)))


@settings(max_examples=40, deadline=None)
@given(size=sizes, acceleration=st.integers(1, 8), acs=st.integers(0, 6), seed=seeds)
def test_r_interleaved_frames_hold_every_line_once(size: int, acceleration: int, acs: int, seed: int) -> None:
    frames = 2 * acceleration + 1
    masks = frame_masks("kt-equispaced", frames, (size, 2), acceleration, acs, key(seed))[..., 0]
    outside = ~centre_lines(acs, size)
    for begin in range(frames - acceleration + 1):
        times = masks[begin : begin + acceleration].sum(0)
        assert torch.equal(times[outside], torch.ones(int(outside.sum()), dtype=times.dtype))


@settings(max_examples=60, deadline=None)
@given(size=sizes, acceleration=st.floats(1, 8), share=st.floats(0, 1), frames=st.integers(1, 30), seed=seeds)
def test_random_frames_are_exact_and_share_no_line_before_all_were_taken(
    size: int, acceleration: float, share: float, frames: int, seed: int
) -> None:
    acs = int(share * size / acceleration)
    masks = frame_masks("kt-lines", frames, (size, 2), acceleration, acs, key(seed))[..., 0]
    assert masks.sum(-1).tolist() == [round(size / acceleration)] * frames
    outside = masks[:, ~centre_lines(acs, size)]
    for number in range(1, frames + 1):
        times = outside[:number].sum(0)
        if len(times):
            assert int(times.max() - times.min()) <= 1


def test_random_frames_favour_no_line_and_no_order() -> None:
    mean = torch.stack(
        [frame_masks("kt-lines", 3, (24, 1), 6, 0, key(seed))[..., 0].double() for seed in range(800)]
    ).mean(0)
    # Every frame takes 4 of 24 lines; five standard errors are 0.066.
    assert float((mean - 4 / 24).abs().max()) < 0.066


@pytest.mark.parametrize("kind", FRAME_MASKS)
def test_frames_depend_on_seed_and_scan(kind: str) -> None:
    first = frame_masks(kind, 5, (60, 4), 6, 4, key())
    others = [frame_masks(kind, 5, (60, 4), 6, 4, key(seed, scan)) for seed, scan in [(1, "a"), (2, "b")]]
    assert not all(torch.equal(first, other) for other in others)


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(NorefError, match="mask kt-spiral is unknown; give kt-equispaced or kt-lines"):
        frame_masks("kt-spiral", 4, (32, 4), 4, 4, key())
    with pytest.raises(NorefError, match=r"acceleration 2\.5 is the spacing of lines"):
        frame_masks("kt-equispaced", 4, (32, 4), 2.5, 4, key())
    with pytest.raises(NorefError, match="9 calibration lines of 32 leave no room for acceleration 4"):
        frame_masks("kt-lines", 4, (32, 4), 4, 9, key())
