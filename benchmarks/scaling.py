"""How much faster two processes train than one, and how much faster they could.

    python benchmarks/scaling.py --output benchmarks/results/scaling.json

Three ways to take the same optimiser steps, every process pinned to a core of its own and with one thread:
`one` process; `two` ranks that share the step out; and `apart`, two processes that each take half of a step
without exchanging anything: what the machine's cores and memory allow. They take turns, a step each, so that
a machine that is faster at one time than at another is as fast for all of them; what counts is the median of
the ratios of turns. CPU time tells what the work costs where other programs run on the same cores; wall time
then tells about them.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.data.simulate import prospective, simulate_data
from noref.methods import Subset
from noref.networks import VSHARP
from noref.scan import Role
from noref.training import Engine, Training
from noref.training.distributed import process_group, world_size

BATCH, MATRIX, COILS = 8, 128, 8
WARM = 3
"""Turns before those that count: they load libraries and fill caches."""
WAYS = {"one": (1, BATCH), "two": (2, BATCH), "apart": (2, BATCH // 2)}
"""Processes, and scans in a step of each training."""


class Paced(Engine):
    """A training that waits for its turn before every step, and tells what the step took."""

    began: tuple[float, float]

    def wait(self) -> None:
        """Until a line comes in."""
        sys.stdin.readline()
        self.began = time.perf_counter(), time.process_time()

    def log(self, row: Mapping[str, Any]) -> None:
        """After every step, on every rank."""
        super().log(row)
        wall, cpu = self.began
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}), flush=True)
        self.wait()


def worker(way: str, core: int, turns: int) -> None:
    """Trains on one core, a step a turn; a line of JSON each."""
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    size = (MATRIX, MATRIX)
    scans = simulate_data("brain", scans=BATCH, slices=1, coils=COILS, matrix=size, noise_db=40, seed=1)
    seen = [prospective(scan, kind="lines", acceleration=4, acs=12, seed=1) for scan in scans]
    data = Dataset(seen, Preparation.model_validate({"holdout": 0}), Role.TARGET)
    settings = Training.model_validate(
        {
            "batch": WAYS[way][1],
            "epochs": turns * WAYS[way][1] // BATCH,
            "micro_batch": 1,
            "device": "cpu",
            "log_every": 1,
            "save_every": 1e9,
        }
    )
    torch.manual_seed(0)
    with process_group(torch.device("cpu")), tempfile.TemporaryDirectory() as folder:
        engine = Paced(Path(folder) / str(world_size()), Subset(), network(), settings, targets=data)
        engine.wait()
        engine.run()


def network() -> VSHARP:
    """What is trained."""
    return VSHARP(steps=4, gradient_steps=4, features=16)


def start(way: str, turns: int) -> list[subprocess.Popen[str]]:
    """The processes of one way, waiting."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    number = WAYS[way][0]
    world = number if way == "two" else 1
    return [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", way, "--core", str(core), "--turns", str(turns)],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "RANK": str(core % world),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for core in range(number)
    ]


def take(processes: list[subprocess.Popen[str]]) -> dict[str, float]:
    """One turn: the slowest process's seconds for a step of all scans."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [json.loads(process.stdout.readline()) for process in processes if process.stdout is not None]
    return {key: max(line[key] for line in lines) for key in lines[0]}


def _median(values: list[float]) -> dict[str, float | list[float]]:
    """The median with its 95 % interval, between order statistics, whatever the distribution."""
    ordered, half = sorted(values), 0.98 * len(values) ** 0.5
    first, last = (round((len(values) - 1) / 2 + off) for off in (-half, half))
    return {
        "median": statistics.median(ordered),
        "interval": [ordered[max(first, 0)], ordered[min(last, len(values) - 1)]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", choices=WAYS)
    parser.add_argument("--core", type=int, default=0)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.core, given.turns)
        return
    # An epoch of `apart` has two steps.
    total = 2 * -(-(WARM + given.turns) // 2)
    processes = {way: start(way, total) for way in WAYS}
    turns: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(total):
        for way, waiting in processes.items():
            taken = take(waiting)
            if number >= WARM:
                turns[way].append(taken)
    for waiting in processes.values():
        for process in waiting:
            process.communicate()
    result = {
        "parameters": sum(parameter.numel() for parameter in network().parameters()),
        "batch": BATCH,
        "load": os.getloadavg()[1],
        "seconds per step": {
            way: {key: statistics.median(one[key] for one in of_way) for key in ("wall", "cpu")}
            for way, of_way in turns.items()
        },
        "times faster than one": {
            f"{way} ({key})": _median(
                [one[key] / other[key] for one, other in zip(turns["one"], turns[way], strict=True)]
            )
            for way in ("two", "apart")
            for key in ("wall", "cpu")
        },
        "turns": turns,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.output:
        given.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
