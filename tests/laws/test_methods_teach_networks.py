"""Every method teaches every network: a few steps on scans of two odd matrices, one coil and several."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import scan
from torch import Tensor

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import METHODS, Method, Split, Subset, Supervised, Views
from noref.networks import NETWORKS, Network
from noref.scan import Role
from noref.seeding import Key
from noref.training import Engine, Training
from noref.training.step import Step
from noref.training.validate import score_holdout

TINY: dict[str, dict[str, Any]] = {
    "admmcsnet": {"stages": 1, "features": 4, "kernel": 3, "knots": 11},
    "istanet": {"phases": 2, "features": 8},
    "kikinet": {"iterations": 1, "layers": 3, "features": 8},
    "modl": {"unrolls": 2, "layers": 3, "features": 8, "cg": 6},
    "ssdunet": {"unrolls": 2, "blocks": 1, "features": 32, "cg": 4},
    "unet": {"features": 8, "pools": 1},
    "varnet": {"cascades": 2, "features": 4, "pools": 1},
    "vsharp": {"steps": 2, "gradient_steps": 2, "features": 4, "pools": 1},
}
"""A small size of every network."""

IDLE: dict[str, set[str]] = {"varnet": {"cascades.0.weight"}}
"""Parameters that nothing depends on: the published first cascade begins at y, and is not drawn to it."""

INNER: dict[str, Callable[[], Method]] = {"inner": Split, "target": Subset, "proxy": Supervised}
"""What a method made of methods is given, by the name of its argument; all else is its default."""

SETTINGS: dict[str, dict[str, Any]] = {"robust": {"sigma": 0.01}}
"""What the scans are too small for by default: their borders do not tell the noise."""

SQUARES = {"robust"}
"""Methods that learn from squared errors alone."""

REFUSED = {("robust", "kikinet")}
"""Method and network that contradict each other: one learns noise that the other puts back."""


def method(name: str) -> Method:
    """A method as it is by default."""
    kind = METHODS[name]
    needed = [
        parameter.name
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    made = kind(**{argument: INNER[argument]() for argument in needed}, **SETTINGS.get(name, {}))
    made.minimise(Objective(kspace={"nmse": 1.0}) if name in SQUARES else Objective())
    return made


def network(name: str) -> Network:
    """A tiny network, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[name](**TINY[name])


@cache
def scans(role: Role) -> Dataset:
    """Four scans, of 24×20 with three coils and of 21×17 with one, half sampled in points."""
    first = 0 if role is Role.TARGET else 10
    made = [
        scan((24, 20) if seed % 2 else (21, 17), 3 if seed % 2 else 1, seed, noise=0.01)
        for seed in range(first, first + 4)
    ]
    return Dataset(made, Preparation(mask="random2d", acceleration=2, acs=6, holdout=0.1), role)


def engine(folder: Path, method: Method, learner: str, **changes: Any) -> Engine:
    """A training on targets, and on proxies where anything in the method is supervised."""
    supervised = any(isinstance(part, Supervised) for part in method.modules())
    how = {"epochs": 2, "batch": 4, "lr": 3e-3, "warmup": 0, "device": "cpu"}
    return Engine(
        folder,
        method,
        network(learner),
        Training(**{**how, **changes}),
        targets=None if isinstance(method, Supervised) else scans(Role.TARGET),
        proxies=scans(Role.PROXY) if supervised else None,
        validation=scans(Role.TARGET),
    )


def loss(step: Step, views: list[Views]) -> Tensor:
    """Over all views, the random numbers always the same."""
    return torch.stack([step(view, Key(0, "", "loss", 0))[0] for view in views]).sum()


def taught(training: Engine) -> tuple[list[float], list[float]]:
    """The loss on one fixed batch and the mean Γ, both before and after the training."""
    views, losses, gammas = training.steps.step(0), [], []
    for run in (False, True):
        if run:
            training.run()
        with torch.no_grad():
            losses.append(float(loss(training.step, views)))
        gamma, _ = score_holdout(training.method, training.network, scans(Role.TARGET), 4, training.device)
        gammas.append(sum(gamma) / len(gamma))
    return losses, gammas


def assert_taught(training: Engine) -> None:
    """The loss and Γ fell by more than rounding could."""
    losses, gammas = taught(training)
    assert training.progress.finished
    assert losses[1] < 0.995 * losses[0]
    assert gammas[1] < 0.995 * gammas[0]


def test_every_network_is_here() -> None:
    assert TINY.keys() == NETWORKS.keys()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("learner", NETWORKS)
@pytest.mark.parametrize("teacher", METHODS)
def test_every_method_teaches_every_network(
    teacher: str, learner: str, precision: str, tmp_path: Path
) -> None:
    if (teacher, learner) in REFUSED:
        with pytest.raises(NorefError):
            taught(engine(tmp_path, method(teacher), learner, precision=precision))
    else:
        training = engine(tmp_path, method(teacher), learner, precision=precision)
        assert_taught(training)
        assert {parameter.dtype for parameter in training.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("learner", NETWORKS)
def test_every_parameter_gets_a_gradient(learner: str, tmp_path: Path) -> None:
    """From one coil as well as from several."""
    training = engine(tmp_path, Subset(), learner)
    for views in training.steps.step(0):
        training.step.zero_grad()
        loss(training.step, [views]).backward()
        parameters = dict(training.network.named_parameters())
        given = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        assert given.keys() == parameters.keys()
        assert all(bool(gradient.isfinite().all()) for gradient in given.values())
        assert {name for name, gradient in given.items() if not gradient.any()} == IDLE.get(learner, set())
