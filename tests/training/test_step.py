"""One optimiser step: what it holds, whose gradient it takes, in what precision, compiled or not."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scans import apart, engine, joint, lines, log, network, proxies, same, targets, weights
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from noref.errors import NorefError
from noref.methods import Parallel, Subset, Supervised
from noref.methods.view import Losses, Views
from noref.networks import Network
from noref.networks.istanet import Phase
from noref.physics import Encoding
from noref.scan import Role
from noref.seeding import Key
from noref.training import Engine
from noref.training.steps import Steps

# gradients


@pytest.mark.parametrize("clip", [0, 1e-3, 1e9])
def test_clipping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float) -> None:
    norms: list[float] = []

    def record(self: torch.optim.Adam) -> None:
        grads = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.cat(grads).norm()))

    monkeypatch.setattr(torch.optim.Adam, "step", record)
    engine(tmp_path, clip=clip, epochs=1).run()
    assert norms[0] == pytest.approx(1e-3, rel=1e-2) if clip == 1e-3 else norms[0] > 1e-2


class Broken(Subset):
    """Loses its numbers after two steps."""

    def __init__(self, gradient_only: bool) -> None:
        super().__init__()
        self.gradient_only, self.calls = gradient_only, 0

    def loss(self, net: Network, views: Views, key: Key) -> Losses:
        losses = super().loss(net, views, key)
        self.calls += 1
        if self.calls > 4:
            zero = 0 * losses["kspace_l1"]
            losses["odd"] = zero.sqrt() if self.gradient_only else zero / 0
        return losses


@pytest.mark.parametrize("gradient_only", [False, True])
def test_not_a_number_stops_before_it_does_harm(tmp_path: Path, gradient_only: bool) -> None:
    failing = engine(tmp_path, Broken(gradient_only), save_every=0)
    with pytest.raises(NorefError, match=r"nan after 2 steps; lower training\.lr") as error:
        failing.run()
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    again = engine(tmp_path)
    again.resume()
    assert again.progress.taken == 2
    assert all(bool(t.isfinite().all()) for t in weights(again).values())
    assert same(weights(again), weights(failing))
    assert "NaN" not in "".join(log(tmp_path))


def test_bf16_convolves_in_bf16_with_physics_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[tuple[str, torch.dtype]] = Counter()

    def watch(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Tensor:
            result: Tensor = original(*arguments, **named)
            tensors = [a for a in (*arguments, result) if isinstance(a, Tensor) and a.is_floating_point()]
            seen.update((name, t.dtype) for t in (tensors if name != "conv2d" else [result]))
            return result

        monkeypatch.setattr(owner, name, watched)

    for module, operator in (
        ("encoding", "sense_normal"),
        ("cartesian", "sense_forward"),
        ("cartesian", "sense_adjoint"),
    ):
        watch(importlib.import_module(f"noref.physics.{module}"), operator)
    watch(F, "conv2d")
    half = engine(tmp_path / "half", precision="bf16", epochs=1)
    half.validation = None
    half.run()
    assert set(seen) == {
        ("sense_normal", torch.float32),
        ("sense_forward", torch.float32),
        ("sense_adjoint", torch.float32),
        ("conv2d", torch.bfloat16),
    }
    single = engine(tmp_path / "single", epochs=1)
    single.validation = None
    single.run()
    assert all(t.dtype == torch.float32 for t in weights(half).values())
    assert 0 < apart(weights(half), weights(single)) < 0.01
    for ours, theirs in zip(lines(half), lines(single), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)
        assert ours["loss"] != theirs["loss"]


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_is_bf16_where_the_hardware_multiplies_in_it(
    hardware: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.import_module("noref.training.step"), "multiplies_bfloat16", lambda _: hardware
    )
    auto = engine(tmp_path / "auto", precision="auto", epochs=1)
    told = engine(tmp_path / "told", precision="bf16" if hardware else "float32", epochs=1)
    auto.run()
    told.run()
    assert same(weights(auto), weights(told))


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    kept = engine(tmp_path / "kept", net=network(checkpointing=False))
    recomputed = engine(tmp_path / "recomputed", net=network(checkpointing=True))
    kept.run()
    recomputed.run()
    assert apart(weights(kept), weights(recomputed)) < 1e-6


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_it_is_told_whose_gradient_dominates(tmp_path: Path, micro_batch: int | None) -> None:
    data, others = targets(3), proxies(3, redraw=False)
    given = {"others": others, "epochs": 1, "batch": 6, "micro_batch": micro_batch, "log_every": 1}
    trained = engine(tmp_path, joint(), data=data, **given)
    trained.run()
    (line,) = (line for line in lines(trained) if "loss" in line)
    method, net = joint(), network()
    views = Steps(method, data, others, batch=6)[0]
    weight = sum(float(one.share.sum()) for one in views)
    assert {one.role for one in views} == set(Role)
    for role in Role:
        net.zero_grad()
        losses = [
            (one.share * torch.stack(list(method.loss(net, one, Key(0, "", "loss")).values())).sum(0)).sum()
            for one in views
            if one.role is role
        ]
        loss = torch.stack(losses).sum() / weight
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        assert line[f"loss_{role}"] == pytest.approx(float(loss.detach()), rel=1e-4)
        assert line[f"gradient_{role}"] == pytest.approx(float(gradient.norm()), rel=1e-3)
    assert line["loss"] == pytest.approx(line["loss_target"] + line["loss_proxy"], rel=1e-5)


def test_telling_targets_from_proxies_changes_no_bit(tmp_path: Path) -> None:
    told = engine(tmp_path / "told", joint(), others=proxies(), epochs=1)
    untold = engine(tmp_path / "untold", joint(), others=proxies(), epochs=1, log_every=1000)
    told.run()
    untold.run()
    assert same(weights(told), weights(untold))
    assert not any("loss_target" in line for line in lines(untold))


# compiling


class WrongWhenCompiled(Phase):
    """Compiled, it gives the right image and a wrong gradient, as PyTorch does with complex numbers."""

    def compile(self, *_: object, **__: object) -> None:
        right = self.forward

        def wrong(image: Tensor, start: Tensor, encoding: Encoding) -> tuple[Tensor, Tensor]:
            out, penalty = right(image, start, encoding)
            return out.detach() + 1.01 * (out - out.detach()), penalty

        self.forward = wrong  # type: ignore[method-assign]


def test_a_wrongly_compiled_network_is_refused(tmp_path: Path) -> None:
    net = network()
    for phase in net.phases:
        phase.__class__ = WrongWhenCompiled
    failing = engine(tmp_path, net=net, compile=True)
    before = weights(failing)
    with pytest.raises(NorefError, match=r"differ from the eager ones by .*training\.compile=false"):
        failing.run()
    assert same(before, weights(failing))
    assert not failing.checkpoint.exists()


@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of itself
def test_a_compiled_network_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_blocks: list[torch.nn.Module] = []

    def compile_(self: torch.nn.Module) -> None:
        """Traced and differentiated ahead, but without a minute of the C++ compiler."""
        compiled_blocks.append(self)
        self._compiled_call_impl = torch.compile(self._call_impl, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_)

    def trained(name: str, compiled: bool) -> Engine:
        run = engine(
            tmp_path / name,
            net=network(phases=1, features=2),
            data=targets(2, [(20, 16)]),
            batch=2,
            compile=compiled,
        )
        run.validation = None
        run.run()
        return run

    compiled, eager = trained("compiled", True), trained("eager", False)
    assert weights(compiled).keys() == weights(eager).keys()
    assert len(compiled_blocks) == 1
    assert apart(weights(compiled), weights(eager)) < 1e-5


# what a step holds


def test_an_epoch_visits_every_target_once() -> None:
    steps = Steps(joint(), targets(6), proxies(4), batch=4, mixing=0.25)
    assert steps.per_epoch == 2
    for epoch in range(3):
        visits = [
            visit for step in range(2 * epoch, 2 * epoch + 2) for chunk in steps.plan(step) for visit in chunk
        ]
        seen = sorted(visit.index for visit in visits if visit.role is Role.TARGET)
        assert seen == list(range(6))
        assert sum(visit.role is Role.PROXY for visit in visits) == 2
        assert {visit.epoch for visit in visits if visit.role is Role.TARGET} == {epoch}


@pytest.mark.parametrize(("batch", "mixing"), [(4, 0.5), (4, 0.1), (4, 0.9), (5, 0.5), (2, 0.3), (8, 1 / 3)])
def test_the_share_of_proxies_holds_over_steps(batch: int, mixing: float) -> None:
    steps = Steps(joint(), targets(6), proxies(4), batch=batch, mixing=mixing)
    visits = [[visit for chunk in steps.plan(step) for visit in chunk] for step in range(60)]
    assert all(len(of_step) == batch for of_step in visits)
    proxied = [sum(visit.role is Role.PROXY for visit in of_step) for of_step in visits]
    assert max(proxied) - min(proxied) <= 1
    assert abs(sum(proxied) - 60 * batch * mixing) < 1
    for role, count in ((Role.TARGET, 6), (Role.PROXY, 4)):
        seen = [(visit.epoch, visit.index) for of_step in visits for visit in of_step if visit.role is role]
        assert len(set(seen)) == len(seen)
        assert max(epoch for epoch, _ in seen) == (len(seen) - 1) // count
    first = {v.index for of_step in visits[: steps.per_epoch] for v in of_step if v.role is Role.TARGET}
    assert first == set(range(6))


@pytest.mark.parametrize("mixing", [0.0, 0.0004, 0.9996, 1.0])
def test_a_share_that_leaves_one_role_out_is_refused(mixing: float) -> None:
    with pytest.raises(NorefError, match=f"mixing={mixing:g}: a step needs targets and proxies"):
        Steps(joint(), targets(6), proxies(4), batch=4, mixing=mixing)


def test_a_batch_of_one_cannot_hold_both_roles() -> None:
    with pytest.raises(NorefError, match="give at least 2"):
        Steps(joint(), targets(2), proxies(2), batch=1)


def test_views_are_pinned_whole_and_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaders pin what has a method of this name; a tensor left out would make a GPU wait for its copy."""
    pinned: list[int] = []

    def pin(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        pinned.append(id(copy))
        return copy

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    (views,) = Steps(Parallel(Supervised()), None, proxies(2, shapes=((20, 16),)), batch=2)[0]
    there = pin_memory([views])[0]
    ((_, (other,)),) = there.further
    for before, after in ((views, there), (views.further[0][1][0], other)):
        for field in fields(before):
            value, kept = getattr(before, field.name), getattr(after, field.name)
            if isinstance(value, Tensor):
                assert id(kept) in pinned, field.name
                assert torch.equal(kept, value)
            elif field.name != "further":
                assert kept == value
    assert there.image is not None
