"""What got slower since the last release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median

from .measure import Result
from .page import LIMIT
from .row import Row

ALLOWED = 1.15
"""Times as long as before, beside the same peers and convolutions."""


def quick_sides(row: Row) -> Row:
    """A row without its bf16 sides, and without peers where the convolutions alone tell how fast it is."""
    single = tuple(side for side in row.sides if "bf16" not in side.name)
    limited = tuple(side for side in single if side.name.startswith(LIMIT))
    return replace(row, sides=(row.sides[0], *limited) if limited else single)


def slowdown(before: Result, now: Result, ours: str) -> float | None:
    """Times as long as before that noref takes, beside what did not change; None if nothing can tell.

    The convolutions alone where there are any, whose time depends on the machine alone; otherwise the median
    over the peers.
    """
    changes = {
        name: old.ratio[1] / now.sides[name].ratio[1]  # type: ignore[index] # timed: both have it
        for name, old in before.sides.items()
        if old.ratio and old.versus == ours and name in now.sides and now.sides[name].ratio
    }
    peers = {name: change for name, change in changes.items() if not name.startswith(ours)}
    limits = [change for name, change in peers.items() if name.startswith(LIMIT)]
    return median(limits or peers.values()) if peers else None


def slower(rows: list[Row], before: dict[str, Result], measured: Callable[[Row], Result]) -> dict[str, float]:
    """Rows that take longer than allowed, twice in a row, and how many times as long.

    Args:
        rows: to check; those without figures of the last release are left out.
        before: the last release's results.
        measured: measures one.
    """
    found = {}
    for row in rows:
        if row.name not in before:
            continue
        ours = row.sides[0].name
        for _ in range(2):
            times = slowdown(before[row.name], measured(quick_sides(row)), ours)
            if times is None or times <= ALLOWED:
                break
        else:
            found[row.name] = times or 0.0
    return found
