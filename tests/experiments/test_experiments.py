"""What holds for every standing experiment."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch

from noref.config import Config, build_method, build_network
from noref.errors import NorefError
from noref.experiments import EXPERIMENTS, Condition, Experiment, Run, Size
from noref.experiments.brain import interpolated
from noref.experiments.experiment import files, spread
from noref.experiments.joint import SETS
from noref.experiments.train import left, once, prepared, runs_of
from noref.physics import fft2c

NUMBERS = {
    "brain": {f"{of}siat{scan}": 30 for scan in range(1, 7) for of in ("", "interpolated/")}
    | {"phantoms": 120},
    "brain-multicoil": {f"{level}dB/siat{scan}": 30 for level in (40, 25) for scan in range(1, 7)}
    | {"40dB/phantoms": 120},
    "joint": {"train": 40, "validation": 11, "test": 11, "heads": 120, "phantoms": 120},
    "lowfield": {"patient1": 12, "patient2": 12, "patient3": 12, "averages": 8, "heads": 120},
}
"""Slices in every folder of an experiment's data."""


def home(experiment: Experiment, folder: Path) -> Path:
    """The experiment's folder, its data's files empty: configurations only count them."""
    for name, number in NUMBERS[experiment.name].items():
        (folder / "data" / name).mkdir(parents=True)
        for index in range(number):
            (folder / "data" / name / f"{index:03d}.h5").touch()
    return folder


def tables() -> list[tuple[Experiment, Condition]]:
    return [(e, condition) for e in EXPERIMENTS.values() for condition in e.conditions.values()]


def slices(config: Config, source: str) -> int:
    of = getattr(config.data, source)
    return len(files([Path(path) for path in of.path])) if of else 0


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_every_run_takes_the_steps_of_its_row(experiment: Experiment, tmp_path: Path) -> None:
    for run in once(runs_of(experiment, home(experiment, tmp_path), Size(), seeds=[0])):
        config = run.config()
        method = config.method.get("target", config.method)
        targets, proxies = slices(config, "target"), slices(config, "proxy")
        mixing = config.training.mixing if targets and proxies else 0
        per_epoch = math.ceil((targets or proxies) / (config.training.batch * (1 - mixing)))
        steps = per_epoch * config.training.epochs * method.get("stages", 1)
        assert steps == experiment.steps * experiment.rows[run.row].share, run
        assert config.training.rollback == 0 or method.get("stages", 1) == 1


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_rows_differ_in_what_they_say_alone(experiment: Experiment, tmp_path: Path) -> None:
    runs = runs_of(experiment, home(experiment, tmp_path), Size(phases=2, features=3), seeds=[0])
    for condition in experiment.conditions:
        of = {run.row: run.config() for run in runs if run.condition == condition}
        sampling = experiment.conditions[condition].sampling
        for name, config in of.items():
            build_method(config)
            network = build_network(config)
            sizes = {sum(p.numel() for p in network.parameters())}
            if "unet" not in name and config.method["name"] != "parallel":
                assert sizes == {sum(p.numel() for p in build_network(of["ssdu"]).parameters())}
            for source in (config.data.target, config.data.proxy, config.data.validation):
                if source is not None:
                    assert source.acceleration == sampling["acceleration"]
                    assert source.seed == sampling["seed"]


@pytest.mark.parametrize(("experiment", "condition"), tables())
def test_nobody_trains_on_what_tests(experiment: Experiment, condition: Condition) -> None:
    parts = (condition.train, condition.validation, condition.test)
    for one, other in product(parts, parts):
        assert one is other or not set(one) & set(other)
    assert set(condition.seeds) <= set(experiment.rows)
    for row in condition.seeds:
        start = experiment.rows[row].start
        assert not start or start in condition.seeds


def test_neighbouring_hearts_are_kept_apart() -> None:
    for one, other in product(SETS.values(), SETS.values()):
        assert one is other or min(abs(a - b) for a in one for b in other) > 3


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_runs_have_folders_of_their_own(experiment: Experiment, tmp_path: Path) -> None:
    runs = runs_of(experiment, tmp_path, Size())
    for run, other in product(once(runs), once(runs)):
        assert run is other or run.folder != other.folder
        assert run is other or run.lock != other.lock
    assert {run.folder for run in runs} == {run.folder for run in once(runs)}


def test_rows_without_targets_are_trained_once(tmp_path: Path) -> None:
    joint = EXPERIMENTS["joint"]
    runs = [run for run in runs_of(joint, tmp_path, Size()) if run.row == "supervised-proxy"]
    assert len({run.condition for run in runs}) == len(joint.conditions)
    assert len(once(runs)) == 2 * 3  # of every acceleration and seed


def test_chosen_rows_bring_those_that_they_start_from(tmp_path: Path) -> None:
    runs = runs_of(EXPERIMENTS["joint"], tmp_path, Size(), conditions=["4x-5"], rows=["proxy-then-ssdu"])
    assert [run.row for run in runs] == ["half-proxy", "proxy-then-ssdu"]
    assert runs[1].start is not None
    assert runs[1].start.folder == runs[0].folder


def test_what_was_scored_need_not_be_trained_but_for_what_starts_from_it(tmp_path: Path) -> None:
    runs = runs_of(EXPERIMENTS["joint"], tmp_path, Size(), conditions=["8x-5"], seeds=[0])
    places = {(run.condition, run.row, run.seed) for run in runs}
    last = ("8x-5", "proxy-then-ssdu", 0)

    def rows(known: set[tuple[str, str, int]]) -> list[str]:
        return [run.row for run in left(runs, known)]

    assert rows(set()) == [run.row for run in runs]
    assert rows(places) == []
    assert rows(places - {last}) == ["half-proxy", "proxy-then-ssdu"]
    alone = runs_of(EXPERIMENTS["joint"], tmp_path, Size(), conditions=["8x-5"], rows=["half-proxy"])
    assert [run.row for run in left(alone, set())] == ["half-proxy"]
    # Hearts of another number, too, are scored with the same model of heads.
    shared = runs_of(EXPERIMENTS["joint"], tmp_path, Size(), rows=["supervised-proxy"], seeds=[0])
    of_five = {("8x-5", "supervised-proxy", 0)}
    assert len(left(shared, set())) == len(left(shared, of_five)) == 2
    of_eight = {(run.condition, run.row, 0) for run in shared if run.condition.startswith("8x")}
    assert [run.condition for run in left(shared, of_eight)] == ["4x-5"]


@pytest.mark.parametrize("name", ["joint", "brain"])
def test_another_network_is_that_of_every_row_that_does_not_ask_what_networks_add(
    name: str, tmp_path: Path
) -> None:
    experiment = EXPERIMENTS[name]
    size = Size(features=4, network="vsharp")
    for run in once(runs_of(experiment, home(experiment, tmp_path), size, seeds=[0])):
        config = run.config()
        build_method(config)
        if "unet" not in run.row:
            assert (config.network["name"], config.network["features"]) == ("vsharp", 4)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (Size(), Size(network="vsharp"), "network None"),
        (Size(network="vsharp"), Size(), "network vsharp"),
        (Size(), Size(features=4), "features None"),
        (Size(steps=24), Size(steps=48), "steps 24"),
    ],
)
def test_a_size_that_an_experiment_was_not_begun_with_is_refused(
    before: Size, after: Size, said: str, tmp_path: Path
) -> None:
    experiment = replace(EXPERIMENTS["joint"], write=lambda *given: given[1].mkdir())
    prepared(experiment, tmp_path, tmp_path / "home", 128, before)
    prepared(experiment, tmp_path, tmp_path / "home", 128, before)
    with pytest.raises(NorefError, match=f"home: begun with {said}; give the same, or another --output$"):
        prepared(experiment, tmp_path, tmp_path / "home", 128, after)


@pytest.mark.parametrize("number", [1, 5, 10, 20, 40])
def test_few_targets_lie_far_apart(number: int) -> None:
    of = [Path(f"{index:03d}") for index in range(40)]
    chosen = [int(path.name) for path in spread(of, number)]
    assert len(set(chosen)) == number
    gaps = [b - a for a, b in pairwise(chosen)]
    assert not gaps or min(gaps) == max(gaps) == 40 // number


def test_steps_that_are_no_whole_epochs_are_refused(tmp_path: Path) -> None:
    brain = EXPERIMENTS["brain"]
    run = Run(brain, "8x", "idr", 0, home(brain, tmp_path), Size(steps=1230))
    with pytest.raises(NorefError, match="1230 steps are not whole epochs of 30 in each of 5 stages"):
        run.config()


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    run = Run(EXPERIMENTS["brain"], "8x", "ssdu", 0, tmp_path, Size())
    with pytest.raises(NorefError, match=r"siat1: no scans; remove the data folder"):
        run.config()


def test_interpolated_images_hold_nothing_beyond_half_of_the_matrix() -> None:
    image = torch.randn(96, 128, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    kspace, made = fft2c(image), fft2c(interpolated(image, 64))
    inside = (slice(48 - 8, 48 + 8), slice(64 - 8, 64 + 8))
    torch.testing.assert_close(made[inside], kspace[inside], rtol=0.35, atol=0)
    made[48 - 16 : 48 + 16, 64 - 16 : 64 + 16] = 0
    assert float(made.abs().square().sum()) < 1e-2 * float(kspace.abs().square().sum())
    assert not torch.equal(made, torch.zeros_like(made))  # tapered: a scan's padding would be zero itself


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["brain-multicoil", "joint"])
def test_matrices_that_leave_no_room_to_denoise_are_refused(
    name: str, tmp_path: Path, real_data: Path
) -> None:
    with pytest.raises(NorefError, match="give at most 128"):
        EXPERIMENTS[name].write(real_data, tmp_path, 192)
