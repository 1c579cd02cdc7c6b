"""One store by several processes that know nothing of one another: jobs, shares, twins, and some that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import done, many, noref, refused, same, same_stores, volumes
from training.ranks import finish, start

from noref.data.store import Store


def begin(*arguments: str | Path, **said: str) -> subprocess.Popen[str]:
    """A `noref prepare` of its own, with more in its environment."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "noref.cli", "prepare", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **said},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def array_task(number: int, count: int, first: int) -> dict[str, str]:
    """What SLURM says to a task of an array."""
    said = {"ID": number, "COUNT": count, "MIN": first, "STEP": 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in said.items()}


@pytest.fixture
def alone(undersampled: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Twelve subjects, and their store by one process."""
    scans, store = many(tmp_path / "scans", undersampled, 12), tmp_path / "alone"
    done("prepare", scans, "-o", store, "--jobs", "1")
    return scans, store


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_tasks_of_an_array_write_one_store(alone: tuple[Path, Path], suffix: str, tmp_path: Path) -> None:
    (scans, one), store = alone, tmp_path / f"store{suffix}"
    tasks = [array_task(number, 3, first=1) for number in (1, 2, 3)]
    processes = [begin(scans, "-o", store, "--jobs", "1", **task) for task in tasks]
    while processes[1].poll() is None and len(list(store.glob("scans/0*"))) < 3:
        time.sleep(0.001)
    processes[1].kill()
    ended = finish(processes, 120)
    assert [code for code, *_ in ended] == [0, -signal.SIGKILL, 0], ended
    assert "Traceback" not in "".join(said for *_, said in ended)
    assert not (store / "store.json").exists()
    assert "share 1 of 3 is there, others are not" in ended[0][2]
    assert ended[0][1] == ""
    assert "not prepared to the end" in refused("train", "ssdu", f"data.target.path={store}")
    # The task that was killed is started again; once more, it has nothing to do.
    for _ in range(2):
        ((code, told, said),) = finish([begin(scans, "-o", store, **tasks[1])], 120)
        assert (code, told) == (0, f"{store}\n"), said
    pairs = zip(Store(store), Store(one), strict=True)
    assert all(same(a, b) for a, b in pairs)
    if not suffix:
        assert same_stores(store, one)
        assert [volume.read_bytes()[64:] for volume in sorted(store.glob("scans/*"))] == [
            volume.read_bytes()[64:] for volume in sorted(one.glob("scans/*"))
        ]
    assert "already holds files" in refused("prepare", scans, "seed=1", "-o", store)


def test_the_job_for_slurm(undersampled: Path, tmp_path: Path) -> None:
    job, store = Path(__file__).parents[2] / "docs" / "slurm" / "prepare.sh", tmp_path / "store"
    command = tmp_path / "bin" / "noref"
    command.parent.mkdir()
    command.write_text(f'#!/bin/bash\nexec {sys.executable} -W error -m noref.cli "$@"\n')
    command.chmod(0o755)
    said = {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "1"}
    assert "#SBATCH --array=0-7\n" in job.read_text()
    tasks = [
        subprocess.run(
            ["bash", str(job), str(undersampled), "-o", str(store), "holdout=0.1"],
            env={**os.environ, **said, **array_task(number, 2, first=0)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        for number in (1, 0)
    ]
    assert [task.stdout for task in tasks] == ["", f"{store}\n"]
    assert Store(store).how.holdout == 0.1
    assert len(Store(store)) == 6


def test_jobs_of_one_machine_write_the_same(alone: tuple[Path, Path], tmp_path: Path) -> None:
    (scans, one), store = alone, tmp_path / "store"
    process = begin(scans, "-o", store, "--jobs", "3")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and len(volumes(store)) < 2:
        time.sleep(0.001)
    working = children.read_text().split()
    assert len(working) >= 3
    os.kill(int(working[0]), signal.SIGKILL)
    ((code, told, said),) = finish([process], 120)
    assert (code, told) == (2, "")
    assert said.splitlines()[-1].endswith("the same command goes on, with fewer by --jobs")
    assert "Traceback" not in said
    before = volumes(store)
    assert 2 <= len(before) < 12
    done("prepare", scans, "-o", store, "--jobs", "2")
    assert before.items() <= volumes(store).items()
    assert same_stores(store, one)


def test_ctrl_c_ends_all_jobs(alone: tuple[Path, Path], tmp_path: Path) -> None:
    (scans, one), store = alone, tmp_path / "store"
    process = begin(scans, "-o", store, "--jobs", "2")
    while process.poll() is None and len(volumes(store)) < 2:
        time.sleep(0.001)
    # As a terminal does it: to all of them.
    os.killpg(process.pid, signal.SIGINT)
    ((code, told, said),) = finish([process], 120)
    assert (code, told) == (130, ""), said
    assert said.endswith("stopped; the same command goes on\n")
    assert not list(store.rglob(".part-*"))
    done("prepare", scans, "-o", store)
    assert same_stores(store, one)


def test_two_at_once_do_no_harm(alone: tuple[Path, Path], tmp_path: Path) -> None:
    (scans, one), store = alone, tmp_path / "store"
    ended = finish([begin(scans, "-o", store) for _ in range(2)], 120)
    assert [(code, told) for code, told, _ in ended] == 2 * [(0, f"{store}\n")], ended
    assert same_stores(store, one)


def test_shares_are_checked(undersampled: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert "no share; give K/N" in refused("prepare", undersampled, "-o", store, "--shard", "4/3")
    (one, other) = finish(start(2, "prepare", undersampled, "-o", store, "--shard", "1/2"))
    assert (one[0], other[0]) == (2, 2)
    said = one[2] + other[2]
    assert "torchrun shares out the volumes" in said
    assert not store.exists()
    assert noref("prepare", undersampled, "-o", store, "--shard", "1/2").out == ""
    assert done("prepare", undersampled, "-o", store, "--shard", "2/2").out == f"{store}\n"


def test_what_was_begun_otherwise_and_has_nothing_is_begun_anew(undersampled: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = begin(undersampled, "-o", store, "seed=1")
    while process.poll() is None and not (store / "preparing.json").exists():
        time.sleep(0.001)
    process.kill()
    finish([process])
    if not volumes(store):
        done("prepare", undersampled, "-o", store, "seed=2")
        assert Store(store).how.seed == 2
        assert not list(store.rglob(".part-*"))
