"""`noref prepare`: a store of what training would prepare itself, by one process or by several."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from command import TINY, done, refused, tree
from safetensors.torch import load_file
from training.ranks import finish, start

from noref.api import dataset
from noref.config import Source
from noref.data.store import Store
from noref.scan import Role, Scan


def same(one: Scan, other: Scan) -> bool:
    """Whether two scans agree in every bit."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in vars(one)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_training_from_it_is_training_from_the_files(undersampled: Path, tmp_path: Path) -> None:
    store, weights = tmp_path / "store", []
    told = done("prepare", undersampled, "-o", store, "holdout=0.1", "seed=3")
    assert told.out == f"{store}\n"
    for path in (undersampled, store):
        run = tmp_path / f"run-{path.name}"
        target = (f"data.target.path={path}", "data.target.holdout=0.1", "data.target.seed=3")
        done("train", "default", *target, f"output={run}", *TINY)
        weights.append(load_file(run / "model" / "model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_processes_share_out_its_volumes(full: Path, tmp_path: Path) -> None:
    how = ("role=proxy", "mask=lines", "acceleration=2", "acs=12", "maps=acs")
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    (first, told, said), (second, nothing, also) = finish(start(2, "prepare", full, "-o", shared, *how))
    assert (first, second) == (0, 0), said + also
    assert (told, nothing, also) == (f"{shared}\n", "", "")
    done("prepare", full, "-o", alone, *how)
    assert tree(shared) == tree(alone)
    one, other = Store(shared), Store(alone)
    assert (one.ids, one.role, one.how, one.survey) == (other.ids, Role.PROXY, other.how, other.survey)
    files = dataset(Source(path=str(full), mask="lines", acceleration=2, acs=12, maps="acs"), Role.PROXY)
    for a, b, c in zip(one, other, files, strict=True):
        assert same(a, b)
        assert same(a, c)


def test_bad_input_is_one_line_and_leaves_nothing(undersampled: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert "name them" in refused("prepare", "maps=acs", "-o", store)
    assert "no scans there" in refused("prepare", tmp_path / "*.h5", "-o", store)
    assert "sett is unknown" in refused("prepare", undersampled, "sett=2", "-o", store)
    redrawn = ("role=proxy", "redraw=true")
    assert "redraw=true" in refused("prepare", undersampled, *redrawn, "-o", store)
    assert not store.exists()
    done("prepare", undersampled, "-o", store)
    before = tree(store)
    assert "already holds files" in refused("prepare", undersampled, "-o", store)
    assert "prepared already" in refused("prepare", store, "-o", tmp_path / "again")
    assert tree(store) == before


@pytest.mark.parametrize("world", [1, 2])
def test_a_bad_scan_leaves_nothing_half_written(undersampled: Path, world: int, tmp_path: Path) -> None:
    scans, store = tmp_path / "scans", tmp_path / "store"
    shutil.copytree(undersampled, scans)
    last = sorted(scans.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-2000])
    if world == 1:
        line = refused("prepare", scans, "-o", store)
    else:
        ended = finish(start(2, "prepare", scans, "-o", store))
        assert {code for code, _, _ in ended} == {2}
        line = "".join(said for _, _, said in ended)
    assert last.name in line
    assert not store.exists()
    line = done("prepare", scans, "skip_bad=true", "-o", store).err
    assert "left out 1 of 3 files" in line
    assert len(Store(store)) == 4
