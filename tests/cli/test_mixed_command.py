"""Full scans beside accelerated ones: one rule for all of a folder, whatever part of it a command takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest
from command import TINY, done, refused, same

from noref import prepare
from noref.api import dataset
from noref.config import Source
from noref.data.split import PARTS, Part, Split
from noref.data.store import Store
from noref.scan import Role

MASK = ("mask=lines", "acceleration=2", "acs=12")
SHARES = (0.4, 0.3, 0.3)


@pytest.fixture(scope="module")
def both(undersampled: Path, full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects that were accelerated, and a full one."""
    folder = tmp_path_factory.mktemp("mixed") / "both"
    for scans, name in (
        (undersampled, "brain-0002.h5"),
        (undersampled, "brain-0003.h5"),
        (full, "brain-0001.h5"),
    ):
        (folder / scans.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(scans / name, folder / scans.name)
    return folder


def part_of_the_full_one(out: Path) -> Part:
    (part,) = (part for part in PARTS if Store(out / part).ids[0].startswith("brain-0001/"))
    return part


def test_they_share_a_store(both: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    said = done("prepare", both, "-o", store).err
    assert "nothing is held out of 2 full slices, which have a reference" in said
    assert {one.id.split("/")[0]: one.holdout is None for one in Store(store)} == {
        "brain-0001": True,
        "brain-0002": False,
        "brain-0003": False,
    }
    run = tmp_path / "run"
    said = done("train", "default", f"data.target.path={store}", f"output={run}", *TINY).err
    assert "data.target: 2 of 6 slices are full and left out, as nothing of them is hidden" in said
    said = done("prepare", both, *MASK, "-o", tmp_path / "masked").err
    assert "mask=lines is of the full slices; 4 were accelerated and stay as they are" in said
    from_files = Source(path=str(both), mask="lines", acceleration=2, acs=12)
    pairs = zip(Store(tmp_path / "masked"), dataset(from_files, Role.TARGET), strict=True)
    assert all(same(a, b) for a, b in pairs)


@pytest.mark.parametrize("mask", [(), MASK])
def test_they_are_split(both: Path, mask: tuple[str, ...], tmp_path: Path) -> None:
    out, whole = tmp_path / "parts", tmp_path / "whole"
    told = done("prepare", both, *mask, "-o", out, "--split", "0.4,0.3,0.3")
    assert told.out.splitlines() == [str(out / part) for part in PARTS]
    assert ("nothing is held out of 2 full slices" in told.err) == (mask == ())
    done("prepare", both, *mask, "-o", whole)
    apart = {scan.id: scan for part in PARTS for scan in Store(out / part)}
    assert sorted(apart) == sorted(Store(whole).ids)
    for scan in Store(whole):
        # Not all of them: the density is of the scans of each store.
        assert (apart[scan.id].mask == scan.mask).all()
        assert (apart[scan.id].allowed == scan.allowed).all()
    for part in PARTS:
        settings = {"mask": "lines", "acceleration": 2, "acs": 12} if mask else {}
        how = Source.model_validate({"path": str(both), "split": part, "shares": SHARES, **settings})
        made = prepare(how, tmp_path / "python" / part)
        assert made is not None
        assert all(same(a, b) for a, b in zip(made, Store(out / part), strict=True))
        assert all(same(a, b) for a, b in zip(made, dataset(how, Role.TARGET), strict=True))


def test_a_training_takes_any_part_with_a_mask(both: Path, tmp_path: Path) -> None:
    target = [f"data.target.{one}" for one in (f"path={both}", f"shares={list(SHARES)}", *MASK)]
    for part, other in (("train", "validation"), ("validation", "test"), ("test", "train")):
        split = (f"data.target.split={part}", f"data.validation.split={other}")
        done("train", "default", *target, *split, f"output={tmp_path / part}", *TINY)


def test_what_hides_nothing_neither_trains_nor_validates(both: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "parts", tmp_path / "run"
    done("prepare", both, "-o", out, "--split", "0.4,0.3,0.3")
    full = part_of_the_full_one(out)
    other = next(part for part in PARTS if part != full)
    where = (f"data.target.path={both}", f"data.target.shares={list(SHARES)}")
    for targets in ([f"data.target.path={out / full}"], [*where, f"data.target.split={full}"]):
        line = refused("train", "default", *targets, f"output={run}", *TINY)
        assert "data.target: all of its 2 slices are full, and nothing of them is hidden" in line
    stores = (f"data.target.path={out / other}", f"data.validation.path={out / full}")
    files = (*where, f"data.target.split={other}", f"data.validation.split={full}")
    for given in (stores, files):
        line = refused("train", "default", *given, f"output={run}", *TINY)
        assert "data.validation: all of its 2 slices are full, and nothing of them is hidden" in line
    assert not run.exists()


def test_a_bad_scan_tells_nothing_of_the_others(both: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    shutil.copytree(both, scans)
    with h5py.File(scans / "undersampled" / "brain-0002.h5", "r+") as file:
        file["kspace"][0, 0, 0, 0] = float("nan")
    assert "NaN" in refused("prepare", scans, *MASK, "-o", tmp_path / "store")
    names = [f"brain-000{number}" for number in (1, 2, 3)]
    for part in PARTS:
        (subject,) = Split(part, SHARES).of(names)
        if subject != "brain-0002":
            store = tmp_path / part
            done("prepare", scans, *MASK, f"split={part}", f"shares={list(SHARES)}", "-o", store)
            assert {name.split("/")[0] for name in Store(store).ids} == {subject}
