"""Processes that share out slices, and processes that die."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from files import TINY, write_targets
from ranks import SPAWN, as_rank, finish, free_port, start
from synthetic import scan, undersampled

from noref.cli.reconstruct import reconstruct
from noref.cli.train import train as resume
from noref.errors import NorefError
from noref.formats import fastmri
from noref.training import distributed


def test_ranks_share_out_slices_and_write_what_one_process_does(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, count in (("one", 1), ("three", 3)):
        slices = (undersampled(scan((20, 16), 2, seed=i, noise=0.01), "random2d", 2, 4) for i in range(count))
        fastmri.write(scans / f"{name}.h5", [replace(one, id=f"{name}/scan/0") for one in slices])
    processes = start(2, "reconstruct", "cg-sense", scans, "-o", tmp_path / "shared", "--suffix", ".npy")
    (first, told, said), (second, nothing, also) = finish(processes)
    assert (first, second) == (0, 0), said + also
    reconstruct("cg-sense", [str(scans)], tmp_path / "alone", ".npy")
    names = ["one.npy", "three.npy"]
    assert told.splitlines() == [str(tmp_path / "shared" / name) for name in names]
    assert nothing == also == ""
    for folder in ("shared", "alone"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
    for name, count in zip(names, (1, 3), strict=True):
        shared, alone = (np.load(tmp_path / folder / name) for folder in ("shared", "alone"))
        assert len(shared) == count
        np.testing.assert_array_equal(shared, alone)


def test_a_killed_rank_ends_the_run_which_goes_on_with_one_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, scans = tmp_path / "run", write_targets(tmp_path / "scans", 3)
    settings = (f"data.target.path={scans}", "data.target.holdout=0.1", f"output={run}", *TINY)
    settings += ("training.epochs=80", "training.save_every=0", "training.validate_every=80")
    first, second = start(2, "train", "ssdu", *settings)
    log = run / "metrics.jsonl"
    while second.poll() is None and not (log.exists() and log.read_text().count("\n") > 5):
        time.sleep(0.005)
    second.kill()
    killed = time.monotonic()
    (code, told, said), (signalled, _, _) = finish([first, second])
    assert time.monotonic() - killed < 30
    assert (code, told, signalled) == (2, "", -signal.SIGKILL), said
    (line,) = (line for line in said.splitlines() if line.startswith("noref: "))
    assert "process 0 of 2: another one has ended" in line
    assert "--resume" in line
    assert "Traceback" not in said
    assert not (run / "model").exists()

    resume(str(run), resume=True)
    assert capsys.readouterr().out == f"{run / 'model'}\n"
    steps = [row["step"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    assert steps == list(range(1, 161))
    monkeypatch.setenv("RANK", "1")
    resume(str(run), resume=True)
    assert capsys.readouterr().out == "", "two ranks say the same"


def wait_for_a_rank_that_hangs(number: int, port: int, folder: Path) -> None:
    as_rank(number, 2, port)
    distributed.PATIENCE = distributed.timedelta(seconds=2)
    began = time.monotonic()
    try:
        with distributed.process_group(torch.device("cpu")):
            distributed.barrier()
            if number == 1:
                os.kill(os.getpid(), signal.SIGSTOP)
            distributed.total(torch.ones(1))
    except distributed.PeerLost as lost:
        (folder / "said").write_text(f"{time.monotonic() - began:.1f} {lost.first} {lost}")


def test_a_rank_that_hangs_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    port = free_port()
    processes = [SPAWN.Process(target=wait_for_a_rank_that_hangs, args=(n, port, tmp_path)) for n in range(2)]
    for process in processes:
        process.start()
    processes[0].join(60)
    for process in processes:
        process.kill()
    assert processes[0].exitcode == 0
    seconds, first, said = (tmp_path / "said").read_text().split(" ", 2)
    assert 2 <= float(seconds) < 30
    assert first == "True"
    assert said.startswith("process 0 of 2: another one has ended or does not answer")


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer"), True),
        (dist.DistBackendError("NCCL communicator was aborted"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (torch.OutOfMemoryError("out of memory"), False),
    ],
)
def test_only_errors_of_exchanges_are_anothers(error: RuntimeError, lost: bool) -> None:
    assert distributed._is_of_peers(error) is lost


@pytest.mark.parametrize("wrong", [{"MASTER_ADDR": None}, {"RANK": "first"}, {"MASTER_PORT": "none"}])
def test_processes_that_cannot_meet_are_told_where(
    wrong: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29517", **wrong}
    for name, value in given.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with (
        pytest.raises(NorefError, match="the 2 processes do not meet there"),
        distributed.process_group(torch.device("cpu")),
    ):
        pytest.fail("they met")
