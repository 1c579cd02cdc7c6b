"""Sharded trainings learn what others do, and their checkpoints are everyone's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import as_rank, both
from scans import apart, engine, log, proxies, settings, stop_at, targets, weights

from noref.errors import NorefError
from noref.methods import Joint, Parallel, Refinement, Split, Subset, Supervised
from noref.networks import VSHARP, ISTANet, MoDL
from noref.networks.refinedmaps import RefinedMaps
from noref.seeding import Key
from noref.training import Engine
from noref.training.distributed import process_group, rank, wrap
from noref.training.gradient import accumulate
from noref.training.sharding import assembled, is_sharded, shard
from noref.training.step import Step
from noref.training.steps import Steps

UNEVEN = ((20, 16), (20, 16), (20, 16), (16, 18))
STOP = 3


def vsharp() -> RefinedMaps:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = VSHARP(steps=2, gradient_steps=2, features=2, pools=1, checkpointing=True)
        return RefinedMaps(inner, features=2, pools=1)


def staged(folder: Path, *, shard: bool) -> Engine:
    """Two stages, of targets that take more passes in the second one than proxies do; four steps in all."""
    method = Joint(Refinement(Subset(), data_term="mixed"), Supervised(), weight=0.7)
    given = {"epochs": 1, "batch": 5, "mixing": 0.4, "micro_batch": 2, "warmup": 0, "shard": shard}
    data, others = targets(6, UNEVEN), proxies(3)
    return engine(folder, method, vsharp(), data=data, others=others, **given)


def twins(folder: Path, *, shard: bool) -> Engine:
    """A method with a network of its own, and two passes at once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ISTANet(phases=2, features=4)
    given = {"epochs": 1, "batch": 3, "warmup": 0, "shard": shard, "lr": 1e-3}
    return engine(folder, Parallel(Split()), network, data=targets(3), **given)


def finished(trained: Engine, resume: bool = False) -> Engine:
    if resume:
        trained.resume()
        assert trained.progress.taken == STOP
    trained.run()
    return trained


def gradient(trained: Engine) -> dict[str, torch.Tensor]:
    """Of the first step's loss, by the weights at the end."""
    trained.step.zero_grad()
    module = wrap(trained.step, trained.device)
    accumulate(module, trained.steps[0], Key(0, "", "loss"), trained.device)
    return assembled(
        {name: p.grad for name, p in trained.step.named_parameters() if p.grad is not None}, rank() == 0
    )


def train_on_rank(number: int, port: int, folder: Path) -> None:
    as_rank(number, 2, port)
    with process_group(torch.device("cpu")):
        stop_at(STOP, staged(folder / "two", shard=True))
        sharded = finished(staged(folder / "one", shard=True), resume=True)
        assert is_sharded(sharded.step)
        held = sum(p.to_local().numel() for p in sharded.step.parameters())
        found = {"one": sharded.weights(), "gradient": gradient(sharded)}
        found["twins"] = finished(twins(folder / "twins", shard=True)).weights()
    torch.save((found, held), folder / f"rank-{number}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[int]]:
    """What two processes learn; and how many weights each of them holds."""
    folder = tmp_path_factory.mktemp("sharded")
    stop_at(STOP, staged(folder / "one", shard=False))
    both(train_on_rank, folder)
    (found, first), (nothing, second) = (torch.load(folder / f"rank-{r}.pt") for r in range(2))
    assert not any(nothing.values()), "weights for the second rank, which writes none"
    return folder, found, [first, second]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return finished(staged(tmp_path_factory.mktemp("alone"), shard=False))


def test_a_checkpoint_goes_on_sharded_or_whole(
    results: tuple[Path, dict[str, Any], list[int]], alone: Engine
) -> None:
    folder, found, _ = results
    first = {f"network.{name}": tensor for name, tensor in vsharp().state_dict().items()}
    assert apart(weights(alone), first) > 1e-3, "too few steps to tell"
    # Adam divides by the gradient's size: where that is rounding noise, so is the step.
    assert apart(found["one"], weights(alone)) < 1e-4
    assert apart(weights(finished(staged(folder / "two", shard=False), resume=True)), weights(alone)) < 1e-4
    for run in ("one", "two"):
        assert len(list((folder / run / "teacher" / "stage-1").glob("*.npy"))) == 6
        assert len(log(folder / run)) == len(log(alone.folder))


def test_sharded_gradients_are_those_of_one_process(
    results: tuple[Path, dict[str, Any], list[int]], alone: Engine
) -> None:
    _, found, held = results
    expected = gradient(alone)
    largest = max(float(each.abs().max()) for each in expected.values())
    assert apart(found["gradient"], expected) < 1e-5 * largest
    assert sum(held) == sum(p.numel() for p in alone.step.parameters())
    assert max(held) < 0.7 * sum(held)


def test_a_second_network_is_sharded_along(
    results: tuple[Path, dict[str, Any], list[int]], tmp_path: Path
) -> None:
    _, found, _ = results
    trained = finished(twins(tmp_path, shard=False))
    assert any(name.startswith("method.twin") for name in found["twins"])
    assert apart(found["twins"], weights(trained)) < 1e-5


def test_every_rank_takes_the_same_passes_where_weights_are_sharded() -> None:
    data, others = targets(5, UNEVEN), proxies(4)
    method = Joint(Split(), Supervised())

    def roles(rank: int, aligned: bool) -> list[str]:
        steps = Steps(
            method, data, others, batch=7, mixing=0.4, micro_batch=1, rank=rank, world=3, aligned=aligned
        )
        return [views.role for views in steps[0]]

    assert len({tuple(roles(rank, True)) for rank in range(3)}) == 1
    assert len({tuple(roles(rank, False)) for rank in range(3)}) > 1


def test_what_cannot_be_sharded_is_refused() -> None:
    with pytest.raises(ValueError, match="set compile or shard to false"):
        settings(shard=True, compile=True)
    with pytest.raises(NorefError, match=r"training.shard: network.log_damping is a single number"):
        shard(Step(Subset(), MoDL(unrolls=1)), torch.device("cpu"))
