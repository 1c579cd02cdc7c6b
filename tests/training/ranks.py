"""Processes of one training or reconstruction, as `torchrun` starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["noref", "torch._dynamo"])


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(world: int, *command: str | Path) -> list[subprocess.Popen[str]]:
    """`world` processes of a command of noref, rank by rank."""
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "noref.cli", *map(str, command)],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finish(processes: list[subprocess.Popen[str]], seconds: float = 60) -> list[tuple[int, str, str]]:
    """Exit code, output and error output of each; those that do not end in time are killed."""
    try:
        said = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, said, strict=True)]


def as_rank(rank: int, world: int, port: int) -> None:
    """Makes this process one of several."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )


def both(task: Callable[[int, int, Path], None], folder: Path) -> None:
    """Runs `task(rank, port, folder)` in two processes, which both must end well."""
    port = free_port()
    processes = [SPAWN.Process(target=task, args=(rank, port, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
