"""A run that was killed goes on as if nothing had happened: same weights, same log, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import scans
import torch
from ranks import SPAWN
from scans import apart, log, refined, same, targets, weights

from noref.errors import NorefError
from noref.methods import Method, Subset
from noref.training import Engine, Interrupted
from noref.training.step import Step
from noref.training.store import TeacherStore
from noref.training.validate import score_holdout


def engine(folder: Path, method: Method | None = None, **changes: Any) -> Engine:
    """A training that saves after every step."""
    return scans.engine(folder, method, **{"save_every": 0, **changes})


class Killed(BaseException):
    """Ends a run where it stands; nothing catches it."""


def kill(kind: str) -> None:
    raise Killed(kind)


@dataclass
class Events:
    """Counts the moments that change anything, and acts at one of them.

    Attributes:
        seen: what happened.
        at: acts when the event `at[0]` happens for the `at[1]`-th time.
        left: acts after so many events.
        act: what to do then.
    """

    seen: list[str] = field(default_factory=list)
    at: tuple[str, int] = ("", 0)
    left: float = float("inf")
    act: Callable[[str], None] = kill

    def __call__(self, kind: str) -> None:
        self.seen.append(kind)
        self.left -= 1
        if self.left == 0 or (kind, self.seen.count(kind)) == self.at:
            self.at = ("", 0)
            self.act(kind)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """Watches passes through the network, lines of the log, and files before and after they are renamed."""
    happened = Events()

    def watch(owner: type, name: str, before: str, after: str) -> None:
        original = getattr(owner, name)

        def watched(self: object, *arguments: object, **named: object) -> object:
            of = "".join(f" {argument.name}" for argument in arguments if isinstance(argument, Path))
            happened(before + of)
            result = original(self, *arguments, **named)
            happened(after + of)
            return result

        monkeypatch.setattr(owner, name, watched)

    watch(Step, "forward", "before pass", "after pass")
    watch(Engine, "log", "before line", "after line")
    watch(Path, "replace", "before replacing", "after replacing")
    watch(TeacherStore, "put", "before teacher", "after teacher")
    return happened


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Refinement in two stages, never interrupted."""
    torch.set_num_threads(1)
    trained = engine(tmp_path_factory.mktemp("whole"), refined())
    trained.run()
    return trained


def resumed(folder: Path, method: Callable[[], Method] = refined, **changes: Any) -> Engine:
    """A new engine on an old folder, as `noref train --resume` makes it."""
    again = engine(folder, method(), **changes)
    if again.checkpoint.exists():
        again.resume()
    return again


def check_same(first: Engine, second: Engine) -> None:
    assert same(weights(first), weights(second)), apart(weights(first), weights(second))
    assert log(first.folder) == log(second.folder)
    assert first.progress == second.progress


def test_the_run_without_interruption_is_worth_comparing_with(whole_run: Engine, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in log(whole_run.folder)]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert {line["stage"] for line in lines} == {0, 1}
    other = engine(tmp_path, refined(), seed=1)
    other.run()
    assert not same(weights(whole_run), weights(other))


def test_killed_again_and_again_at_any_moment(whole_run: Engine, tmp_path: Path, events: Events) -> None:
    draw, kinds = random.Random(0), set()
    for _ in range(60):
        again = resumed(tmp_path)
        # A step has eight such moments: with more than these, every attempt gets on.
        events.left = draw.randint(9, 20)
        try:
            again.run()
        except Killed as killed:
            kinds.add(str(killed))
        else:
            break
    assert len(kinds) > 5, kinds
    check_same(whole_run, again)


@pytest.mark.parametrize(
    ("kind", "nth"),
    [
        ("after pass", 1),  # before there is any checkpoint
        ("after pass", 7),  # in the middle of a step: the second of its two micro-batches is missing
        ("before replacing checkpoint.safetensors", 3),
        ("after replacing checkpoint.safetensors", 7),  # the end of the first stage
        ("before teacher", 4),  # three of six teacher images are there
        ("after line", 14),  # mid-epoch in stage 1, its line written and not yet in a checkpoint
        ("before pass", 20),
        ("after replacing checkpoint.safetensors", 14),  # the very end
    ],
)
def test_killed_at(whole_run: Engine, tmp_path: Path, events: Events, kind: str, nth: int) -> None:
    events.at = (kind, nth)
    with pytest.raises(Killed):
        engine(tmp_path, refined()).run()
    again = resumed(tmp_path)
    again.run()
    check_same(whole_run, again)


def test_half_a_teacher_is_finished_not_made_again(tmp_path: Path, events: Events) -> None:
    events.at = ("before teacher", 4)
    with pytest.raises(Killed):
        engine(tmp_path, refined()).run()
    there = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "teacher" / "stage-1").glob("*.npy")}
    assert len(there) == 3
    events.seen.clear()
    resumed(tmp_path).run()
    assert events.seen.count("after teacher") == 3
    for name, written in there.items():
        assert (tmp_path / "teacher" / "stage-1" / name).stat().st_mtime_ns == written


def test_a_teacher_lost_in_mid_stage_is_one_line(tmp_path: Path, events: Events) -> None:
    """The network that made it has learned on since."""
    events.at = ("after replacing checkpoint.safetensors", 9)
    with pytest.raises(Killed):
        engine(tmp_path, refined()).run()
    next((tmp_path / "teacher" / "stage-1").glob("*.npy")).unlink()
    with pytest.raises(NorefError, match="stage-1: 5 of 6 images; copy it whole") as error:
        resumed(tmp_path).run()
    assert "\n" not in str(error.value)


def test_without_a_checkpoint_the_run_starts_anew(whole_run: Engine, tmp_path: Path, events: Events) -> None:
    stale = engine(tmp_path, refined(), seed=5, save_every=1e9)
    events.at = ("after line", 3)
    with pytest.raises(Killed):
        stale.run()
    assert not stale.checkpoint.exists()
    assert len(log(tmp_path)) > 1
    TeacherStore(tmp_path / "teacher" / "stage-1").put(targets()[0].id, torch.zeros(1, 20, 16) * 1j)
    again = resumed(tmp_path)
    again.run()
    check_same(whole_run, again)


@pytest.mark.parametrize("stop", [3, 7])
def test_early_stopping_and_plateaus_survive(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    def worsening(*arguments: Any) -> tuple[list[float], list[float]]:
        return [2 - score for score in score_holdout(*arguments)[0]], []

    monkeypatch.setattr("noref.training.engine.score_holdout", worsening)
    changes = {
        "epochs": 8,
        "lr": 0.01,
        "schedule": "plateau",
        "plateau_patience": 1,
        "patience": 3,
        "validation_scans": 2,
    }
    whole = engine(tmp_path / "whole", **changes)
    whole.run()
    lines = [json.loads(line) for line in log(whole.folder)]
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025])
    assert whole.progress.taken == 8 < whole.per_stage
    events.seen.clear()
    events.at = ("after replacing checkpoint.safetensors", stop)
    with pytest.raises(Killed):
        engine(tmp_path / "cut", **changes).run()
    again = resumed(tmp_path / "cut", Subset, **changes)
    again.run()
    check_same(whole, again)


@pytest.mark.parametrize(
    ("kind", "nth"),
    [
        ("before pass", 6),
        ("after line", 7),  # the one that says so, not yet in a checkpoint
        ("before replacing checkpoint.safetensors", 6),
        ("after replacing checkpoint.safetensors", 6),  # its images are still there
    ],
)
def test_a_stage_is_taken_back_after_a_kill_too(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch, kind: str, nth: int
) -> None:
    def harmful(method: Method, *_: object) -> tuple[list[float], list[float]]:
        return [0.5 + 0.1 * method.stage * scan for scan in range(1, 7)], []

    monkeypatch.setattr("noref.training.engine.score_holdout", harmful)
    whole = engine(tmp_path / "whole", refined(), epochs=1)
    whole.run()
    assert '"rolled_back": true' in log(whole.folder)[6]
    events.seen.clear()
    events.at = (kind, nth)
    with pytest.raises(Killed):
        engine(tmp_path / "cut", refined(), epochs=1).run()
    again = resumed(tmp_path / "cut", epochs=1)
    again.run()
    check_same(whole, again)
    assert not list((tmp_path / "cut" / "teacher").iterdir())


def run_in_child(folder: Path, workers: int = 0) -> None:
    """Goes on with a run in a process of its own; exit code 3 if it was stopped in good order."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    with (folder.parent / f"{folder.name}.txt").open("a") as file:
        os.dup2(file.fileno(), 2)
        try:
            resumed(folder, workers=workers).run()
        except Interrupted as error:
            print(error, file=file, flush=True)
            sys.exit(3)


@pytest.fixture
def child() -> Iterator[Callable[..., BaseProcess]]:
    """Starts runs in processes of their own, and ends those still running."""
    started: list[BaseProcess] = []

    def start(folder: Path, workers: int = 0) -> BaseProcess:
        process = SPAWN.Process(target=run_in_child, args=(folder, workers))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()


def wait_for(condition: Callable[[], bool], process: BaseProcess) -> None:
    """Waits until something is so, or the process has ended."""
    deadline = time.monotonic() + 60
    while not condition() and process.is_alive():
        assert time.monotonic() < deadline, "the training makes no progress"
        time.sleep(0.002)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_sigkill_of_a_process_at_random_moments(
    whole_run: Engine, tmp_path: Path, child: Callable[..., BaseProcess]
) -> None:
    draw, kills = random.Random(7), 0
    folder = tmp_path / "run"
    complete = size(whole_run.folder / "metrics.jsonl")
    while True:
        process = child(folder)
        enough = size(folder / "metrics.jsonl") + draw.uniform(0.1, 0.3) * complete
        wait_for(lambda enough=enough: size(folder / "metrics.jsonl") >= enough, process)
        time.sleep(draw.uniform(0, 0.05))
        if not process.is_alive():
            break
        process.kill()
        process.join()
        kills += 1
    assert kills >= 2
    again = resumed(folder)
    again.run()
    check_same(whole_run, again)
    assert not list(folder.rglob(".*")), "a killed process's temporary file stayed"


@pytest.mark.parametrize("workers", [0, 2])
def test_sigint_to_a_process_saves_and_says_how_to_go_on(
    whole_run: Engine, tmp_path: Path, child: Callable[..., BaseProcess], workers: int
) -> None:
    folder = tmp_path / "run"
    process = child(folder, workers)
    wait_for(lambda: size(folder / "metrics.jsonl") > 300, process)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    process.join(60)
    said = (tmp_path / "run.txt").read_text()
    assert process.exitcode == 3, said
    assert "resume" in said.splitlines()[-1]
    assert "Traceback" not in said
    again = resumed(folder)
    assert 0 < again.progress.taken < 12
    again.run()
    check_same(whole_run, again)


@pytest.mark.parametrize(
    ("number", "kind", "nth"), [(signal.SIGINT, "after pass", 3), (signal.SIGTERM, "after teacher", 2)]
)
def test_signals_stop_in_good_order(
    whole_run: Engine, tmp_path: Path, events: Events, number: signal.Signals, kind: str, nth: int
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    events.at, events.act = (kind, nth), lambda _: os.kill(os.getpid(), number)
    with pytest.raises(Interrupted, match="resume"):
        engine(tmp_path, refined(), save_every=1e9).run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert events.seen.count("after teacher") in (0, 2)
    again = resumed(tmp_path)
    again.run()
    check_same(whole_run, again)


def test_a_finished_run_is_left_as_it_is(whole_run: Engine) -> None:
    again = resumed(whole_run.folder)
    written = again.checkpoint.stat().st_mtime_ns
    again.run()
    check_same(whole_run, again)
    assert again.checkpoint.stat().st_mtime_ns == written


def test_nothing_to_resume_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NorefError, match=r"checkpoint\.safetensors: no such file") as caught:
        engine(tmp_path).resume()
    assert "\n" not in str(caught.value)
