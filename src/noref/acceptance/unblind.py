"""From filled sheets and the key to what readers thought of each method."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from noref.acceptance.readers import SCORED, SEAL
from noref.acceptance.verdict import BASELINE
from noref.errors import NorefError
from noref.evaluation.compare import Difference, differences

BEST = 5
"""Of the scores, which begin at 1."""


@dataclass(frozen=True)
class Opinion:
    """What readers gave a method for one thing.

    Attributes:
        column: what was scored.
        method: what made the pictures.
        mean: of all scores.
        scores: how many.
        difference: to the baseline, paired by slice and then averaged over each subject; None of itself, or
            where no slice was scored of both. Its p counts the other methods of the same column.
    """

    column: str
    method: str
    mean: float
    scores: int
    difference: Difference | None


def unblind(key: Path, sheets: Sequence[Path], baseline: str | None = None) -> list[Opinion]:
    """Joins filled sheets with their key.

    Args:
        key: `readers-key.json`.
        sheets: filled, one a reader.
        baseline: the method that the others are compared with; wavelets if None, or the first where no
            picture was made by them.

    Raises:
        NorefError: if a file cannot be read, a sheet is not of this key or named twice, or a score is none.
    """
    text = _text(key)
    try:
        cases = json.loads(text)["cases"]
        made = {
            f"{name}-{picture}.png": (str(case["id"]), str(method))
            for name, case in cases.items()
            for picture, method in case["pictures"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NorefError(f"{key}: is no key of a reading; give readers-key.json") from None
    seen = set[Path]()
    for sheet in sheets:
        if sheet.resolve() in seen:
            raise NorefError(f"{sheet}: is named twice; name each reader's sheet once")
        seen.add(sheet.resolve())
    given: dict[str, dict[str, dict[str, list[float]]]] = {column: {} for column in SCORED}
    for sheet in sheets:
        _check_seal(key, text, sheet)
        for column, picture, score in _scores(sheet, made):
            slice_, method = made[picture]
            given[column].setdefault(method, {}).setdefault(slice_, []).append(score)
    if not any(given.values()):
        raise NorefError(f"{sheets[0]}: no picture is scored; fill the sheets first")
    return [opinion for column in SCORED for opinion in _opinions(column, given[column], baseline)]


def _opinions(
    column: str, given: Mapping[str, Mapping[str, Sequence[float]]], baseline: str | None
) -> list[Opinion]:
    means = {
        method: {slice_: fmean(scores) for slice_, scores in slices.items()}
        for method, slices in given.items()
    }
    if not means:
        return []
    if baseline is not None and baseline not in means:
        raise NorefError(f"--baseline: {baseline!r} has no scores; there are {', '.join(sorted(means))}")
    against = baseline or (BASELINE if BASELINE in means else min(means))
    others = {method: of for method, of in means.items() if method != against}
    found = differences(means[against], others)
    return [
        Opinion(
            column,
            method,
            fmean(score for scores in slices.values() for score in scores),
            sum(map(len, slices.values())),
            found.get(method),
        )
        for method, slices in sorted(given.items())
    ]


def _scores(sheet: Path, made: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Column, picture and score of all that was scored."""
    rows = csv.DictReader(_text(sheet).splitlines())
    missing = [name for name in ("picture", *SCORED) if name not in (rows.fieldnames or ())]
    if missing:
        raise NorefError(
            f"{sheet}: has no column {missing[0]!r}; fill the sheet as it was written, with commas"
        )
    found = []
    for row in rows:
        if row["picture"] not in made:
            raise NorefError(
                f"{sheet}: {row['picture']!r} is no picture of this key; give the key that it is of"
            )
        for column in SCORED:
            written = (row[column] or "").strip()
            if written:
                found.append((column, row["picture"], _score(sheet, row["picture"], column, written)))
    return found


def _score(sheet: Path, picture: str, column: str, written: str) -> float:
    try:
        score = float(written)
    except ValueError:
        score = math.nan
    if not 1 <= score <= BEST:
        raise NorefError(f"{sheet}: {column} of {picture} is {written!r}; give a number from 1 to {BEST}")
    return score


def _check_seal(key: Path, text: str, sheet: Path) -> None:
    """The key is the one that was written with the pictures, where the sheet still lies beside its seal."""
    seal = sheet.parent / SEAL
    if seal.exists() and _text(seal).strip() != hashlib.sha256(text.encode()).hexdigest():
        raise NorefError(f"{key}: is not the key that {seal} seals; it was changed, or is of other pictures")


def _text(path: Path) -> str:
    try:
        # Spreadsheets begin their files with a mark of the byte order.
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise NorefError(f"{path}: cannot be read ({reason.lower()}); check the path") from None
