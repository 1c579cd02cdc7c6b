"""What the tables of an experiment add to those of a report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from noref.evaluation.results import MethodResult, SubjectScore
from noref.experiments import EXPERIMENTS
from noref.experiments.columns import shares
from noref.scoring import Scored


def seed(row: str, *psnr: float) -> Scored:
    """A run by the PSNR of its slices."""
    scores = [
        SubjectScore(
            f"s/{index}", psnr=value, ssim=None, nmse=None, nmae=None, hfen1=None, gamma=None, seconds=1.0
        )
        for index, value in enumerate(psnr)
    ]
    return Scored(MethodResult(row, scores))


ROWS = {
    "ssdu": [seed("ssdu", 19, 21), seed("ssdu", 21, 23)],
    "default": [seed("default", 24, 26)],
    "supervised": [seed("supervised", 29, 31), seed("supervised", 33, 35)],
}


def cells(rows: dict[str, list[Scored]]) -> dict[str, dict[str, str]]:
    return {column.name: dict(column.cells) for column in shares(EXPERIMENTS["brain"], rows)}


def test_shares_are_told_of_the_mean_over_seeds_and_by_seed() -> None:
    found = cells(ROWS)
    # (25 - 21) / (32 - 21); then from (25 - 22) / (34 - 22) to (25 - 20) / (30 - 20).
    assert found["Distance closed"] == {"default": "36% (36% to 36%)"}
    assert found["Distance closed, by seed"] == {"default": "25% to 50%"}


@pytest.mark.parametrize(
    "rows",
    [
        {row: seeds[:1] for row, seeds in ROWS.items()},
        ROWS | {"supervised": [seed("supervised", 29, 31), seed("supervised", 20, 22)]},
    ],
    ids=["one seed of each", "ends that change places"],
)
def test_where_seeds_tell_no_range_there_is_none(rows: dict[str, list[Scored]]) -> None:
    assert set(cells(rows)) == {"Distance closed"}


def test_without_ends_there_is_no_distance() -> None:
    assert cells({"default": ROWS["default"]}) == {}
    assert shares(replace(EXPERIMENTS["brain"], anchors=None), ROWS) == []
