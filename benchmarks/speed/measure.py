"""Runs the sides of a row in turn, A B A B, and makes figures of their times."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import IO, Any, cast

import numpy as np

from .row import GRAPH, Row, Setting, Side

Three = tuple[float, float, float]
"""First quartile, median, third quartile."""


@dataclass(frozen=True)
class Measured:
    """What one side took.

    Attributes:
        skipped: why it did not run, or nothing.
        cpu: milliseconds of process CPU time of a pass.
        wall: milliseconds of wall time; on a GPU between its events.
        peak: MiB over what the imports take; on a GPU allocated.
        versus: the side that ratio and difference are taken with.
        ratio: its CPU time (on a GPU its wall time) over that side's, pair by pair.
        difference: of outputs, or None where they cannot be compared.
        agrees: whether the difference is within the side's tolerance; None where there is none.
        parameters: of the network.
        note: of the side.
    """

    skipped: str = ""
    cpu: Three | None = None
    wall: Three | None = None
    peak: float | None = None
    versus: str = ""
    ratio: Three | None = None
    difference: float | None = None
    agrees: bool | None = None
    parameters: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """What one row gave.

    Attributes:
        date: of the measurement, UTC.
        load: the machine's load average over a minute, before and after.
        rounds: passes of every side.
        sides: by name.
    """

    date: str
    load: tuple[float, float]
    rounds: int
    sides: dict[str, Measured] = field(default_factory=dict)


class _Worker:
    """A side's process."""

    def __init__(self, row: Row, side: Side, setting: Setting, threads: int) -> None:
        self.side = side
        place = (row.name, side.name, setting.folder, setting.device, setting.small)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive",
        }
        self.log = setting.folder / f"{side.name.replace(' ', '-')}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.speed.worker", *map(str, place)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=Path(__file__).parents[2],
            )
        self.passes: list[dict[str, float]] = []

    def hear(self) -> dict[str, Any]:
        """The next answer; what it died of if there is none."""
        line = cast(IO[str], self.process.stdout).readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        last = self.log.read_text().strip().splitlines()
        return {"skipped": f"ended: {last[-1] if last else 'without a word'}"}

    def ask(self, question: str) -> dict[str, Any]:
        """An answer to a question."""
        print(question, file=self.process.stdin, flush=True)
        return self.hear()

    def end(self) -> None:
        """Lets it go."""
        self.process.communicate()


def three(values: list[float]) -> Three:
    """Quartiles."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, median(values), high


def measure(
    row: Row, *, device: str, small: bool, seconds: float, rounds: int | None = None, threads: int = 2
) -> Result:
    """Measures a row.

    Args:
        row: which.
        device: `cpu` or `cuda`.
        small: sizes for a test.
        seconds: about how long the passes may take in all; at least three rounds are made.
        rounds: exactly so many instead.
        threads: of every side.
    """
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        setting = Setting(Path(folder), device, small)
        sides = [side for side in row.sides if device in side.devices]
        workers = [_Worker(row, side, setting, threads) for side in sides]
        try:
            told = {worker.side.name: worker.hear() for worker in workers}
            ready = [worker for worker in workers if "ready" in told[worker.side.name]]
            made = _rounds(ready, seconds, rounds)
            outputs = _outputs(ready, told, setting.folder)
            peaks = {worker.side.name: worker.ask("peak")["peak"] for worker in ready}
        finally:
            for worker in workers:
                worker.end()
    figures = {}
    for worker in workers:
        side, answer = worker.side, told[worker.side.name]
        if worker not in ready:
            figures[side.name] = Measured(skipped=answer["skipped"], note=side.why)
            continue
        one = Measured(
            cpu=three([each["cpu"] for each in worker.passes]),
            wall=three([each["wall"] for each in worker.passes]),
            peak=peaks[side.name],
            parameters=answer["parameters"],
            note="; ".join(filter(None, (side.why, answer["note"]))),
        )
        versus = _versus(side.versus or row.sides[0].name, ready) or worker
        figures[side.name] = one if versus is worker else _compared(one, worker, versus, device, outputs)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    return Result(date, (round(before, 1), round(os.getloadavg()[0], 1)), made, figures)


def _versus(name: str, workers: list[_Worker]) -> _Worker | None:
    """The side of a name, its CUDA graph rather."""
    found = {worker.side.name: worker for worker in workers}
    return found.get(name + GRAPH, found.get(name))


def _rounds(workers: list[_Worker], seconds: float, rounds: int | None) -> int:
    """Has the workers pass in turn; the first round warms up and does not count."""
    made, start = 0, time.monotonic()
    while workers:
        for worker in workers:
            worker.passes.append(worker.ask(f"pass {worker.side.repeat}"))
        made += 1
        per_round = (time.monotonic() - start) / made
        enough = 1 + (rounds or min(max(3, int(seconds / per_round)), 25))
        if made >= enough:
            break
    for worker in workers:
        del worker.passes[0]
    return made - 1


def _outputs(
    workers: list[_Worker], told: dict[str, dict[str, Any]], folder: Path
) -> dict[str, np.ndarray[Any, Any]]:
    found: dict[str, np.ndarray[Any, Any]] = {}
    for worker in workers:
        name = worker.side.name
        if told[name]["comparable"]:
            path = folder / f"{len(found)}.npy"
            worker.ask(f"output {path}")
            found[name] = np.load(path)
    return found


def _compared(
    one: Measured, worker: _Worker, versus: _Worker, device: str, outputs: dict[str, np.ndarray[Any, Any]]
) -> Measured:
    """With ratio and difference to another side."""
    what = "wall" if device == "cuda" else "cpu"
    ratio = three([a[what] / b[what] for a, b in zip(worker.passes, versus.passes, strict=True)])
    side, names = worker.side, (versus.side.name, worker.side.name)
    difference = side.difference(*(outputs[n] for n in names)) if all(n in outputs for n in names) else None
    agrees = None if difference is None or side.tolerance is None else difference <= side.tolerance
    return replace(one, versus=names[0], ratio=ratio, difference=difference, agrees=agrees)
