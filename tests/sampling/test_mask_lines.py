"""Masks of lines are those of fastMRI and DeepInverse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noref.errors import NorefError
from noref.sampling.draw import draw
from noref.sampling.masks import MASKS, SPACED, acquisition_mask
from noref.sampling.offsets import shifted_offsets
from noref.seeding import Key


def key(seed: int = 0) -> Key:
    return Key(seed, "s/a/0", "mask")


# What fastmri 0.3.0 from PyPI gives for shape (…, size, …), one acceleration, one centre fraction and offset.
FASTMRI = [
    ("magic", 40, 4, 0.1, [1, 5, 9, 13, 17, 18, 19, 20, 21, 25, 29, 33, 37]),
    ("magic", 40, 4, 0.1, [3, 7, 11, 15, 18, 19, 20, 21, 23, 27, 31, 35, 39]),
    ("magic", 41, 5, 0.075, [0, 5, 10, 15, 19, 20, 21, 23, 28, 33, 38]),
    ("magic", 41, 5, 0.075, [2, 7, 12, 17, 19, 20, 21, 25, 30, 35, 40]),
    ("regular", 40, 4, 0.1, [3, 7, 11, 15, 18, 19, 20, 21, 23, 27, 31, 35, 39]),
    ("regular", 41, 5, 0.075, [2, 7, 12, 17, 19, 20, 21, 22, 27, 32, 37]),
    ("equispaced", 64, 4, 0.1, [3, 9, 15, 20, 26, 29, 30, 31, 32, 33, 34, 38, 44, 49, 55, 61]),
]


@pytest.mark.parametrize(("kind", "size", "acceleration", "acs", "lines"), FASTMRI)
def test_masks_of_fastmri_are_among_ours(
    kind: str, size: int, acceleration: int, acs: float, lines: list[int]
) -> None:
    masks = [acquisition_mask(kind, (size, 2), acceleration, acs, key(seed)) for seed in range(40)]
    assert lines in [mask[:, 0].nonzero()[:, 0].tolist() for mask in masks]
    # As many different ones as there are offsets; for R = 4 two of the magic ones are the same lines.
    assert len({mask.numpy().tobytes() for mask in masks}) <= acceleration + 2


@settings(max_examples=40, deadline=None)
@given(size=st.integers(8, 90), spacing=st.integers(1, 9), acs=st.integers(0, 6), seed=st.integers(0, 99))
def test_regular_lines_are_evenly_spaced_beside_the_acs(size: int, spacing: int, acs: int, seed: int) -> None:
    lines = acquisition_mask("regular", (size, 3), spacing, acs, key(seed))[:, 0].numpy()
    outside = np.ones(size, bool)
    outside[size // 2 - acs // 2 : size // 2 - acs // 2 + acs] = False
    grids = [np.arange(size) % spacing == offset for offset in range(spacing)]
    assert any(np.array_equal(lines[outside], grid[outside]) for grid in grids)


def test_the_offsets_of_a_regular_mask_are_all_that_could_have_been_drawn() -> None:
    size, spacing, acs = 96, 4, 12
    drawn = {
        acquisition_mask("regular", (size, 5), spacing, acs, key(s)).numpy().tobytes() for s in range(40)
    }
    assert len(drawn) == spacing
    found = shifted_offsets([acquisition_mask("regular", (size, 5), spacing, acs, key())])
    assert {mask.numpy().tobytes() for mask in found} == drawn


def test_a_magic_mask_and_its_mirror_image_are_evenly_spaced() -> None:
    size, acs = 128, 8
    for seed in range(6):
        lines = acquisition_mask("magic", (size, 2), 4, acs, key(seed))[1:, 0]  # without the line of −N/2
        both = (lines | lines.flip(0)).nonzero()[:, 0].numpy()
        centre = size // 2 - 1
        upper = both[both > centre + acs // 2]
        assert set(np.diff(upper)) == {2}
        assert not bool((lines & lines.flip(0))[centre + acs // 2 + 1 :].any())


@pytest.mark.parametrize("kind", sorted(SPACED))
def test_a_spacing_of_part_of_a_line_is_refused(kind: str) -> None:
    with pytest.raises(NorefError, match=f"mask {kind}: acceleration 2.5 is its spacing; give a whole"):
        acquisition_mask(kind, (32, 32), 2.5, 4, key())


@pytest.mark.parametrize("kind", sorted(SPACED))
def test_an_acs_larger_than_the_matrix_is_all_of_it(kind: str) -> None:
    assert bool(acquisition_mask(kind, (32, 32), 4, 40, key()).all())


def test_gaussian_lines_have_the_published_density() -> None:
    """Single lines beside an ACS of none are drawn in proportion to DeepInverse's density."""
    size, acceleration = 40, 40  # one line a mask
    draws = 4000
    counts = sum(
        acquisition_mask("gaussian1d", (size, 1), acceleration, 0, key(seed))[:, 0].double()
        for seed in range(draws)
    )
    assert isinstance(counts, torch.Tensor)
    distance = np.arange(size) - size / 2
    weight = np.exp(-(0.5 / (size / 10.0) ** 2) * distance**2) + 1 / (2 * acceleration)
    expected = torch.from_numpy(weight / weight.sum())
    # Five standard errors of the most likely line's share.
    torch.testing.assert_close(counts / draws, expected, rtol=0, atol=5 * (0.1 * 0.9 / draws) ** 0.5)


def test_gaussian_lines_are_denser_near_the_acs_and_reach_the_border() -> None:
    size = 64
    mean = torch.stack(
        [acquisition_mask("gaussian1d", (size, 1), 4, 4, key(seed))[:, 0].double() for seed in range(300)]
    ).mean(0)
    near, middle, far = mean[36:42].mean(), mean[44:50].mean(), mean[54:].mean()
    assert near > 2 * middle > 2 * far > 0
    for start, stop in ((0, 10), (54, 64)):
        assert float(mean[start:stop].min()) > 0.01


def test_draws_of_lines_are_without_replacement() -> None:
    # Successive draws, not each on its own: the probabilities of two draws, from their formula.
    weight = torch.tensor([1.0, 2.0, 4.0])
    both = torch.zeros(3, 3)
    for seed in range(3000):
        i, j = draw(torch.ones(3, dtype=torch.bool), 2, key(seed), weight.log()).nonzero()[:, 0].tolist()
        both[i, j] += 1 / 3000
    p = weight / weight.sum()
    for i, j in itertools.combinations(range(3), 2):
        exact = p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))
        assert float(both[i, j]) == pytest.approx(float(exact), abs=0.045)


def test_all_kinds_are_offered_by_the_command() -> None:
    from typing import get_args, get_type_hints

    from noref.cli.simulate import simulate

    assert list(get_args(get_type_hints(simulate)["mask"])) == list(MASKS)
