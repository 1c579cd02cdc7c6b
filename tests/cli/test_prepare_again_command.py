"""`noref prepare` once more: what was stopped goes on, part by part, and what is finished stays as it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from command import done, many, refused, same_stores, volumes
from training.ranks import finish, start

from noref import prepare
from noref.config import Source
from noref.data.shard import Shard
from noref.data.split import PARTS
from noref.data.storage import MANIFEST, UNFINISHED
from noref.data.store import Store
from noref.errors import NorefError

AGAIN = "was there already, by the same call: no scan was prepared again"


def subjects(folder: Path, scans: Path, number: int) -> Path:
    """A folder of so many subjects, each with a name of its own in its file."""
    for path in many(folder, scans, number).iterdir():
        with h5py.File(path, "r+") as file:
            file.attrs["patient_id"] = path.stem
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Of all files below one."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("number", "more"), [(signal.SIGINT, ()), (signal.SIGKILL, ("--shard", "1/1"))])
def test_a_split_that_is_stopped_is_gone_on_with(
    undersampled: Path, number: signal.Signals, more: tuple[str, ...], tmp_path: Path
) -> None:
    scans, out = subjects(tmp_path / "scans", undersampled, 10), tmp_path / "parts"
    command = ["prepare", str(scans), "--split", "0.2,0.6,0.2", "--jobs", "1", *more]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "noref.cli", *command, "-o", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and len(volumes(out / "validation")) < 2:
        time.sleep(0.001)
    process.send_signal(number)
    ((code, told, said),) = finish([process])
    assert (code, told) == (130 if number is signal.SIGINT else -number, f"{out / 'train'}\n"), said
    assert not (out / "validation" / MANIFEST).exists()
    before = content(out / "train"), volumes(out / "validation")
    again = done(*command, "-o", out)
    assert again.out.splitlines() == [str(out / part) for part in PARTS]
    assert [line for line in again.err.splitlines() if AGAIN in line] == [f"{out / 'train'} {AGAIN}"]
    assert content(out / "train") == before[0]
    assert before[1].items() <= volumes(out / "validation").items()
    done(*command, "-o", tmp_path / "at-once")
    assert all(same_stores(out / part, tmp_path / "at-once" / part) for part in PARTS)


def test_a_split_of_shares_goes_on_where_a_part_is_whole(undersampled: Path, tmp_path: Path) -> None:
    scans, out = subjects(tmp_path / "scans", undersampled, 6), tmp_path / "parts"
    command = ("prepare", scans, "-o", out, "--split", "0.34,0.33,0.33")
    train = Source(path=str(scans), split="train", shares=(0.34, 0.33, 0.33))
    assert prepare(train, out / "train", shard=Shard(1, 2)) is None
    assert prepare(train, out / "train", shard=Shard(0, 2)) is not None
    before = content(out / "train")
    assert done(*command, "--shard", "1/2").out == f"{out / 'train'}\n"
    assert done(*command, "--shard", "2/2").out.splitlines() == [str(out / part) for part in PARTS]
    assert content(out / "train") == before


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_what_is_finished_is_left_as_it_is(undersampled: Path, suffix: str, tmp_path: Path) -> None:
    scans, store = many(tmp_path / "scans", undersampled, 3), tmp_path / f"store{suffix}"
    first = done("prepare", scans, "-o", store, "holdout=0.1")
    before = content(store)
    for more in ((), ("--shard", "1/1"), ("--shard", "2/3"), ("--jobs", "1")):
        again = done("prepare", scans, "-o", store, "holdout=0.1", *more)
        assert again.out == first.out
        table = first.err[first.err.index("matrix") :]
        assert again.err == f"{table}{store} {AGAIN}\n"
    assert content(store) == before
    assert prepare(Source(path=str(scans), holdout=0.1), store).ids == Store(store).ids
    ended = finish(start(2, "prepare", scans, "-o", store, "holdout=0.1"))
    assert [(code, told) for code, told, _ in ended] == [(0, f"{store}\n"), (0, "")], ended
    assert content(store) == before


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_what_is_finished_is_of_no_other_call(undersampled: Path, suffix: str, tmp_path: Path) -> None:
    scans, store = many(tmp_path / "scans", undersampled, 3), tmp_path / f"store{suffix}"
    done("prepare", scans, "-o", store)
    before = content(store)
    for settings in (["seed=1"], ["role=proxy"], ["averages=apart"], ["subjects=1", "holdout=0.1"]):
        assert "already holds files" in refused("prepare", scans, "-o", store, *settings)
    with pytest.raises(NorefError, match="already holds files"):
        prepare(Source(path=str(scans / "subject-0.h5")), store, shard=Shard(0, 2))
    shutil.copy(scans / "subject-0.h5", scans / "subject-3.h5")
    # One more is not left out in silence, whoever asks.
    for more in ((), ("skip_bad=true",), ("--shard", "1/2")):
        assert "already holds files" in refused("prepare", scans, "-o", store, *more)
    (scans / "subject-3.h5").unlink()
    done("prepare", scans, "-o", store)
    assert content(store) == before


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_pictures_that_are_missing_are_drawn(undersampled: Path, suffix: str, tmp_path: Path) -> None:
    store = tmp_path / f"store{suffix}"
    done("prepare", undersampled, "-o", store)
    before = content(store)
    # As a process leaves it that is killed as soon as the store is whole.
    (store / "contact.png").unlink()
    (store / UNFINISHED).write_bytes(json.dumps({"stamp": "0" * 32}).encode())
    (store / "parts").mkdir()
    (store / "parts" / "000000.npz").write_bytes(b"")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (store / f".part-{gone.pid}.1@{os.uname().nodename}@contact.png").write_bytes(b"half")
    again = done("prepare", undersampled, "-o", store)
    assert again.out == f"{store}\n"
    assert again.err.endswith(f"pictures: {store / 'contact.png'}\n{store} {AGAIN}\n")
    assert content(store) == before
    (store / "contact.png").unlink()
    assert prepare(Source(path=str(undersampled)), store) is not None
    assert content(store) == before


def test_one_that_lacks_slices_is_the_same_only_if_they_may_be_left_out(
    undersampled: Path, tmp_path: Path
) -> None:
    scans, store = many(tmp_path / "scans", undersampled, 3), tmp_path / "store"
    with h5py.File(scans / "subject-1.h5", "r+") as file:
        file["kspace"][0, ..., 1::2] = 0
        del file["mask"]
    done("prepare", scans, "-o", store, "skip_bad=true")
    before = content(store)
    assert len(Store(store)) == 5
    assert AGAIN in done("prepare", scans, "-o", store, "skip_bad=true").err
    assert "already holds files" in refused("prepare", scans, "-o", store)
    assert content(store) == before


def test_a_damaged_store_is_not_taken_for_the_same(undersampled: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    done("prepare", undersampled, "-o", store)
    index = (store / "index.npz").read_bytes()
    (store / "index.npz").write_bytes(index[:-1])
    assert "damaged" in refused("prepare", undersampled, "-o", store)
    (store / "index.npz").write_bytes(index)
    (store / MANIFEST).write_text("[]")
    assert "already holds files" in refused("prepare", undersampled, "-o", store)


def test_a_split_that_is_refused_leaves_nothing(full: Path, tmp_path: Path) -> None:
    refused("prepare", full, "-o", tmp_path / "parts", "--split", "0.4,0.3,0.3")
    assert not (tmp_path / "parts").exists()
    (tmp_path / "mine").mkdir()
    refused("prepare", full, "-o", tmp_path / "mine", "--split", "0.4,0.3,0.3")
    assert (tmp_path / "mine").is_dir()
