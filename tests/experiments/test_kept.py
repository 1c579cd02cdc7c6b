"""Scores that outlive the runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.evaluation.results import METRICS, MethodResult, SubjectScore
from noref.experiments import EXPERIMENTS
from noref.experiments.kept import Kept, Scans, Scores, keep, read, scores, validations
from noref.physics import ifft2c
from noref.scan import Scan

SIZE: dict[str, int | None] = {"matrix": 48, "phases": None, "steps": 20}
SCANS = Scans(masks="ab12", zero_filled=20.61690)
ROWS = ("ssdu", "default", "idr")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def run(row: str = "ssdu", seed: int = 0, **changes: Any) -> Kept:
    values = Scores(psnr=26.586412, ssim=0.85, nmse=0.03, nmae=0.17, hfen1=0.18, gamma=0.2, seconds=0.08)
    curve = validations([{"step": 1, "loss": 0.5}, {"step": 2, "stage": 0, "gamma": 0.25, "psnr": 20.5}])
    made = Kept(
        row=row,
        seed=seed,
        size=SIZE,
        scans=SCANS,
        settings=f"the method {row}",
        command="noref benchmark brain",
        hours=0.17,
        measures={"error": 0.5},
        curve=curve,
        scores={"siat6/00": values, "siat6/01": values.model_copy(update={"psnr": None})},
    )
    return made.model_copy(update=changes)


def keys(runs: Sequence[Kept]) -> list[tuple[str, int]]:
    return [one.key for one in runs]


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "results" / "brain-8x.jsonl"
    assert read(path, SIZE, SCANS) == []
    every = keep(path, [run("idr"), run(hours=None), run(seed=1)], ROWS)
    assert keys(every) == [("ssdu", 0), ("ssdu", 1), ("idr", 0)]  # in the table's order
    found = read(path, SIZE, SCANS)
    assert [one.model_copy(update={"scores": {}}) for one in found] == [
        one.model_copy(update={"scores": {}}) for one in every
    ]
    scored = found[0].scored
    assert [score.subject for score in scored.result.scores] == ["siat6/00", "siat6/01"]
    assert scored.result.scores[0].psnr == pytest.approx(26.586412, rel=1e-5)
    assert scored.result.scores[1].psnr is None
    assert scored.curve == [{"step": 2, "stage": 0, "gamma": 0.25, "psnr": 20.5}]


def test_a_run_takes_the_place_of_its_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "brain-8x.jsonl"
    keep(path, [run(), run(seed=1), run("a row of another version")], ROWS)
    keep(path, [run(hours=0.5), run("default")], ROWS)
    assert [(one.key, one.hours) for one in read(path, SIZE)] == [
        (("ssdu", 0), 0.5),
        (("ssdu", 1), 0.17),
        (("default", 0), 0.17),
        (("a row of another version", 0), 0.17),
    ]


def test_processes_that_keep_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "brain-8x.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: keep(path, [run(seed=seed)], ROWS), range(24)))
    assert keys(read(path, SIZE)) == [("ssdu", seed) for seed in range(24)]


@given(st.lists(st.floats(allow_subnormal=False), min_size=len(METRICS), max_size=len(METRICS)))
def test_scores_keep_six_digits_and_what_is_not_finite_is_none(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "one.jsonl"
    values[-1] = 0.5  # seconds
    keep(path, [run(scores=scores(MethodResult("ssdu", [SubjectScore("a", *values)])))], ROWS)
    (found,) = read(path, SIZE)[0].scored.result.scores
    for metric, value in zip(METRICS, values, strict=True):
        kept = getattr(found, metric.key)
        finite = -1e400 < value < 1e400
        assert kept == pytest.approx(value, rel=1e-5) if finite else kept is None


def test_validations_that_are_not_finite_are_left_out() -> None:
    nan = float("nan")
    rows = [{"step": 1, "gamma": nan, "psnr": 20.0}, {"step": 2, "gamma": 0.5}, {"step": 3, "psnr": 1.0}]
    rows += [{"step": 4, "gamma": 0.5, "psnr": nan}]
    assert [(validation.step, validation.psnr) for validation in validations(rows)] == [(2, None), (4, None)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 holds no scores of a run (Invalid JSON"),
        ("", "line 2 holds no scores of a run (Invalid JSON"),
        ("[]", "line 2 holds no scores of a run (Input should be an object"),
        ('{"row": "ssdu"}', "line 2 holds no scores of a run (seed: Field required"),
        ({"seed": "1"}, "line 2 holds no scores of a run (seed: Input should be a valid integer"),
        ({"curve": None}, "line 2 holds no scores of a run (curve: Input should be a valid"),
        ({"size": {"matrix": 64}}, "line 2 is of another size, matrix 64; give another --results"),
        (
            {"scans": {"masks": "ab12", "zero_filled": 20.7}},
            "line 2: ssdu, seed 1, was scored on other scans",
        ),
        (
            {"scans": {"masks": "cd34", "zero_filled": 20.6169}},
            "line 2: ssdu, seed 1, was scored on other scans",
        ),
        ({"hours": float("nan")}, "line 2 holds no scores of a run (hours: Input should be a finite"),
        ({"scores": {"siat6/00": None}}, "line 2 holds no scores of a run (scores.siat6/00: Input"),
        ({"scores": {}}, "ssdu, seed 1, has other subjects than ssdu, seed 0; remove the line of one"),
        ({"seed": 0}, "ssdu, seed 0, is there twice; remove one of its lines"),
        ({"settings": "other"}, "ssdu, seed 1, was trained with other settings than the row's first"),
    ],
)
def test_lines_that_cannot_stand_in_the_table_are_named(
    line: str | dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "brain-8x.jsonl"
    keep(path, [run()], ROWS)
    if not isinstance(line, str):
        line = json.dumps(run(seed=1).model_dump() | line)
    path.write_text(path.read_text() + line + "\n")
    before = path.read_bytes()
    for reading in (lambda: read(path, SIZE, SCANS), lambda: keep(path, [run("idr")], ROWS)):
        with pytest.raises(NorefError) as error:
            reading()
        assert said in str(error.value)
        assert str(error.value).startswith(f"{path}: ")
    assert path.read_bytes() == before


def test_text_of_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "brain-8x.jsonl"
    path.write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(NorefError, match="line 1 holds no scores of a run"):
        read(path, SIZE)


def test_seeds_of_a_row_share_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "brain-8x.jsonl"
    keep(path, [run()], ROWS)
    with pytest.raises(NorefError, match="ssdu, seed 1, was trained with other settings"):
        keep(path, [run(seed=1, settings="another loss")], ROWS)
    assert keys(read(path, SIZE)) == [("ssdu", 0)]


class _Scans(Dataset):
    """Scans as they are."""

    def __init__(self, scans: Sequence[Scan]) -> None:
        self.scans = scans

    def __len__(self) -> int:
        return len(self.scans)

    def scan(self, index: int) -> Scan:
        return self.scans[index]

    @property
    def ids(self) -> list[str]:
        return [scan.id for scan in self.scans]


def test_scans_are_known_again_by_masks_held_out_samples_and_values() -> None:
    random = torch.Generator().manual_seed(0)
    kspace = torch.randn(1, 12, 9, dtype=torch.complex64, generator=random)
    mask = torch.rand(12, 9, generator=random) < 0.5
    everywhere = torch.ones(12, 9, dtype=torch.bool)
    scan = Scan(
        id="a/a/0",
        kspace=kspace,
        measured=everywhere,
        mask=mask,
        holdout=mask & (kspace[0].real > 0),
        reference=ifft2c(kspace),
    )
    known = Scans.of(_Scans([scan]))
    assert known.same(Scans.of(_Scans([replace(scan, kspace=kspace * (1 + 1e-6))])))
    assert scan.holdout is not None
    moved = scan.holdout.clone()
    moved[tuple(mask.nonzero()[0])] ^= True
    for other in (
        replace(scan, mask=mask | (kspace[0].imag > 1)),
        replace(scan, holdout=moved),
        replace(scan, kspace=kspace + 0.3),
    ):
        assert not known.same(Scans.of(_Scans([other])))


def test_the_tables_of_this_repository_are_those_of_their_lines() -> None:
    files = sorted(RESULTS.glob("*.jsonl"))
    assert files
    for path in files:
        runs = read(path, json.loads(path.read_text(encoding="utf-8").splitlines()[0])["size"])
        table = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert table["commands"] == list(dict.fromkeys(one.command for one in runs))
        experiment = max((name for name in EXPERIMENTS if path.name.startswith(f"{name}-")), key=len)
        untrained = {*EXPERIMENTS[experiment].classical, *EXPERIMENTS[experiment].others}
        assert {method["name"] for method in table["methods"]} - untrained == {one.row for one in runs}
        for method in table["methods"]:
            seeds = [one for one in runs if one.row == method["name"]]
            for of, metric in product(method["subjects"] if seeds else (), METRICS):
                values = [getattr(one.scores[of["subject"]], metric.key) for one in seeds]
                mean = None if None in values else pytest.approx(fmean(values), rel=1e-4)
                assert metric.key == "seconds" or of[metric.key] == mean
