"""Variable-density Poisson masks, of which a part is drawn and the time scaled to all of them."""

from __future__ import annotations

from itertools import count

from noref.sampling.masks import acquisition_mask
from noref.seeding import Key

from ..row import Row, Setting, Side, Work

_MASKS, _ACCELERATION, _ACS = 10_000, 8, 24


def _noref(setting: Setting) -> Work:
    size, numbers = setting.size(320, 32), count()

    def run() -> None:
        key = Key(next(numbers), "speed", "mask")
        acquisition_mask("poisson", (size, size), _ACCELERATION, setting.size(_ACS, 4), key)

    return Work(run)


def _sigpy(setting: Setting) -> Work:
    from sigpy.mri import poisson

    size, acs, numbers = setting.size(320, 32), setting.size(_ACS, 4), count()

    def run() -> None:
        poisson((size, size), _ACCELERATION, calib=(acs, acs), seed=next(numbers))

    return Work(run)


ROWS = (
    Row(
        "poisson",
        "variable-density Poisson mask 320², one of many",
        (
            Side("noref", _noref, repeat=20),
            Side("SigPy", _sigpy, ("sigpy",), repeat=2, why="its own algorithm; without the corners"),
        ),
        target=15,
        aim="10,000 of them in ≤ 150 s",
        recorded={"DIRECT": 70.7, "SigPy": 928},
    ),
)
