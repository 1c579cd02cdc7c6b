"""Scores of runs, kept beside a table's numbers: it grows though runs are on other machines, or gone."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.evaluation.results import METRICS, MethodResult, SubjectScore
from noref.evaluation.score import by_classical, score
from noref.experiments.experiment import Begun
from noref.files import whole
from noref.scoring import Scored

DIGITS = 6
"""Of every number that is kept."""

SAME = 1e-3
"""dB, or Γ, by which other machines may score a reconstruction without settings otherwise."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Scans(_Strict):
    """What scans are known again by.

    Attributes:
        masks: digest of what was acquired and what held out of every slice.
        zero_filled: mean PSNR of zero-filling, dB; its Γ where there are no references.
    """

    masks: str
    zero_filled: float

    @classmethod
    def of(cls, scans: Dataset) -> Scans:
        """Of a table's scans."""
        digest = hashlib.sha256()
        for scan in scans:
            held = [] if scan.holdout is None else [scan.holdout]
            for mask in (scan.mask, *held):
                digest.update(mask.numpy().tobytes())
        result = score("zero-filled", by_classical("zero-filled"), scans)
        psnr, gamma = (result.values(metric) for metric in METRICS if metric.key in ("psnr", "gamma"))
        return cls(masks=digest.hexdigest()[:16], zero_filled=fmean((psnr or gamma).values()))

    def same(self, other: Scans) -> bool:
        """Whether they are the same, on whatever machine."""
        return self.masks == other.masks and math.isclose(self.zero_filled, other.zero_filled, abs_tol=SAME)


class Validation(_Strict):
    """A row of a run's `metrics.jsonl` that has Γ; PSNR where there are references."""

    step: int
    stage: int = 0
    gamma: float
    psnr: float | None = None


class Scores(_Strict):
    """As `SubjectScore`, whose name stands beside it; of other metrics than these a run is refused."""

    psnr: float | None
    ssim: float | None
    nmse: float | None
    nmae: float | None
    hfen1: float | None
    gamma: float | None
    seconds: float


class Kept(_Strict):
    """What is known of a run that was scored: a line of a file.

    Attributes:
        row: of the table.
        seed: of the training.
        size: that the experiment was begun with, as its `experiment.json` says.
        scans: that were scored.
        settings: of the run, but for its seed; all runs of a row share them.
        command: that scored it.
        hours: of CPU time that the training took; None if unknown.
        measures: the experiment's own, by their names.
        curve: its validations.
        scores: by subject.
    """

    row: str
    seed: int
    size: dict[str, int | str | None]
    scans: Scans
    settings: str
    command: str
    hours: float | None
    measures: dict[str, float]
    curve: list[Validation]
    scores: dict[str, Scores]

    @property
    def key(self) -> tuple[str, int]:
        """Row and seed."""
        return self.row, self.seed

    @property
    def scored(self) -> Scored:
        """For a report: without images and losses."""
        scores = [SubjectScore(subject, **of.model_dump()) for subject, of in self.scores.items()]
        curve = [validation.model_dump(exclude_none=True) for validation in self.curve]
        return Scored(MethodResult(self.row, scores), curve, self.settings)


def validations(curve: Iterable[Mapping[str, Any]]) -> list[Validation]:
    """Of the rows of a `metrics.jsonl` those that are kept."""
    rows = [
        {
            name: row[name]
            for name in Validation.model_fields
            if row.get(name) is not None and math.isfinite(row[name])
        }
        for row in curve
    ]
    return [Validation(**row) for row in rows if "gamma" in row]


def scores(result: MethodResult) -> dict[str, Scores]:
    """By subject; what is not finite is None, as in a table's numbers."""
    values = {metric.key: result.values(metric) for metric in METRICS}
    return {
        one.subject: Scores.model_validate({key: of.get(one.subject) for key, of in values.items()})
        for one in result.scores
    }


def read(path: Path, size: Begun, scans: Scans | None = None) -> list[Kept]:
    """The runs of a file; none if there is no file.

    Args:
        path: of the file.
        size: that they must have been begun with.
        scans: that they must have been scored on; any if None.

    Raises:
        NorefError: if a line cannot be read, is of another size or of other scans, or of a run that another
            line has; or if the runs of a row differ in more than their seeds.
    """
    found: list[Kept] = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
        where = f"{path}: line {number}"
        try:
            run = Kept.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            said = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
            raise NorefError(f"{where} holds no scores of a run ({said}); remove it") from None
        if run.size != size:
            other = ", ".join(f"{name} {value}" for name, value in run.size.items())
            raise NorefError(f"{where} is of another size, {other}; give another --results")
        if scans is not None and not scans.same(run.scans):
            raise NorefError(
                f"{where}: {run.row}, seed {run.seed}, was scored on other scans than these; remove the "
                "line, or give another --results"
            )
        found.append(run)
    _check_alike(path, found)
    return found


def keep(path: Path, runs: Sequence[Kept], order: Sequence[str]) -> list[Kept]:
    """Puts runs into a file, in the place of what it had of the same rows and seeds; all that is there then.

    Args:
        path: of the file.
        runs: to keep, at least one, all of one size and of the same scans.
        order: of the rows; others, of which an older noref may have been, come last.

    Raises:
        NorefError: as `read` does, of what was there and of what would be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    places = {row: place for place, row in enumerate(order)}
    with alone(path.parent):
        before = read(path, runs[0].size, runs[0].scans)
        every = list({run.key: run for run in (*before, *runs)}.values())
        every.sort(key=lambda run: (places.get(run.row, len(places)), *run.key))
        _check_alike(path, every)
        with whole(path) as temporary:
            lines = (json.dumps(_rounded(run.model_dump()), allow_nan=False) for run in every)
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return every


def _check_alike(path: Path, runs: Sequence[Kept]) -> None:
    """Refuses a run that is there twice, other subjects, and seeds of a row that were trained otherwise."""
    seen: set[tuple[str, int]] = set()
    settings: dict[str, str] = {}
    for run in runs:
        if run.key in seen:
            raise NorefError(f"{path}: {run.row}, seed {run.seed}, is there twice; remove one of its lines")
        if list(run.scores) != list(runs[0].scores):
            raise NorefError(
                f"{path}: {run.row}, seed {run.seed}, has other subjects than {runs[0].row}, seed "
                f"{runs[0].seed}; remove the line of one of them"
            )
        if settings.setdefault(run.row, run.settings) != run.settings:
            raise NorefError(
                f"{path}: {run.row}, seed {run.seed}, was trained with other settings than the row's "
                "first; remove the line of one of them"
            )
        seen.add(run.key)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time changes a folder's files: others, of other outputs, may keep their runs there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _rounded(value: Any) -> Any:
    """The same with few digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(of) for key, of in value.items()}
    return [_rounded(of) for of in value] if isinstance(value, list) else value
