"""The offsets of one evenly spaced mask are those that the scanner could have chosen, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noref.sampling.lines import equispaced_lines, random_lines
from noref.sampling.offsets import shifted_offsets
from noref.sampling.points import random_points
from noref.seeding import Key

COLUMNS = 5


def mask(lines: set[int], size: int) -> Tensor:
    held = torch.zeros(size, COLUMNS, dtype=torch.bool)
    held[sorted(lines)] = True
    return held


def lines_of(masks: list[Tensor]) -> list[set[int]]:
    assert all(torch.equal(m, m[:, :1].expand_as(m)) for m in masks)
    return [set(m[:, 0].nonzero().flatten().tolist()) for m in masks]


@pytest.mark.parametrize("spacing", [2, 3, 5])
@pytest.mark.parametrize("first", [0, 1])
def test_every_offset_with_the_acs_kept(spacing: int, first: int) -> None:
    size, acs = 64, set(range(27, 37))
    acquired = acs | set(range(first, size, spacing))
    # Lines that touch the ACS cannot be told from it.
    low, high = 27, 36
    while low - 1 in acquired:
        low -= 1
    while high + 1 in acquired:
        high += 1
    kept = set(range(low, high + 1))
    last = max(range(first, size, spacing))
    reach = range(max(first - spacing + 1, 0), min(last + spacing - 1, size - 1) + 1)
    found = lines_of(shifted_offsets([mask(acquired, size)]))
    assert found == [kept | {k for k in reach if (k - first - s) % spacing == 0} for s in range(spacing)]
    assert found[0] == acquired
    assert set().union(*found) >= set(reach)


def test_lines_held_out_of_some_scans_or_of_all_come_back() -> None:
    size = 96
    acquired = set(range(2, size, 4)) | set(range(40, 56))
    whole = shifted_offsets([mask(acquired, size)])
    assert len(whole) == 4
    some = [mask(acquired - held, size) for held in ({2, 58}, {6}, {90, 10, 14})]
    assert lines_of(shifted_offsets(some)) == lines_of(whole)
    all_ = [mask(acquired - {10, 70, 74}, size), mask(acquired - {10, 70, 86}, size)]
    assert lines_of(shifted_offsets(all_)) == lines_of(whole)


@pytest.mark.parametrize("seed", range(6))
def test_fractional_spacings_of_fastmri(seed: int) -> None:
    shape, acceleration, acs = (150, COLUMNS), 4.0, 12
    acquired = equispaced_lines(shape, acceleration, acs, Key(seed, "", "mask"))
    found = shifted_offsets([acquired])
    spacing = acceleration * (acs - 150) / (acs * acceleration - 150)
    assert len(found) == round(spacing)
    assert torch.equal(found[0], acquired)
    centre = acquired.new_zeros(150)
    centre[69:81] = True
    for number, one in enumerate(found):
        assert bool(one[centre].all())
        moved = one[:, 0] & ~centre & ~found[0][:, 0]
        shifted = torch.zeros_like(centre)
        shifted[number:] = acquired[: 150 - number, 0]
        # Each line is one of the first mask's, moved, or came from under the ACS or in from below.
        odd = (moved & ~shifted).nonzero().flatten().tolist()
        assert all(k < spacing or 69 <= k < 81 + spacing for k in odd), odd
        outside = one[:, 0] & ~centre
        gaps = outside.nonzero().flatten().diff()
        assert int((gaps > 6).sum()) == 1


def test_the_acquisition_reaches_no_further() -> None:
    """Partial Fourier: a quarter of k-space is never sampled."""
    acquired = set(range(16, 64, 4)) | set(range(26, 38))
    found = lines_of(shifted_offsets([mask(acquired, 64)]))
    assert {min(lines) for lines in found} == {13, 14, 15, 16}
    assert all(lines >= set(range(26, 38)) for lines in found)


def test_columns_that_no_line_has_stay_empty() -> None:
    partial = mask(set(range(0, 64, 4)) | set(range(26, 38)), 64)
    partial[:, :2] = False
    found = shifted_offsets([partial])
    assert len(found) == 4
    assert not any(bool(one[:, :2].any()) for one in found)


@pytest.mark.parametrize(("size", "acceleration", "acs"), [(48, 4, 6), (32, 4, 4), (32, 3, 6), (48, 6, 4)])
def test_few_random_lines_are_not_taken_for_a_grid(size: int, acceleration: int, acs: int) -> None:
    keys = [Key(seed, "", "mask") for seed in range(100)]
    found = [shifted_offsets([random_lines((size, 2), acceleration, acs, key)]) for key in keys]
    assert sum(map(bool, found)) <= 2


def test_few_evenly_spaced_lines_are_known() -> None:
    for seed in range(10):
        acquired = equispaced_lines((48, COLUMNS), 4, 6, Key(seed, "", "mask"))
        assert torch.equal(shifted_offsets([acquired])[0], acquired)


@pytest.mark.parametrize(
    ("size", "acceleration", "acs"),
    [(128, 8, 10), (320, 4, 26), (368, 8, 14), (64, 4, 6), (320, 2, 26), (256, 2, 20), (128, 2, 10)],
)
def test_equispaced_masks_are_known_with_lines_held_out(size: int, acceleration: int, acs: int) -> None:
    for seed in range(5):
        acquired = equispaced_lines((size, COLUMNS), acceleration, acs, Key(seed, "", "mask"))
        whole = shifted_offsets([acquired])
        assert whole
        assert torch.equal(whole[0], acquired)
        lines = acquired[:, 0].nonzero().flatten().tolist()
        short = acquired.clone()
        short[lines[1]] = False
        assert lines_of(shifted_offsets([short])) == lines_of(whole)


@pytest.mark.parametrize("seed", range(8))
def test_other_acquisitions_have_none(seed: int) -> None:
    shape = (128, COLUMNS)
    keys = [Key(seed, str(scan), "mask") for scan in range(8)]
    assert shifted_offsets([random_lines(shape, 4, 10, keys[0])]) == []
    assert shifted_offsets([random_lines(shape, 4, 10, key) for key in keys]) == []
    assert shifted_offsets([random_points((64, 64), 4, 8, keys[0])]) == []
    offsets = [mask(set(range(first, 128, 4)) | set(range(58, 70)), 128) for first in (0, 1, 2)]
    assert shifted_offsets(offsets) == []
    assert shifted_offsets(offsets[::2]) == []
    assert shifted_offsets([torch.ones(shape, dtype=torch.bool)]) == []
    assert shifted_offsets([torch.zeros(shape, dtype=torch.bool)]) == []
