from __future__ import annotations

import time

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noref.sampling.draw import draw, draw_units, lines_of, sampled_in_lines
from noref.seeding import Key


def key(seed: int = 0) -> Key:
    return Key(seed, "s", "test")


@settings(deadline=None)
@given(size=st.integers(0, 60), chance=st.floats(0, 1), count=st.integers(0, 80), seed=st.integers(0, 99))
def test_exactly_so_many_candidates_are_drawn(size: int, chance: float, count: int, seed: int) -> None:
    candidates = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < chance
    drawn = draw(candidates, count, key(seed))
    assert drawn.shape == candidates.shape
    assert not bool((drawn & ~candidates).any())
    assert int(drawn.sum()) == min(count, int(candidates.sum()))
    assert torch.equal(drawn, draw(candidates, count, key(seed)))


def test_a_single_draw_is_proportional_to_the_weights() -> None:
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    draws = torch.stack(
        [draw(torch.ones(2, 2, dtype=torch.bool), 1, key(s), weights.log()).double() for s in range(4000)]
    )
    # Five standard errors of a share of 4000 draws are below 0.04.
    torch.testing.assert_close(draws.mean(0), weights.double() / 10, atol=0.04, rtol=0)


def test_later_draws_are_proportional_among_what_is_left() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    draws = torch.stack(
        [draw(torch.ones(3, dtype=torch.bool), 2, key(s), weights.log()).double() for s in range(4000)]
    )
    # P(i among two) = Σ over first draws j of p_j · p_i / (1 − p_j), plus p_i.
    p = weights.double() / 6
    expected = torch.tensor(
        [float(p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(3) if j != i)) for i in range(3)]
    )
    torch.testing.assert_close(draws.mean(0), expected.double(), atol=0.04, rtol=0)


def test_equal_weights_are_the_default() -> None:
    draws = torch.stack([draw(torch.ones(8, dtype=torch.bool), 3, key(s)).double() for s in range(3000)])
    torch.testing.assert_close(draws.mean(0), torch.full((8,), 3 / 8).double(), atol=0.05, rtol=0)


def test_the_work_is_bounded_however_extreme_the_weights() -> None:
    candidates = torch.ones(640, 640, dtype=torch.bool)
    log_weight = torch.full((640, 640), -1e6)
    log_weight[0, 0] = 0
    start = time.perf_counter()
    drawn = draw(candidates, 640 * 640 - 1, key(), log_weight)
    assert time.perf_counter() - start < 2
    assert int(drawn.sum()) == 640 * 640 - 1
    assert bool(drawn[0, 0])


def test_lines_are_told_from_points() -> None:
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[[1, 4]] = True
    assert sampled_in_lines(mask)
    assert lines_of(mask)[:, 0].tolist() == [False, True, False, False, True, False]
    partial = mask.clone()
    partial[:, :2] = False  # a read-out cut short, the same in every line
    assert sampled_in_lines(partial)
    partial[1, 2] = False
    assert not sampled_in_lines(partial)


def test_units_are_those_of_the_acquisition() -> None:
    lines = torch.zeros(20, 7, dtype=torch.bool)
    lines[::2] = True
    drawn = draw_units(lines, lines, 0.3, key())
    assert torch.equal(drawn, lines_of(drawn) & lines)
    assert int(lines_of(drawn).sum()) == 3
    points = torch.rand(20, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    drawn = draw_units(points, points, 0.3, key())
    assert int(drawn.sum()) == round(0.3 * int(points.sum()))
    assert not sampled_in_lines(drawn)


def test_a_line_with_a_part_that_may_not_be_drawn_is_not_drawn() -> None:
    mask = torch.ones(10, 6, dtype=torch.bool)
    candidates = mask.clone()
    candidates[4:6, 2:4] = False
    drawn = draw_units(candidates, mask, 1.0, key())
    assert lines_of(drawn)[:, 0].tolist() == [True] * 4 + [False] * 2 + [True] * 4
    assert bool(drawn[:4].all())
