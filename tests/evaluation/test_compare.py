from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noref.evaluation.compare import choice_by_gamma, differences, holm
from noref.seeding import Key


def scores(values: np.ndarray) -> dict[str, float]:
    return {f"sub-{i}": float(value) for i, value in enumerate(values)}


def test_holms_textbook_example() -> None:
    # Four tests, as in R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(p) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({}) == {}


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_order_and_never_helps(p_values: list[float]) -> None:
    given_p = {str(i): p for i, p in enumerate(p_values)}
    corrected = holm(given_p)
    assert all(given_p[name] <= corrected[name] <= 1 for name in given_p)
    ranked = sorted(given_p, key=given_p.__getitem__)
    assert [corrected[name] for name in ranked] == sorted(corrected.values())


def test_differences_are_paired() -> None:
    rng = Key(0, "", "test").numpy()
    baseline = rng.normal(30, 5, 20)
    gain = rng.normal(1, 0.3, 20)
    found = differences(scores(baseline), {"m": scores(baseline + gain)})["m"]
    assert found.mean == pytest.approx(gain.mean())
    reference = stats.bootstrap((gain,), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval), abs=0.02)
    assert found.p == pytest.approx(stats.wilcoxon(baseline + gain, baseline).pvalue)


def test_only_shared_subjects_count() -> None:
    baseline = {"a": 1.0, "b": 2.0, "c": 3.0}
    found = differences(baseline, {"m": {"b": 4.0, "c": 6.0, "d": 9.0}, "n": {"d": 1.0}})
    assert found.keys() == {"m"}
    assert (found["m"].mean, found["m"].low, found["m"].high, found["m"].subjects) == (2.5, 2.0, 3.0, 2)


def test_scans_of_one_subject_are_averaged_first() -> None:
    baseline = {f"{subject}/{scan}": 0.0 for subject in "ab" for scan in range(5)}
    gains = {"a/0": 1.0, "a/1": 2.0, "a/2": 3.0, "b/0": 10.0}
    found = differences(baseline, {"m": gains})["m"]
    assert (found.mean, found.low, found.high) == (6, 2, 10)
    assert (found.subjects, found.p) == (2, None)


@pytest.mark.parametrize(("subjects", "tested"), [(1, False), (5, False), (6, True)])
def test_few_subjects_are_not_tested(subjects: int, tested: bool) -> None:
    values = np.arange(subjects, dtype=float)
    found = differences(scores(values), {"m": scores(values + 1 + values / 10)})["m"]
    assert (found.p is not None) == tested
    if not tested:
        assert (found.low, found.high) == pytest.approx((1, 1 + (subjects - 1) / 10))


def test_equal_methods_do_not_differ() -> None:
    values = scores(np.arange(9.0))
    found = differences(values, {"m": values})["m"]
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_gamma_that_ranks_like_the_reference() -> None:
    rows = [{"step": s, "gamma": 1 / (1 + s), "psnr": 20.0 + s} for s in range(5)]
    choice = choice_by_gamma([{"step": 0, "loss": 1.0}, *rows, {"gamma": float("nan"), "psnr": 99.0}])
    assert choice is not None
    assert (choice.candidates, choice.rank_correlation, choice.lost) == (5, pytest.approx(1), 0)


def test_gamma_that_misleads() -> None:
    rows = [{"gamma": g, "psnr": p} for g, p in [(0.1, 25.0), (0.2, 28.0), (0.3, 30.0)]]
    choice = choice_by_gamma(rows)
    assert choice is not None
    assert (choice.rank_correlation, choice.lost) == (pytest.approx(-1), 5)


@pytest.mark.parametrize("rows", [[], [{"gamma": 0.1, "psnr": 20.0}] * 4, [{"gamma": 0.1}] * 4])
def test_nothing_to_choose(rows: list[dict[str, float]]) -> None:
    assert choice_by_gamma(rows) is None
