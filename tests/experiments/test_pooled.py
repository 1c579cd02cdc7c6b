"""Tables of several tables' scans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noref.errors import NorefError
from noref.evaluation.report import write_report
from noref.evaluation.results import MethodResult, Report, SubjectScore
from noref.experiments import EXPERIMENTS
from noref.experiments.experiment import Pooled
from noref.experiments.kept import Kept, Scans, Scores, keep
from noref.experiments.pooled import pool

SIZE: dict[str, int | None] = {"matrix": 48, "steps": 20}
EXPERIMENT = replace(
    EXPERIMENTS["brain"],
    pooled={"both": Pooled(("8x-fold1", "8x"), "Each tests once.", "scans are shared")},
    classical=("wavelet",),
)
PSNR = {
    "8x-fold1": {"wavelet": 18.0, "ssdu": 20.0, "default": 24.0, "supervised": 30.0},
    "8x": {"wavelet": 19.0, "ssdu": 22.0, "default": 27.0, "supervised": 28.0},
}
SUBJECTS = {"8x-fold1": "siat1", "8x": "siat6"}


def scores(table: str, psnr: float) -> dict[str, Scores]:
    """Of the two slices of a table's subject, 1 dB apart."""
    rest = {"ssim": 0.8, "nmse": 0.03, "nmae": 0.1, "hfen1": 0.2, "gamma": 0.3, "seconds": 0.1}
    return {
        f"{SUBJECTS[table]}/{index}": Scores(psnr=psnr + index - 0.5, **rest)  # type: ignore[arg-type]
        for index in (0, 1)
    }


def line(table: str, row: str, seed: int = 0, **changes: Any) -> Kept:
    given: dict[str, Any] = {
        "row": row,
        "seed": seed,
        "size": SIZE,
        "scans": Scans(masks=SUBJECTS[table], zero_filled=17.0),
        "settings": f"the method {row}",
        "command": f"noref benchmark brain --condition {table}",
        "hours": 0.2,
        "measures": {},
        "curve": [],
        "scores": scores(table, PSNR[table][row] + 4 * seed),
    }
    return Kept(**given | changes)


def fill(folder: Path, tables: Mapping[str, list[Kept]]) -> None:
    """Results: the lines of each table, and its numbers."""
    for table, lines in tables.items():
        keep(folder / f"brain-{table}.jsonl", lines, list(EXPERIMENT.rows))
        wavelet = scores(table, PSNR[table]["wavelet"])
        result = MethodResult("wavelet", [SubjectScore(k, **v.model_dump()) for k, v in wavelet.items()])
        report = Report(table, [result], labels=["not raw"], ceiling_psnr=38 + len(table))
        write_report(folder / f"brain-{table}.html", report)


def lines(table: str, *rows: str) -> list[Kept]:
    return [line(table, row) for row in rows or ("ssdu", "default", "supervised")]


def pooled(folder: Path) -> Report | None:
    return pool(EXPERIMENT, "both", SIZE, folder, folder / "out" / "report.html")


def columns(made: Report | None) -> dict[str, dict[str, str]]:
    assert made is not None
    return {column.name: dict(column.cells) for column in made.columns}


def test_every_subject_counts_alike(tmp_path: Path) -> None:
    # A second seed that the other table lacks would weigh one subject by other runs than the other.
    fill(tmp_path, {"8x-fold1": lines("8x-fold1"), "8x": [*lines("8x"), line("8x", "default", 1)]})
    made = pooled(tmp_path)
    assert made is not None
    assert [result.name for result in made.results] == ["wavelet", "ssdu", "default", "supervised"]
    assert made.volumes == ["siat1/0", "siat1/1", "siat6/0", "siat6/1"]
    # ((24 - 20) + (27 - 22)) / ((30 - 20) + (28 - 22)); (24 - 20) / (30 - 20); (27 - 22) / (28 - 22).
    assert columns(made) == {
        "Distance closed": {"wavelet": "−31% (−50% to −20%)", "default": "56% (40% to 83%)"},
        "siat1": {
            "wavelet": "18.00 (−20%)",
            "ssdu": "20.00",
            "default": "24.00 (40%)",
            "supervised": "30.00",
        },
        "siat6": {
            "wavelet": "19.00 (−50%)",
            "ssdu": "22.00",
            "default": "27.00 (83%)",
            "supervised": "28.00",
        },
    }
    assert made.ceiling_psnr == 43.0
    assert made.labels == ["not raw"]
    assert made.baseline == "wavelet"
    assert made.settings == {row: f"the method {row}" for row in ("ssdu", "default", "supervised")}
    assert made.commands == [f"noref benchmark brain --condition {table}" for table in ("8x-fold1", "8x")]
    assert made.notes[0].endswith("the seeds that all of these have: ssdu 0, default 0, supervised 0.")
    numbers = json.loads((tmp_path / "brain-both.json").read_text())
    assert numbers == json.loads((tmp_path / "out" / "report.json").read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Each tests once." in page
    assert "As scans are shared, intervals are descriptive and no significance is claimed." in page
    # What is said of a single table's test is not said of this one.
    assert EXPERIMENT.division not in page


def test_seeds_that_all_have_are_averaged(tmp_path: Path) -> None:
    both = {table: [*lines(table), line(table, "default", 1)] for table in ("8x-fold1", "8x")}
    fill(tmp_path, both)
    assert columns(pooled(tmp_path))["siat1"]["default"] == "26.00 (60%)"


@pytest.mark.parametrize("end", EXPERIMENT.anchors or ())
def test_rows_that_a_table_lacks_are_left_out(tmp_path: Path, end: str) -> None:
    rows = [row for row in ("ssdu", "default", "supervised") if row != end]
    fill(tmp_path, {"8x-fold1": lines("8x-fold1", *rows), "8x": lines("8x")})
    made = pooled(tmp_path)
    assert made is not None
    assert [result.name for result in made.results] == ["wavelet", *rows]
    found = {name: cells["default"] for name, cells in columns(made).items()}
    assert found == {"siat1": "24.00", "siat6": "27.00"}


def test_ends_that_change_places_leave_no_share(tmp_path: Path) -> None:
    weak = line("8x", "supervised", scores=scores("8x", 21.0))
    fill(tmp_path, {"8x-fold1": lines("8x-fold1"), "8x": [*lines("8x", "ssdu", "default"), weak]})
    found = {name: cells["default"] for name, cells in columns(pooled(tmp_path)).items()}
    assert found == {"siat1": "24.00", "siat6": "27.00"}


def test_without_anchors_there_is_no_distance(tmp_path: Path) -> None:
    fill(tmp_path, {table: lines(table) for table in PSNR})
    free = replace(EXPERIMENT, anchors=None)
    assert set(columns(pool(free, "both", SIZE, tmp_path, tmp_path / "page.html"))) == {"siat1", "siat6"}


def test_a_ceiling_that_a_table_lacks_is_none(tmp_path: Path) -> None:
    fill(tmp_path, {table: lines(table) for table in PSNR})
    path = tmp_path / "brain-8x.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ceiling_psnr": None}))
    made = pooled(tmp_path)
    assert made is not None
    assert made.ceiling_psnr is None


@pytest.mark.parametrize("there", [[], ["8x"]])
def test_without_one_of_its_tables_there_is_none(tmp_path: Path, there: list[str]) -> None:
    fill(tmp_path, {table: lines(table) for table in there})
    assert pooled(tmp_path) is None
    assert not (tmp_path / "out").exists()


def test_rows_that_were_trained_otherwise_are_refused(tmp_path: Path) -> None:
    other = line("8x", "default", settings="the method, on other terms")
    fill(tmp_path, {"8x-fold1": lines("8x-fold1"), "8x": [*lines("8x", "ssdu", "supervised"), other]})
    said = r"brain-8x\.jsonl: default, seed 0, was trained with other settings than in brain-8x-fold1\.jsonl"
    with pytest.raises(NorefError, match=said):
        pooled(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["", "{", '{"methods": []}', '{"methods": [{"name": "wavelet"}]}'])
def test_numbers_that_cannot_be_read_are_refused(tmp_path: Path, damage: str) -> None:
    fill(tmp_path, {table: lines(table) for table in PSNR})
    path = tmp_path / "brain-8x.json"
    path.write_text(damage) if damage else path.unlink()
    with pytest.raises(NorefError, match=r"brain-8x\.json: not the numbers of a table \(.*; have its --cond"):
        pooled(tmp_path)
    assert not (tmp_path / "out").exists()


def test_every_head_is_a_test_once() -> None:
    brain = EXPERIMENTS["brain"]
    tests = [brain.conditions[table].test for table in brain.pooled["8x-folds"].tables]
    assert tests == [(f"siat{scan}",) for scan in range(1, 7)]
