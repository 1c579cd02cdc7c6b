"""What was scored, kept beside a table's numbers: a table grows though runs stay where they were trained."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noref.errors import NorefError
from noref.evaluation.results import METRICS, MethodResult, SubjectScore
from noref.files import whole
from noref.scoring import Scored

CURVE = ("step", "epoch", "stage", "gamma", "psnr")
"""What is kept of each validation."""

DIGITS = 6
"""Of every number that is kept."""

SAME = 1e-3
"""By how much a fingerprint may differ, of itself: other machines round otherwise."""


@dataclass(frozen=True)
class Kept:
    """A run's scores on a table's scans: a line of a file of them.

    Attributes:
        row: of the table.
        seed: of the training.
        size: that the experiment was begun with, as its `experiment.json` says.
        fingerprint: mean PSNR, or Γ without references, of a method without settings: by it scans are known.
        command: that scored it.
        hours: of CPU time that the training took; NaN if unknown.
        measures: the experiment's own, by their names.
        scored: its scores, without images, and its validations.
    """

    row: str
    seed: int
    size: Mapping[str, Any]
    fingerprint: float
    command: str
    hours: float
    measures: Mapping[str, float]
    scored: Scored


def keep(path: Path, runs: Iterable[Kept]) -> None:
    """Writes a file of JSON lines, one a run."""
    lines = [json.dumps(_rounded(_plain(run)), ensure_ascii=False, allow_nan=False) for run in runs]
    with whole(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def kept(path: Path, size: Mapping[str, Any]) -> list[Kept]:
    """The runs of a file, in its order; none if there is no file.

    Args:
        path: of the file.
        size: that they must have been begun with.

    Raises:
        NorefError: if a line cannot be read, or is of another size.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            run = _parsed(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NorefError(
                f"{path}: line {number} is no run's scores ({type(error).__name__}: {error}); remove it"
            ) from None
        if run.size != size:
            other = ", ".join(f"{name} {value}" for name, value in run.size.items())
            raise NorefError(f"{path}: line {number} is of another size, {other}; give another --results")
        found.append(run)
    return found


def check_same_scans(path: Path, runs: Iterable[Kept], fingerprint: float, subjects: Sequence[str]) -> None:
    """Refuses to put scores of other scans into a table.

    Args:
        path: of the file that the runs are from.
        runs: that were kept.
        fingerprint: of the table's scans.
        subjects: of the table, in order.

    Raises:
        NorefError: naming the first run that was scored on others.
    """
    for run in runs:
        scored = [score.subject for score in run.scored.result.scores]
        if scored != list(subjects) or not math.isclose(run.fingerprint, fingerprint, rel_tol=SAME):
            raise NorefError(
                f"{path}: {run.row}, seed {run.seed}, was scored on other scans than these; remove its line, "
                "or give another --results"
            )


def _plain(run: Kept) -> dict[str, Any]:
    keys = [metric.key for metric in METRICS]
    return {
        "row": run.row,
        "seed": run.seed,
        "size": run.size,
        "fingerprint": run.fingerprint,
        "command": run.command,
        "hours": run.hours,
        "measures": run.measures,
        "settings": run.scored.settings,
        "curve": [
            {key: row[key] for key in CURVE if key in row} for row in run.scored.curve if "gamma" in row
        ],
        "scores": {s.subject: {key: getattr(s, key) for key in keys} for s in run.scored.result.scores},
    }


def _parsed(line: dict[str, Any]) -> Kept:
    scores = [SubjectScore(subject, **values) for subject, values in line.pop("scores").items()]
    scored = Scored(MethodResult(line["row"], scores), line.pop("curve"), line.pop("settings"))
    hours = line.pop("hours")
    return Kept(**line, hours=math.nan if hours is None else hours, scored=scored)


def _rounded(value: Any) -> Any:
    """The same with few digits; numbers that are not finite become None."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(of) for key, of in value.items()}
    return [_rounded(of) for of in value] if isinstance(value, list | tuple) else value
