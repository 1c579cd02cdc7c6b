"""A bank holds masks of the acquisition's kind, and always some that show what a scan did not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from noref.coils.calibration import acs_box
from noref.sampling.bank import drawn_alike, mask_bank
from noref.sampling.draw import draw_units, sampled_in_lines
from noref.sampling.lines import equispaced_lines, random_lines
from noref.sampling.points import random_points
from noref.seeding import Key

SHAPE = (60, 44)


def key(number: int) -> Key:
    return Key(number, "scan", "mask")


def acquired(kind: str, number: int, shape: tuple[int, int] = SHAPE) -> Tensor:
    if kind == "points":
        return random_points(shape, 4, 8, key(number))
    return random_lines(shape, 4, 8, key(number))


def without_gamma(mask: Tensor, number: int) -> Tensor:
    beside = mask.clone()
    beside[acs_box(mask)] = False
    return mask & ~draw_units(beside, beside, 0.08, Key(number, "scan", "holdout"))


@pytest.mark.parametrize("kind", ["lines", "points"])
@given(number=st.integers(0, 1000), shape=st.sampled_from([SHAPE, (61, 45), (64, 33)]))
def test_one_mask_for_all_scans_gives_others_of_its_kind(
    kind: str, number: int, shape: tuple[int, int]
) -> None:
    mask = acquired(kind, number, shape)
    beside = mask.clone()
    beside[acs_box(mask)] = False
    # Of two lines Γ takes half.
    assume(int(beside.any(1).sum()) > 2)
    drawn = drawn_alike([without_gamma(mask, scan) for scan in range(6)])
    assert len(drawn) > 10
    rows, columns = acs_box(mask)
    for other in drawn:
        assert bool(other[rows, columns].all())
        assert sampled_in_lines(other) == (kind == "lines")
        # As many samples as Γ left.
        assert 0.8 * int(mask.sum()) <= int(other.sum()) <= int(mask.sum())
    assert sum(int((other & ~mask).sum()) for other in drawn) > 0.1 * sum(int(m.sum()) for m in drawn)


@pytest.mark.parametrize("kind", ["lines", "points"])
def test_they_reach_no_farther_and_are_as_dense(kind: str) -> None:
    mask = acquired(kind, 3)
    mask[:9] = False
    mask[-4:] = False
    drawn = torch.stack(drawn_alike([mask]))
    assert not bool(drawn[:, :9].any())
    assert not bool(drawn[:, -4:].any())
    near, far = (slice(19, 41), slice(9, 19))
    if kind == "points":
        assert float(drawn[:, near].float().mean()) > 1.5 * float(drawn[:, far].float().mean())


@pytest.mark.parametrize("kind", ["lines", "points"])
def test_scans_with_masks_of_their_own_are_each_others_bank(kind: str) -> None:
    masks = [without_gamma(acquired(kind, number), number) for number in range(4)]
    assert mask_bank({SHAPE: masks})[SHAPE] is masks


def test_evenly_spaced_masks_are_shifted() -> None:
    mask = equispaced_lines(SHAPE, 4, 8, key(0))
    bank = mask_bank({SHAPE: [mask, mask]})[SHAPE]
    assert torch.equal(bank[0], mask)
    assert 1 < len(bank) < 16


def test_a_full_mask_has_no_others() -> None:
    full = torch.ones(SHAPE, dtype=torch.bool)
    assert drawn_alike([full]) == []
