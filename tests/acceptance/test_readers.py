"""Blinding: nothing tells a method to readers, and the key brings all of it back."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noref.acceptance.readers import FOLDER, KEY, SCORED, SEAL, Case, export
from noref.acceptance.unblind import Opinion, unblind
from noref.errors import NorefError
from noref.formats.png import grey

METHODS = ("network", "wavelet", "vendor")
GOOD = {"network": 5, "wavelet": 3, "vendor": 4}


def cases(number: int = 8) -> list[Case]:
    draws = np.random.default_rng(0)
    return [
        Case(f"person{i}/brain/000", {name: draws.random((12, 10), np.float32) for name in METHODS})
        for i in range(number)
    ]


def fill(sheet: Path, key: Path, score: Callable[[str, str], object]) -> None:
    """As a reader would who can tell the methods; `score(column, method)`."""
    named = json.loads(key.read_text())["cases"]
    with sheet.open(newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        case, picture = row[0].removesuffix(".png").rsplit("-", 1)
        row[1:5] = [str(score(column, named[case]["pictures"][picture])) for column in SCORED]
    with sheet.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_no_name_and_no_metadata_tell_a_method(tmp_path: Path) -> None:
    export(tmp_path, cases(), 2, 7)
    folder = tmp_path / FOLDER
    files = sorted(folder.iterdir())
    assert len([path for path in files if path.suffix == ".png"]) == 8 * 3
    for path in files:
        content = path.read_bytes().lower()
        for word in (*METHODS, "person", "brain"):
            assert word.encode() not in content
            assert word not in path.name
    pictures = [path for path in files if path.suffix == ".png"]
    assert len({path.stat().st_mtime_ns for path in pictures}) == 1
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.info == {}
            assert picture.size == (10, 12)
    # In whichever order files are listed, no method has its place.
    named = json.loads((tmp_path / KEY).read_text())["cases"]
    first = {next(iter(case["pictures"].values())) for case in named.values()}
    assert len(first) > 1
    assert [case["id"] for case in named.values()] != [case.id for case in cases()]


def test_pictures_are_the_images_each_in_its_own_window(tmp_path: Path) -> None:
    given = cases(2)
    export(tmp_path, given, 1, 0)
    named = json.loads((tmp_path / KEY).read_text())["cases"]
    images = {case.id: case.images for case in given}
    for name, case in named.items():
        for picture, method in case["pictures"].items():
            with Image.open(tmp_path / FOLDER / f"{name}-{picture}.png") as read:
                np.testing.assert_array_equal(np.asarray(read), grey(images[case["id"]][method][None])[0])


def test_a_seed_is_a_blinding(tmp_path: Path) -> None:
    seals = [export(tmp_path / str(i), cases(), 1, seed) for i, seed in enumerate((1, 1, 2))]
    assert seals[0] == seals[1] != seals[2]
    key = (tmp_path / "0" / KEY).read_bytes()
    assert hashlib.sha256(key).hexdigest() == seals[0]
    assert (tmp_path / "0" / FOLDER / SEAL).read_text().strip() == seals[0]


def test_readers_see_all_pictures_in_orders_of_their_own(tmp_path: Path) -> None:
    export(tmp_path, cases(), 2, 0)
    orders = []
    for reader in (1, 2):
        with (tmp_path / FOLDER / f"sheet-{reader}.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        assert head == ["picture", *SCORED, "comment"]
        assert all(cell == "" for row in rows for cell in row[1:])
        orders.append([row[0] for row in rows])
    assert orders[0] != orders[1]
    expected = sorted(path.name for path in (tmp_path / FOLDER).glob("*.png"))
    assert sorted(orders[0]) == sorted(orders[1]) == expected


def test_scores_come_back_to_their_methods(tmp_path: Path) -> None:
    export(tmp_path, cases(), 2, 3)
    sheets = [tmp_path / FOLDER / f"sheet-{reader}.csv" for reader in (1, 2)]
    for sheet in sheets:
        fill(sheet, tmp_path / KEY, lambda column, method: GOOD[method] if column == "quality" else 2)
    found = {(one.column, one.method): one for one in unblind(tmp_path / KEY, sheets)}
    assert set(found) == {(column, method) for column in SCORED for method in METHODS}
    for method, mean in GOOD.items():
        assert found["quality", method].mean == mean
        assert found["quality", method].scores == 16
    better = found["quality", "network"].difference
    assert better is not None
    assert (better.mean, better.subjects) == (2, 8)
    # Eight subjects, all the same way: Wilcoxon's 2/2⁸, twice for Holm.
    assert better.p == pytest.approx(2 * 2 / 2**8)
    same = found["sharpness", "network"].difference
    assert same is not None
    assert same.p == 1
    assert found["quality", "wavelet"].difference is None


def test_another_baseline_and_a_sheet_that_is_partly_blank(tmp_path: Path) -> None:
    export(tmp_path, cases(2), 1, 0)
    sheet = tmp_path / FOLDER / "sheet-1.csv"
    fill(sheet, tmp_path / KEY, lambda column, method: GOOD[method] if column == "quality" else "")
    found: list[Opinion] = unblind(tmp_path / KEY, [sheet], "network")
    assert [(one.column, one.method) for one in found] == [("quality", name) for name in sorted(METHODS)]
    differences = {one.method: one.difference and one.difference.mean for one in found}
    assert differences == {"network": None, "vendor": -1, "wavelet": -2}


def test_spreadsheets_may_have_saved_it(tmp_path: Path) -> None:
    export(tmp_path, cases(1), 1, 0)
    sheet = tmp_path / FOLDER / "sheet-1.csv"
    fill(sheet, tmp_path / KEY, lambda _, method: f" {GOOD[method]}.0 ")
    sheet.write_bytes(b"\xef\xbb\xbf" + sheet.read_bytes())
    assert unblind(tmp_path / KEY, [sheet])[0].mean == 5


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    export(tmp_path / "a", cases(), 1, 0)
    export(tmp_path / "b", cases(), 1, 1)
    key, sheet = tmp_path / "a" / KEY, tmp_path / "a" / FOLDER / "sheet-1.csv"
    with pytest.raises(NorefError, match="no picture is scored; fill the sheets first"):
        unblind(key, [sheet])
    blank = sheet.read_text()
    fill(sheet, key, lambda *_: 3)
    filled = sheet.read_text()
    with pytest.raises(NorefError, match=r"seal\.txt seals; it was changed, or is of other pictures"):
        unblind(tmp_path / "b" / KEY, [sheet])
    away = tmp_path / "mail.csv"
    for text, complaint in (
        (
            filled.replace(",3,3,3,3,", ",3,7,3,3,", 1),
            r"sharpness of case-\d+-\w+\.png is '7'; give a number from 1",
        ),
        (filled.replace(",3,3,3,3,", ",good,3,3,3,", 1), "quality of .* is 'good'"),
        (filled.replace("quality", "qualität"), "has no column 'quality'"),
        (blank.replace("case-01", "case-99", 1), "is no picture of this key"),
    ):
        away.write_text(text)
        with pytest.raises(NorefError, match=complaint):
            unblind(key, [away])
    away.write_text(filled)
    with pytest.raises(NorefError, match="'grappa' has no scores; there are network, vendor, wavelet"):
        unblind(key, [away], "grappa")
    with pytest.raises(NorefError, match="is no key of a reading"):
        unblind(away, [sheet])
    with pytest.raises(NorefError, match="cannot be read"):
        unblind(tmp_path / "none.json", [sheet])
    # A sheet may come back by mail, without the pictures.
    assert unblind(key, [away])
    key.write_text(key.read_text().replace("wavelet", "network", 1))
    with pytest.raises(NorefError, match="it was changed"):
        unblind(key, [sheet])
