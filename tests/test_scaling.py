"""The plan of docs/scaling.md is what its script works out."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_page_holds_what_the_script_works_out() -> None:
    spec = importlib.util.spec_from_file_location("plan", ROOT / "benchmarks" / "plan.py")
    assert spec is not None
    assert spec.loader is not None
    plan = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plan)
    measured = json.loads(plan.MEASURED.read_text())
    assert plan.table(measured) in (ROOT / "docs" / "scaling.md").read_text()
    for key in ("flops", "kept"):
        predicted = plan.predicted(measured, key, 128, 8)
        assert measured["128², 8 coils"][key] == pytest.approx(predicted, rel=0.05)


def test_the_page_says_how_fast_two_processes_were() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text())
    ratios = found["times faster than one"]
    page = " ".join((ROOT / "docs" / "scaling.md").read_text().split())
    by_cpu, by_clock = ({way: ratios[f"{way} ({by})"] for way in ("two", "apart")} for by in ("cpu", "wall"))
    low, high = by_clock["two"]["interval"]
    assert by_clock["two"]["median"] >= 1.8
    assert (
        f"two ranks are {by_cpu['two']['median']:.2f} times as fast as one by CPU time and "
        f"{by_clock['two']['median']:.2f} by the clock (95 %: {low:.2f} to {high:.2f}); "
        f"the two that share nothing {by_cpu['apart']['median']:.2f} and {by_clock['apart']['median']:.2f}"
    ) in page
