"""Pictures for readers who must not know which method made them, sheets to score them, and the key."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.files import whole, whole_folder
from noref.formats import png
from noref.seeding import Key

SCORED = ("quality", "sharpness", "artefacts", "confidence")
"""What readers score from 1, useless, to 5, excellent."""

FOLDER, KEY, SEAL = "readers", "readers-key.json", "seal.txt"

_ADVICE = (
    "Score every picture from 1 (useless) to 5 (excellent) in each column; artefacts: 5 is none. Leave blank "
    "what cannot be told. Pictures of one case show the same slice."
)


@dataclass(frozen=True)
class Case:
    """One slice.

    Attributes:
        id: subject/scan/slice.
        images: magnitudes `(y, x)` by method.
    """

    id: str
    images: Mapping[str, NDArray[np.float32]]


def export(folder: Path, cases: Sequence[Case], readers: int, seed: int) -> str:
    """Writes `readers/`, to be given away, and beside it `readers-key.json`, to be kept.

    Every picture is windowed by itself, has a random name, and is as old as all others. Cases come in another
    order than the scans, and to every reader in an order of their own.

    Args:
        folder: that both are written to.
        cases: the slices.
        readers: how many sheets.
        seed: of the acceptance: who knows it can name the methods, as who has the key.

    Returns:
        the key's SHA-256, which is written to `readers/seal.txt`, so that nobody can change the key unseen.
    """
    key = _named(cases, seed)
    text = json.dumps(key, indent=1, ensure_ascii=False) + "\n"
    seal = hashlib.sha256(text.encode()).hexdigest()
    of = {case.id: case for case in cases}
    with whole_folder(folder / FOLDER) as made:
        for name, case in key["cases"].items():
            for picture, method in case["pictures"].items():
                values = of[case["id"]].images[method]
                path = made / _file(name, picture)
                png.save(path, png.grey(values[None])[0])
                # When it was written would tell the order of the methods.
                os.utime(path, (0, 0))
        for reader in range(1, readers + 1):
            (made / f"sheet-{reader}.csv").write_text(_sheet(key, reader, seed), encoding="utf-8")
        (made / "README.txt").write_text(_ADVICE + "\n", encoding="utf-8")
        (made / SEAL).write_text(seal + "\n", encoding="utf-8")
    with whole(folder / KEY) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return seal


def _named(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """The key: case by case the slice's id, and the method of every picture."""
    draws = Key(seed, "", "blinding").numpy()
    named = {}
    for number, index in enumerate(draws.permutation(len(cases)), 1):
        case = cases[index]
        names = draws.choice(26**3, len(case.images), replace=False)
        pictures = {_letters(int(name)): method for name, method in zip(names, case.images, strict=True)}
        named[f"case-{number:02d}"] = {"id": case.id, "pictures": dict(sorted(pictures.items()))}
    return {"cases": named}


def _letters(number: int) -> str:
    return "".join(chr(ord("a") + number // 26**place % 26) for place in range(3))


def _file(case: str, picture: str) -> str:
    return f"{case}-{picture}.png"


def _sheet(key: Mapping[str, Any], reader: int, seed: int) -> str:
    draws = Key(seed, "", "reading order").fold(reader).numpy()
    names = list(key["cases"])
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["picture", *SCORED, "comment"])
    for index in draws.permutation(len(names)):
        pictures = list(key["cases"][names[index]]["pictures"])
        for place in draws.permutation(len(pictures)):
            writer.writerow([_file(names[index], pictures[place]), *[""] * (len(SCORED) + 1)])
    return text.getvalue()
