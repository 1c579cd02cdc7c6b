"""Tiny trainings: a handful of scans of two matrices, a network of two phases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import scan, undersampled

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.methods import Joint, Method, Refinement, Split, Subset, Supervised
from noref.networks import ISTANet, Network
from noref.scan import Role
from noref.training import Engine, Interrupted, Training

SHAPES = ((20, 16), (16, 18))


def targets(count: int = 6, shapes: Sequence[tuple[int, int]] = SHAPES, coils: int = 2) -> Dataset:
    """Undersampled scans with Γ, matrices in turn; at most half of a scan's points are measured."""
    slices = [
        undersampled(scan(shapes[i % len(shapes)], coils, seed=i, noise=0.01), "random2d", 2, 4)
        for i in range(count)
    ]
    return Dataset(slices, Preparation(holdout=0.1), Role.TARGET)


def proxies(count: int = 4, shapes: Sequence[tuple[int, int]] = SHAPES, redraw: bool = True) -> Dataset:
    """Full scans, undersampled anew each epoch."""
    slices = [scan(shapes[i % len(shapes)], 2, seed=100 + i, noise=0.01) for i in range(count)]
    how = Preparation(mask="random2d", acceleration=2, acs=4, redraw=redraw)
    return Dataset(slices, how, Role.PROXY)


def network(seed: int = 0, **arguments: Any) -> ISTANet:
    """A network of two phases; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ISTANet(**{"phases": 2, "features": 4, **arguments})


def joint() -> Method:
    """Targets and proxies with different shares of the loss."""
    return Joint(Split(), Supervised(), weight=0.7)


def refined() -> Method:
    """Two stages."""
    return Refinement(Subset())


def settings(**changes: Any) -> Training:
    """Three epochs, every step logged, checkpoints at the ends of stages only."""
    given = {"epochs": 3, "batch": 4, "warmup": 2, "log_every": 1, "save_every": 1e9, "device": "cpu"}
    return Training(**{**given, **changes})


def engine(
    folder: Path,
    method: Method | None = None,
    net: Network | None = None,
    *,
    data: Dataset | None = None,
    others: Dataset | None = None,
    **changes: Any,
) -> Engine:
    """A training of its own, as a new process would build it; validated on its targets."""
    data = targets() if data is None else data
    method = Subset() if method is None else method
    net = network() if net is None else net
    return Engine(folder, method, net, settings(**changes), targets=data, proxies=others, validation=data)


def stop_at(step: int, trained: Engine) -> None:
    """Trains until a step is logged, and saves."""
    write = trained.log

    def watched(row: Mapping[str, Any]) -> None:
        write(row)
        if trained.progress.taken == step:
            trained._ask()

    trained.log = watched  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        trained.run()


def weights(trained: Engine) -> dict[str, torch.Tensor]:
    """All weights, copied."""
    return {name: tensor.clone() for name, tensor in trained.step.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def apart(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def log(folder: Path) -> list[str]:
    """The lines of the log."""
    return (folder / "metrics.jsonl").read_text().splitlines()


def lines(trained: Engine) -> list[dict[str, Any]]:
    """The lines of the log, read."""
    return [json.loads(line) for line in log(trained.folder)]
