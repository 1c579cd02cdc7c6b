"""How much faster two processes train than one, and how much faster they could.

    python benchmarks/scaling.py --output benchmarks/results/scaling.json

Three ways to take the same optimiser steps in turn, several rounds of them, every process pinned to a core of
its own and with one thread: `one` process; `two` ranks that share the step out; and `apart`, two processes
that each take half of a step without exchanging anything: what the machine's cores and memory allow. CPU
time tells what the work costs where other programs run on the same cores; wall time then tells about them.
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
from pathlib import Path

import torch

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.data.simulate import prospective, simulate_data
from noref.methods import Subset
from noref.networks import VSHARP
from noref.scan import Role
from noref.training import Engine, Training
from noref.training.distributed import barrier, process_group, world_size

BATCH, MATRIX, COILS = 8, 128, 8
STEPS = 15
"""Of each training in a round: beginning and ending a run, and saving it, are no part of a step."""
WAYS = {"one": (1, BATCH), "two": (2, BATCH), "apart": (2, BATCH // 2)}
"""Processes, and scans in a step of each training."""


def worker(way: str, core: int, rounds: int) -> None:
    """Trains on one core, round by round; a line of JSON each."""
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    size = (MATRIX, MATRIX)
    scans = simulate_data("brain", scans=BATCH, slices=1, coils=COILS, matrix=size, noise_db=40, seed=1)
    seen = [prospective(scan, kind="lines", acceleration=4, acs=12, seed=1) for scan in scans]
    data = Dataset(seen, Preparation.model_validate({"holdout": 0}), Role.TARGET)
    with process_group(torch.device("cpu")), tempfile.TemporaryDirectory() as folder:
        for number in range(-1, rounds):
            sys.stdin.readline()
            given = {"epochs": STEPS if number >= 0 else 1, "batch": WAYS[way][1], "micro_batch": 1}
            settings = Training.model_validate({**given, "device": "cpu", "save_every": 1e9})
            torch.manual_seed(0)
            network = VSHARP(steps=4, gradient_steps=4, features=16)
            engine = Engine(
                Path(folder) / f"{world_size()}{number}", Subset(), network, settings, targets=data
            )
            barrier()
            wall, cpu = time.perf_counter(), time.process_time()
            taken = engine.run().taken
            spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            line = {key: value / taken for key, value in spent.items()}
            print(
                json.dumps({**line, "parameters": sum(p.numel() for p in network.parameters())}), flush=True
            )


def start(way: str, rounds: int) -> list[subprocess.Popen[str]]:
    """The processes of one way, waiting."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    number = WAYS[way][0]
    world = number if way == "two" else 1
    return [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", way, "--core", str(core), "--rounds", str(rounds)],
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
    """One round: the slowest process's seconds per step of all scans."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [json.loads(process.stdout.readline()) for process in processes if process.stdout is not None]
    return {key: max(line[key] for line in lines) for key in lines[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", choices=WAYS)
    parser.add_argument("--core", type=int, default=0)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.core, given.rounds)
        return
    processes = {way: start(way, given.rounds) for way in WAYS}
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(-1, given.rounds):
        for way, waiting in processes.items():
            taken = take(waiting)
            # The first round loads libraries and fills caches.
            if number >= 0:
                rounds[way].append(taken)
    for waiting in processes.values():
        for process in waiting:
            process.wait()
    seconds = {
        way: {key: statistics.median(one[key] for one in of_way) for key in ("wall", "cpu")}
        for way, of_way in rounds.items()
    }
    ratios = {
        f"{way} ({key})": statistics.median(
            one[key] / other[key] for one, other in zip(rounds["one"], rounds[way], strict=True)
        )
        for way in ("two", "apart")
        for key in ("wall", "cpu")
    }
    result = {
        "parameters": rounds["one"][0]["parameters"],
        "batch": BATCH,
        "load": os.getloadavg()[1],
        "seconds per step": seconds,
        "times faster than one": ratios,
        "rounds": rounds,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.output:
        given.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
