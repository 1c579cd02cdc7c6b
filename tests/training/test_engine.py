"""What the training loop promises besides going on after a kill: weights, rates, log, seeds."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scans import engine, lines, log, refined, same, targets, weights
from synthetic import scan, undersampled
from torch import Tensor

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import Method, Split
from noref.networks import Network
from noref.sampling.partition import Partition
from noref.training import Training
from noref.training.progress import TrainingProgress, duration

# Γ


@pytest.mark.parametrize(
    ("scores", "patience", "best"),
    [([5, 3, 4, 6, 1, 0], 2, 1), ([5, 3, 4, 6, 2, 7], 0, 4), ([1, 2, 3, 4, 5, 6], 0, 0)],
)
def test_the_best_weights_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], patience: int, best: int
) -> None:
    seen: list[dict[str, Tensor]] = []

    def scripted(_: Method, net: Network, *__: object) -> tuple[list[float], list[float]]:
        seen.append({f"network.{name}": t.clone() for name, t in net.state_dict().items()})
        return [scores[len(seen) - 1] - 0.5, scores[len(seen) - 1] + 0.5], []

    monkeypatch.setattr("noref.training.engine.score_holdout", scripted)
    trained = engine(tmp_path, epochs=6, patience=patience)
    trained.run()
    assert len(seen) == (best + 1 + patience if patience else 6)
    assert same(weights(trained), seen[best])
    assert not same(weights(trained), seen[best - 1])
    assert trained.progress.best == scores[best]
    assert [line["gamma"] for line in lines(trained) if "gamma" in line] == scores[: len(seen)]


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    trained = engine(tmp_path, epochs=2)
    trained.validation = None
    trained.run()
    assert trained.progress.best is None
    assert not any("gamma" in line for line in lines(trained))


def test_validation_is_asked_for_as_often_as_set(tmp_path: Path) -> None:
    trained = engine(tmp_path, epochs=5, validate_every=2, validation_scans=3)
    trained.run()
    assert [line["step"] for line in lines(trained) if "gamma" in line] == [4, 8, 10]
    assert [len(scores) for scores in trained.progress.gammas[0]] == [3, 3, 3]


def test_broken_validation_scans_are_named(tmp_path: Path) -> None:
    data = targets()
    held = data[2].holdout
    assert held is not None
    broken = [
        replace(s, kspace=torch.where(held, torch.nan, s.kspace)) if i == 2 else s
        for i, s in enumerate(data.slices)
    ]
    with pytest.raises(NorefError, match="subject2/scan/0: Γ is nan") as error:
        engine(tmp_path, data=Dataset(broken, data.how, data.role)).run()
    assert "\n" not in str(error.value)


# rates


@given(steps=st.integers(1, 40), warmup=st.integers(0, 10), lr=st.floats(1e-5, 1), step=st.integers(0, 39))
def test_cosine_is_pytorchs_times_the_rise(steps: int, warmup: int, lr: float, step: int) -> None:
    step = min(step, steps - 1)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    for _ in range(step):
        optimiser.step()
        schedule.step()
    rise = min(1, (step + 1) / warmup) if warmup else 1
    rate = Training(lr=lr, warmup=warmup).learning_rate(0, step, steps, [])
    assert rate == pytest.approx(schedule.get_last_lr()[0] * rise, rel=1e-9, abs=1e-15)


@given(
    gammas=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=12),
    patience=st.integers(1, 4),
    factor=st.floats(0.1, 0.9),
)
def test_plateaus_are_pytorchs(gammas: list[float], patience: int, factor: float) -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    # PyTorch waits for one more bad epoch than its patience.
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=factor, patience=patience - 1, threshold=0
    )
    for gamma in gammas:
        schedule.step(gamma)
    given_ = Training(
        lr=1, warmup=0, schedule="plateau", plateau_patience=patience, plateau_factor=factor
    ).learning_rate(0, 5, 100, gammas)
    assert given_ == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9, abs=1e-8)


def test_steps_are_pytorchs() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=3, gamma=0.7)
    settings = Training(lr=0.3, warmup=0, schedule="step", step_every=3, step_factor=0.7)
    for step in range(10):
        assert settings.learning_rate(0, step, 10, []) == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()


def test_every_stage_has_an_optimiser_of_its_own(tmp_path: Path) -> None:
    trained, found = engine(tmp_path, refined()), []
    optimise = trained._optimise

    def watched(module: Any, step: int, *rest: Any) -> Any:
        found.append((trained.progress.stage, step, len(trained.optimiser.state)))
        return optimise(module, step, *rest)

    trained._optimise = watched  # type: ignore[method-assign]
    trained.run()
    fresh = [remembered == 0 for _, step, remembered in found if step == 0]
    assert fresh == [True, True]
    assert all(remembered for _, step, remembered in found if step > 0)


def test_rates_reach_the_optimiser_and_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: used.append(self.param_groups[0]["lr"]))
    trained = engine(tmp_path, refined(), lr=0.1, refined_lr=0.01, warmup=3)
    trained.run()
    wanted = [
        base * min(1, (step + 1) / 3) * 0.5 * (1 + math.cos(math.pi * step / 6))
        for base in (0.1, 0.01)
        for step in range(6)
    ]
    assert used == pytest.approx(wanted)
    assert [line["lr"] for line in lines(trained) if "lr" in line] == used


# log and progress


def test_log_schema(tmp_path: Path) -> None:
    method = refined()
    method.minimise(Objective(penalty=0.01))
    trained = engine(tmp_path, method, log_every=2)
    trained.run()
    steps = [line for line in lines(trained) if "loss" in line]
    gammas = [line for line in lines(trained) if "gamma" in line]
    assert len(steps) + len(gammas) == len(lines(trained))
    assert [line["step"] for line in steps] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in gammas] == [2, 4, 6, 8, 10, 12]
    assert [line["epoch"] for line in steps] == [0, 1, 2, 0, 1, 2]
    assert [line["stage"] for line in steps] == [0, 0, 0, 1, 1, 1]
    for line in steps:
        assert line.keys() == {
            "step", "epoch", "stage", "loss", "kspace_l1", "kspace_l2", "penalty", "guessed", "lr",
        }  # fmt: skip
        assert (0 < line["guessed"] < 1) if line["stage"] else line["guessed"] == 0
        assert line["loss"] == pytest.approx(line["kspace_l1"] + line["kspace_l2"] + line["penalty"])
    for line in gammas:
        assert line.keys() == {"step", "epoch", "stage", "gamma"}
        assert 0 < line["gamma"] < 2


def test_progress_without_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine(tmp_path).run()
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f]*", err), "control characters"
    said = err.splitlines()
    assert re.fullmatch(r"step 1/6  stage 0 epoch 0  loss 0\.\d{4}  \d+s left", said[0])
    assert re.fullmatch(r"step 6/6  stage 0 epoch 2  loss 0\.\d{4}  Γ 0\.\d{4}  0s left", said[-2])
    assert re.fullmatch(r"stage 0: best Γ 0\.\d{4}", said[-1])


def test_progress_in_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    engine(tmp_path, epochs=1).run()
    out, err = capfd.readouterr()
    assert out == ""
    assert "stage 0 epoch 0  loss 0." in err
    assert "100%" in err


def test_progress_knows_what_is_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([100.0, *(100.0 + 7 * second for second in range(1, 100))])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    display = TrainingProgress(total=30, done=20)
    display.step(21, 1, 0, 0.5)
    assert "1m03s left" in capfd.readouterr().err
    quiet = TrainingProgress(total=30, quiet=True)
    quiet.step(30, 0, 0, 1.0)
    quiet.line("nothing")
    assert capfd.readouterr().err == ""


def test_an_early_end_shortens_what_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noref.training.engine.score_holdout", lambda *_: ([1.0] * 6, []))
    totals: list[int] = []
    monkeypatch.setattr(TrainingProgress, "step", lambda self, *_: totals.append(self.total))
    engine(tmp_path, refined(), patience=1).run()
    assert totals == [12] * 4 + [10] * 4
    assert capfd.readouterr().err.count("Γ has not improved for 1 validations: stage ends") == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (45, "45s"), (200, "3m20s"), (3599, "59m59s"), (3720, "1h02m")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# seeds, workers, and what a step holds


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    runs = {}
    for name, seed, noise in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
        torch.manual_seed(noise)
        runs[name] = engine(tmp_path / name, epochs=1, seed=seed)
        runs[name].run()
    assert same(weights(runs["a"]), weights(runs["b"]))
    assert log(tmp_path / "a") == log(tmp_path / "b")
    assert not same(weights(runs["a"]), weights(runs["c"]))


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone = engine(tmp_path / "alone", refined(), epochs=2)
    helped = engine(tmp_path / "helped", refined(), epochs=2, workers=2)
    alone.run()
    helped.run()
    assert same(weights(alone), weights(helped))
    assert log(alone.folder) == log(helped.folder)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_scan_that_cannot_be_loaded_is_one_line(workers: int, tmp_path: Path) -> None:
    # Too few samples outside the protected centre: found out when a view is drawn.
    broken = engine(tmp_path, Split(Partition(centre=1.0)), epochs=1, workers=workers)
    with pytest.raises(NorefError, match=r"none of the .* samples can be held back") as error:
        broken.run()
    assert "\n" not in str(error.value)


def test_scans_are_prepared_to_the_same_bits_with_any_number_of_threads() -> None:
    """Loading processes have one thread, the training process as many as it likes."""
    measured = undersampled(scan((48, 48), 8, seed=1, noise=0.02, keep_maps=False), "lines", 2, 20)
    prepared = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        prepared.append(Dataset([measured], Preparation())[0])
        assert torch.get_num_threads() == threads
    one, other = prepared
    assert one.maps is not None
    assert other.maps is not None
    assert torch.equal(one.maps, other.maps)
    assert torch.equal(one.kspace, other.kspace)


def test_unusable_devices_are_one_line(tmp_path: Path) -> None:
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(NorefError, match=f"training.device={device}: not usable") as error:
            engine(tmp_path, device=device)
        assert "\n" not in str(error.value)
