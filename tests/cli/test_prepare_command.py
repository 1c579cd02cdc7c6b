"""`noref prepare`: a store of what training would prepare itself, by one process or by several."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import mrd_files
import numpy as np
import pytest
import torch
from command import TINY, done, many, refused, same, same_stores, tree, volumes
from safetensors.torch import load_file
from training.ranks import finish, start

from noref import prepare
from noref.api import dataset
from noref.config import Source
from noref.data.split import PARTS
from noref.data.store import Store
from noref.scan import Role


def test_training_from_it_is_training_from_the_files(undersampled: Path, tmp_path: Path) -> None:
    store, weights = tmp_path / "store", []
    told = done("prepare", undersampled, "-o", store, "holdout=0.1", "seed=3")
    assert told.out == f"{store}\n"
    assert "targets; coil maps by espirit, not whitened" in told.err
    assert told.err.endswith(f"pictures: {store / 'contact.png'}\n")
    assert (store / "contact.png").exists()
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
    how_said = Source(path=str(full), role=Role.PROXY, mask="lines", acceleration=2, acs=12, maps="acs")
    assert prepare(how_said, tmp_path / "python").ids == one.ids
    assert tree(tmp_path / "python") == tree(alone)
    files = dataset(how_said, Role.PROXY)
    for a, b, c in zip(one, other, files, strict=True):
        assert same(a, b)
        assert same(a, c)


def test_subjects_are_split_into_stores(full: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    how = ("role=proxy", "mask=lines", "acceleration=2", "acs=12", "maps=acs")
    done("prepare", full, "-o", out, *how, "--split", "0.4,0.3,0.3")
    parts = {part: {one.split("/")[0] for one in Store(out / part).ids} for part in PARTS}
    assert sorted(name for part in parts.values() for name in part) == [f"brain-000{i}" for i in (1, 2, 3)]
    assert {len(part) for part in parts.values()} == {1}
    for wrong in ("a,b", "1", "0.5,0.6,0.1"):
        refused("prepare", full, "-o", tmp_path / "x", "--split", wrong)
    assert "split=test: none of 1 subjects" in refused(
        "prepare", full / "brain-0001.h5", "-o", tmp_path / "x", "split=test"
    )
    assert not (tmp_path / "x").exists()


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
    assert "already holds files" in refused("prepare", undersampled, "seed=1", "-o", store)
    line = refused("prepare", undersampled / "brain-0002.h5", store, "-o", tmp_path / "again")
    assert line == f"noref: {store}: prepared already; name the raw files"
    assert tree(store) == before


@pytest.mark.parametrize("world", [1, 2])
def test_what_was_prepared_before_a_bad_scan_is_gone_on_with(
    undersampled: Path, world: int, tmp_path: Path
) -> None:
    scans, store = many(tmp_path / "scans", undersampled), tmp_path / "store"
    last = scans / "subject-7.h5"
    with h5py.File(last, "r+") as file:
        file["kspace"][-1, 0, 0, 0] = float("nan")
    if world == 1:
        lines = refused("prepare", scans, "-o", store)
    else:
        ended = finish(start(2, "prepare", scans, "-o", store))
        assert {code for code, _, _ in ended} == {2}
        (lines,) = (line for _, _, said in ended for line in said.splitlines() if "noref: " in line)
    assert "subject-7" in lines
    assert "NaN" in lines
    before = volumes(store)
    assert len(before) == 7
    assert not list(store.rglob(".part-*"))
    for command in (["train", "ssdu", f"data.target.path={store}"], ["prepare", store, "-o", tmp_path / "x"]):
        assert "not prepared to the end; give the same noref prepare again" in refused(*command)
    assert "begun with other scans or settings" in refused("prepare", scans, "seed=1", "-o", store)
    shutil.copy(scans / "subject-0.h5", last)
    done("prepare", scans, "-o", store)
    assert before.items() <= volumes(store).items(), "not written again"
    done("prepare", scans, "-o", tmp_path / "alone")
    assert same_stores(store, tmp_path / "alone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_is_gone_on_with(
    undersampled: Path, number: signal.Signals, tmp_path: Path
) -> None:
    scans, store = many(tmp_path / "scans", undersampled, 24), tmp_path / "store"
    first, second = start(2, "prepare", scans, "-o", store)
    while second.poll() is None and len(volumes(store)) < 3:
        time.sleep(0.001)
    second.send_signal(number)
    (code, told, said), _ = finish([first, second])
    assert told == ""
    assert "Traceback" not in said
    if number is signal.SIGTERM:
        assert code == 130
        assert said.endswith("stopped; the same command goes on\n")
    else:
        assert code == 2
        assert "process 0 of 2: another one has ended" in said
    before = volumes(store)
    assert 3 <= len(before) < 24
    done("prepare", scans, "-o", store)
    assert before.items() <= volumes(store).items()
    done("prepare", scans, "-o", tmp_path / "alone")
    assert same_stores(store, tmp_path / "alone")


def test_bad_files_are_left_out_when_asked_to(undersampled: Path, tmp_path: Path) -> None:
    scans, store = many(tmp_path / "scans", undersampled, 3), tmp_path / "store"
    last = scans / "subject-2.h5"
    last.write_bytes(last.read_bytes()[:-2000])
    assert last.name in refused("prepare", scans, "-o", store)
    assert not store.exists()
    assert done("prepare", scans, "skip_bad=true", "-o", store).err.count("left out 1 of 3 files") == 1
    assert len(Store(store)) == 4


def little_calibration(path: Path) -> None:
    """A subject of whom every second line was measured, and no centre."""
    with h5py.File(path, "r+") as file:
        file["kspace"][..., 1::2] = 0
        for name in ("maps", "kspace_clean", "mask"):
            if name in file:
                del file[name]


def test_a_refusal_leaves_nothing_and_the_corrected_command_works(
    undersampled: Path, full: Path, tmp_path: Path
) -> None:
    store, scans = tmp_path / "store", many(tmp_path / "scans", undersampled, 2)
    for path in scans.iterdir():
        little_calibration(path)
    for paths, settings, why in (
        (undersampled, ["mask=linse"], "mask 'linse' is unknown"),
        (undersampled, ["mask=nothere.npy"], "nothere.npy: not a .npy mask"),
        (full, [], "no samples outside the calibration region"),
        (undersampled, ["mask=lines", "acceleration=4", "acs=8"], "already undersampled"),
        (scans, [], "ESPIRiT needs"),
    ):
        for suffix in ("", ".zarr"):
            assert why in refused("prepare", paths, *settings, "-o", f"{store}{suffix}")
            assert not Path(f"{store}{suffix}").exists()
    done("prepare", scans, "maps=acs", "-o", store)


def test_what_cannot_be_prepared_is_left_out_when_asked_to(undersampled: Path, tmp_path: Path) -> None:
    scans, store = many(tmp_path / "scans", undersampled, 4), tmp_path / "store"
    little_calibration(scans / "subject-1.h5")
    with h5py.File(scans / "subject-2.h5", "r+") as file:
        file["kspace"][0, ..., 1::2] = 0
        del file["mask"]
    assert "subject-1" in refused("prepare", scans, "-o", store)
    told = done("prepare", scans, "-o", store, "skip_bad=true").err.splitlines()
    lines = [line for line in told if "left out" in line]
    assert len([line for line in lines if "subject-1" in line]) == 1
    assert "left out 2 of 2 slices" in next(line for line in lines if "subject-1" in line)
    assert "left out 1 of 2 slices: brain-0001/subject-2/000" in lines[1]
    assert lines[2:] == ["noref: warning: left out 3 slices in all, which cannot be prepared"]
    kept = ["0/000", "0/001", "2/001", "3/000", "3/001"]
    assert list(Store(store).ids) == [f"brain-0001/subject-{name}" for name in kept]
    only = tmp_path / "only"
    assert "there is no scan to write" in refused(
        "prepare", scans / "subject-1.h5", "skip_bad=true", "-o", only
    )
    assert not only.exists()


def test_grids_are_told_apart_before_any_work(undersampled: Path, tmp_path: Path) -> None:
    spokes = tmp_path / "spokes.h5"
    positions = np.random.default_rng(0).uniform(-0.5, 0.5, (12, 32, 2)).astype("f4")
    data = mrd_files.kspace(2, 12, 32)
    mrd_files.write(
        spokes,
        [mrd_files.readout(data[:, i], traj=positions[i]) for i in range(12)],
        mrd_files.xml(mrd_files.space((32, 32, 1), trajectory="radial")),
    )
    line = refused("prepare", undersampled, spokes, "-o", tmp_path / "store")
    assert "brain-0001/000 lies on the Cartesian grid, spokes/spokes/000 off it" in line
    assert not (tmp_path / "store").exists()


def test_a_full_disk_is_one_line_that_names_a_path(undersampled: Path, tmp_path: Path) -> None:
    store, command = tmp_path / "store.zarr", ("-m", "noref.cli", "prepare", str(undersampled), "--jobs", "1")
    ended = subprocess.run(
        ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", sys.executable, *command, "-o", str(store)],
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert f"noref: {tmp_path}: cannot be written (File too large)" in ended.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
