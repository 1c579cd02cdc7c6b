"""Parts of a data set: every subject in one, all of its scans with it, the same whatever else happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noref.config import load_config
from noref.data.files import open_scans
from noref.data.split import PARTS, Split
from noref.errors import NorefError
from noref.formats import Reading

SHARES = ((0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0), (1.0, 0.0, 0.0), (0.34, 0.33, 0.33))


@given(
    number=st.integers(3, 60),
    shares=st.sampled_from(SHARES),
    seed=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
def test_parts_hold_every_subject_once_by_their_shares(
    number: int, shares: tuple[float, float, float], seed: int, order: object
) -> None:
    names = [f"subject{i}" for i in range(number)]
    parts = {p: Split(p, shares, seed).of(names) for p, share in zip(PARTS, shares, strict=True) if share}
    assert sorted(name for part in parts.values() for name in part) == sorted(names)
    for share, part in zip((share for share in shares if share), parts.values(), strict=True):
        assert len(part) >= 1
        assert abs(len(part) - share * number) < 2
    order.shuffle(names)  # type: ignore[attr-defined]
    assert all(Split(p, shares, seed).of([*names, *names]) == part for p, part in parts.items())


def test_another_seed_draws_other_parts() -> None:
    names = [f"subject{i}" for i in range(40)]
    drawn = {frozenset(Split("test", (0.5, 0.0, 0.5), seed).of(names)) for seed in range(5)}
    assert len(drawn) == 5


def test_subjects_that_come_later_move_few_of_the_others() -> None:
    names = [f"subject{i}" for i in range(100)]
    before, after = (Split("train").of(names[:count]) for count in (90, 100))
    assert len(before - after) <= 5


def test_too_few_subjects_are_one_line() -> None:
    with pytest.raises(NorefError, match="split=test: none of 2 subjects is left for it"):
        Split("test").of(["a", "b"])
    with pytest.raises(NorefError, match="split=test: none of 9 subjects"):
        Split("test", (0.9, 0.1, 0.0)).of([str(i) for i in range(9)])


def test_shares_that_are_none_are_one_line() -> None:
    given_ = ["data.target.path=a", "data.target.split=train", "data.target.shares=[0.5,0.1,0.1]"]
    with pytest.raises(NorefError, match="must add up to 1"):
        load_config("default", given_)


def test_sessions_and_repetitions_of_a_subject_stay_together(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 8, 8)) + 1j
    for i in range(6):
        np.save(tmp_path / f"s{i}.npy", values)
    how = Reading(axes="set,slice,ky,kx")
    parts = [open_scans(str(tmp_path), how, split=Split(p, (0.5, 0.25, 0.25))) for p in PARTS]
    subjects = [{name.split("/")[0] for name in part.ids} for part in parts]
    assert sum(map(len, subjects)) == 6
    assert [len(part) for part in parts] == [6 * len(some) for some in subjects]


def test_validation_is_the_other_part_of_the_targets_path() -> None:
    data = load_config(
        "default", ["data.target.path=a", "data.target.split=train", "data.validation.split=test"]
    )
    assert data.data.validation is not None
    assert data.data.validation.path == "a"
    assert data.data.validation.chosen == Split("test")
