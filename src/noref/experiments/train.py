"""Training the runs of an experiment: any number of processes, on and off, until all are done."""

from __future__ import annotations

import fcntl
import json
import math
import shutil
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from noref import api
from noref.errors import NorefError
from noref.experiments.experiment import Begun, Experiment, Run, Size
from noref.files import whole

POLL = 5.0
"""Seconds between looks at runs that other processes have taken."""


def runs_of(
    experiment: Experiment,
    home: Path,
    size: Size,
    *,
    conditions: Sequence[str] = (),
    rows: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Run]:
    """The runs of an experiment, first seeds first: a table is whole before it is repeated.

    Args:
        experiment: whose.
        home: its folder.
        size: of all of them.
        conditions: these tables only.
        rows: these rows only, and those that they start from.
        seeds: these only.
    """
    wanted = set(rows) | {experiment.rows[row].start for row in rows}
    found = [
        Run(experiment, name, row, seed, home, size)
        for name, condition in experiment.conditions.items()
        for row, number in condition.seeds.items()
        for seed in range(number)
        if (not conditions or name in conditions)
        and (not rows or row in wanted)
        and (not seeds or seed in seeds)
    ]
    return sorted(found, key=lambda run: run.seed)


def once(runs: Sequence[Run]) -> list[Run]:
    """The runs without those that are in several tables a second time."""
    by_folder: dict[Path, Run] = {}
    for run in runs:
        by_folder.setdefault(run.folder, run)
    return list(by_folder.values())


def left(runs: Sequence[Run], known: Container[tuple[str, str, int]]) -> list[Run]:
    """Those that are still to be trained, each once.

    Args:
        runs: wanted, and those that they start from.
        known: condition, row and seed of those whose scores are known.
    """
    wanted = [run for run in runs if not run.finished and (run.condition, run.row, run.seed) not in known]
    folders = {run.folder for run in wanted} | {run.start.folder for run in wanted if run.start is not None}
    return [run for run in once(runs) if run.folder in folders and not run.finished]


def begun_with(experiment: Experiment, matrix: int, size: Size) -> Begun:
    """What all runs of an experiment share, and its folder remembers."""
    begun = {"matrix": matrix, **asdict(size), "steps": size.steps or experiment.steps}
    # Without a network as what was begun before there was a choice.
    return {name: value for name, value in begun.items() if name != "network" or value is not None}


def prepared(experiment: Experiment, data: Path, home: Path, matrix: int, size: Size) -> None:
    """Writes the experiment's data unless they are there; under their own name only when complete.

    Raises:
        NorefError: if the experiment was begun with another matrix or size: its tables would mix them.
    """
    folder, note = home / "data", home / "experiment.json"
    begun = begun_with(experiment, matrix, size)
    with claim(home / "data.lock", wait=True):
        if note.exists() and (before := json.loads(note.read_text(encoding="utf-8"))) != begun:
            other = [name for name in {**before, **begun} if before.get(name) != begun.get(name)]
            said = ", ".join(f"{name} {before.get(name)}" for name in other)
            raise NorefError(f"{home}: begun with {said}; give the same, or another --output")
        with whole(note) as temporary:
            temporary.write_text(json.dumps(begun) + "\n", encoding="utf-8")
        if folder.exists():
            return
        part = home / ".part-data"
        shutil.rmtree(part, ignore_errors=True)
        experiment.write(data, part, matrix)
        part.rename(folder)


def train(runs: Sequence[Run]) -> None:
    """Trains runs, each given once; those that another process has taken are waited for.

    Raises:
        NorefError: as `api.train` does.
        Interrupted: on Ctrl-C or SIGTERM, after saving.
    """
    waiting = list(runs)
    while waiting:
        taken = 0
        for run in waiting:
            if run.start is not None and not run.start.finished:
                continue
            with claim(run.lock) as mine:
                if mine and not run.finished:
                    taken += 1
                    _train(run)
        waiting = [run for run in waiting if not run.finished]
        if waiting and not taken:
            time.sleep(POLL)


def _train(run: Run) -> None:
    """Trains one run, or goes on with it; how long that took stands beside its model."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        api.train(run.config(), resume=True)
    finally:
        if run.folder.exists():
            note = run.folder / "time.jsonl"
            spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            with note.open("a", encoding="utf-8") as file:
                file.write(json.dumps({name: round(seconds, 1) for name, seconds in spent.items()}) + "\n")


def hours(run: Run) -> float:
    """What a run took, and the one that it starts from, in hours of CPU time; NaN if it is not known.

    Of all sittings of their processes. By the clock it would depend on what else the machine did.
    """
    note = run.folder / "time.jsonl"
    if not note.exists():
        return math.nan
    lines = note.read_text(encoding="utf-8").splitlines()
    before = hours(run.start) if run.start is not None else 0.0
    return before + sum(float(json.loads(line)["cpu"]) for line in lines) / 3600


@contextmanager
def claim(lock: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process has a lock, for as long as the context, and the process, lasts."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
