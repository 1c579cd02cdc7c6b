"""Scores that outlive the runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noref.errors import NorefError
from noref.evaluation.results import METRICS, MethodResult, SubjectScore
from noref.experiments import EXPERIMENTS
from noref.experiments.kept import Kept, check_same_scans, keep, kept
from noref.experiments.tables import FINGERPRINT
from noref.scoring import Scored

SIZE = {"matrix": 48, "phases": None, "steps": 20}
SUBJECTS = ["siat6/siat6-00", "siat6/siat6-01"]


def run(row: str = "ssdu", seed: int = 0, psnr: float | None = 26.586412) -> Kept:
    scores = [SubjectScore(subject, psnr, 0.85, 0.03, 0.17, 0.18, 0.2, 0.08) for subject in SUBJECTS]
    curve = [{"step": 1, "loss": 0.5}, {"step": 2, "epoch": 1, "stage": 0, "gamma": 0.25, "psnr": 20.5}]
    scored = Scored(MethodResult(row, scores), curve, "a method")
    return Kept(row, seed, SIZE, 20.6169, "noref benchmark brain", 0.17, {"error": 0.5}, scored)


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "results" / "brain-8x.jsonl"
    assert kept(path, SIZE) == []
    keep(path, [run(), run("idr", 1, None), replace(run("unet"), hours=math.nan)])
    first, second, third = kept(path, SIZE)
    assert first == replace(
        run(), scored=replace(run().scored, curve=run().scored.curve[1:], result=first.scored.result)
    )
    assert [score.subject for score in first.scored.result.scores] == SUBJECTS
    assert first.scored.result.scores[0].psnr == pytest.approx(26.586412, rel=1e-5)
    assert (second.row, second.seed, second.scored.result.scores[0].psnr) == ("idr", 1, None)
    assert math.isnan(third.hours)


@given(st.lists(st.floats(allow_subnormal=False), min_size=len(METRICS), max_size=len(METRICS)))
def test_scores_keep_six_digits(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("kept") / "one.jsonl"
    before = run()
    scored = replace(before.scored, result=MethodResult("ssdu", [SubjectScore("a", *values)]))
    keep(path, [replace(before, scored=scored)])
    (score,) = kept(path, SIZE)[0].scored.result.scores
    for metric, value in zip(METRICS, values, strict=True):
        found = getattr(score, metric.key)
        assert found is None if not math.isfinite(value) else math.isclose(found, value, rel_tol=1e-5)


def test_scores_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "brain-8x.jsonl"
    keep(path, [run()])
    with pytest.raises(NorefError, match="line 1 is of another size, matrix 48, phases None, steps 20"):
        kept(path, SIZE | {"steps": 30})


@pytest.mark.parametrize(
    "line", ["{", "[]", "null", '{"row": "ssdu"}', '{"row": "ssdu", "scores": {"a": {"x": 1}}}']
)
def test_lines_that_are_none_are_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "brain-8x.jsonl"
    keep(path, [run()])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(NorefError, match=r"brain-8x\.jsonl: line 2 is no run's scores"):
        kept(path, SIZE)


def test_scores_of_other_scans_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "brain-8x.jsonl"
    check_same_scans(path, [run()], 20.617, SUBJECTS)
    said = "ssdu, seed 0, was scored on other scans than these"
    with pytest.raises(NorefError, match=said):
        check_same_scans(path, [run()], 20.7, SUBJECTS)
    with pytest.raises(NorefError, match=said):
        check_same_scans(path, [run()], 20.6169, SUBJECTS[::-1])


def test_scans_can_be_known_again_in_every_experiment() -> None:
    assert all(FINGERPRINT in experiment.classical for experiment in EXPERIMENTS.values())


def test_the_results_of_this_repository_can_be_read() -> None:
    files = list((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.jsonl"))
    assert files
    for path in files:
        size = json.loads(path.read_text(encoding="utf-8").splitlines()[0])["size"]
        runs = kept(path, size)
        table = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert {one.row for one in runs} <= {method["name"] for method in table["methods"]}
        assert len({(one.row, one.seed) for one in runs}) == len(runs)
