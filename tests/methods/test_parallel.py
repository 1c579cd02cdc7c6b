"""Two networks side by side: what they are graded on, and that both are trained, saved and found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from linear import PLAIN, SHAPE, Oracle, ZeroFilled, key, power, target
from safetensors.torch import load_file
from synthetic import image
from training.files import tiny
from training.scans import engine, lines, proxies, same, weights

import noref
from noref.api import build_engine
from noref.errors import NorefError
from noref.methods import Joint, Method, MultiMask, Parallel, Refinement, Subset, Supervised, Views
from noref.methods.parallel import grade_second, twin_of
from noref.networks import ADMMCSNet, ISTANet
from noref.physics import cartesian
from noref.scan import ScanBatch, coil_maps


def test_a_twin_is_another_draw_of_the_same_weights() -> None:
    torch.manual_seed(0)
    network = ISTANet(phases=2, features=4)
    twin, again = twin_of(network), twin_of(network)
    for name, weight in network.state_dict().items():
        other = twin.state_dict()[name]
        assert torch.equal(other, again.state_dict()[name])
        assert torch.equal(weight.flatten().sort().values, other.flatten().sort().values)
        assert torch.equal(weight, other) is (weight.dim() < 3)


def test_a_twin_keeps_weights_that_have_an_order() -> None:
    network = ADMMCSNet(stages=1, features=4, kernel=3, knots=11)
    twin = twin_of(network).state_dict()
    for name, weight in network.state_dict().items():
        if "values" in name:
            assert torch.equal(twin[name], weight)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("coils", [1, 2])
def test_both_are_graded_on_omega_and_agree_outside(coils: int, padded: bool) -> None:
    acquired = target(coils=coils)
    if padded:
        padding = torch.zeros(SHAPE, dtype=torch.bool)
        padding[:2] = True
        acquired = replace(acquired.undersampled(~padding), padding=padding)
    method = Parallel(Subset(), difference=0.5)
    method.minimise(PLAIN)
    first, second = Oracle(image(SHAPE, seed=1)), image(SHAPE, seed=2)
    method.meet(first)
    cast(Oracle, method.twin).images = (second,)
    views = Views.of(method.view(acquired, key()))
    ((_, (other_views,)),) = views.further
    assert not torch.equal(views.shown, other_views.shown)
    losses = method.loss(first, views, key())
    full = cartesian(torch.ones(1, *SHAPE, dtype=torch.bool), coil_maps(acquired)[None])
    one, other = (full.forward(x[None])[0] for x in (*first.images, second))
    total = power(acquired.kspace, acquired.mask)
    outside = ~acquired.mask if acquired.padding is None else ~(acquired.mask | acquired.padding)
    expected = {
        "kspace_nmse": power(one - acquired.kspace, acquired.mask) / total,
        "second_kspace_nmse": power(other - acquired.kspace, acquired.mask) / total,
        "difference": 0.5 * power(one - other, outside) / total,
    }
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_either_reconstructs_and_it_is_the_first() -> None:
    method, network = Parallel(Subset()), ZeroFilled(0.5)
    method.meet(network)
    cast(ZeroFilled, method.twin).gain.data.fill_(9.0)
    batch = ScanBatch.of([target()])
    expected = 0.5 * batch.encoding().adjoint(batch.kspace)
    torch.testing.assert_close(method.reconstruct(network, batch).image, expected)


@pytest.mark.parametrize("make", [lambda: Parallel(Subset()), lambda: MultiMask(Parallel(Subset()), 2)])
def test_both_are_trained_and_found_in_the_checkpoint(make: type[Method], tmp_path: Path) -> None:
    training = engine(tmp_path, make(), epochs=1)
    before = weights(training)
    training.run()
    after = weights(training)
    for part in ("twin.phases.0.forward1", "network.phases.0.forward1"):
        (name,) = (name for name in before if name.endswith(part))
        assert not torch.equal(before[name], after[name])
    other = engine(tmp_path, make(), epochs=1)
    assert not same(weights(other), after)
    other.resume()
    assert same(weights(other), after)


def test_a_model_holds_both(tmp_path: Path) -> None:
    config = tiny("parallel", tmp_path)
    folder = noref.train(config)
    model = noref.load(folder)
    saved = load_file(folder / "model.safetensors")
    assert isinstance(model.method, Parallel)
    for name, weight in model.method.twin.state_dict().items():
        assert torch.equal(weight, saved[f"method.twin.{name}"])
        assert weight.dim() < 3 or not torch.equal(
            weight, saved[f"network.inner.{name.removeprefix('inner.')}"]
        )


def test_both_start_from_the_weights_of_another_model(tmp_path: Path) -> None:
    method = "method={name: parallel, inner: {name: subset}}"
    config = tiny("proxy-then-ssdu", tmp_path, method)
    training = build_engine(config)
    assert config.init is not None
    trained = noref.load(config.init, device="cpu").network
    parts = (training.network, trained), (cast(Parallel, training.method).twin, twin_of(trained))
    for ours, theirs in parts:
        assert same(dict(ours.state_dict()), dict(theirs.state_dict()))


@pytest.mark.parametrize("data_term", ["acquired", "refined", "mixed"])
def test_inside_refinement_both_learn_from_the_refined_scan(data_term: Any, tmp_path: Path) -> None:
    method = Refinement(Parallel(Subset()), data_term=data_term)
    training = engine(tmp_path, method, epochs=1)
    training.run()
    target = training.targets[0].as_target()  # type: ignore[index]
    (view,) = training.method.view(target, key())
    second = next(views for term, (views,) in view.further if term is grade_second)
    for one in (view, second):
        assert bool((one.shown & ~target.mask).any()), "guesses"
        everything = torch.ones_like(target.mask)
        assert torch.equal(one.weight > 0, everything if data_term == "refined" else target.mask)
        assert torch.equal(one.goal[:, target.mask], target.kspace[:, target.mask])
    assert not torch.equal(view.shown, second.shown)
    (row, *_) = (row for row in lines(training) if row["stage"] == 1)
    assert row["second_kspace_l1"] > 0
    # Where all of k-space is graded, there is no elsewhere to agree on.
    assert (row["difference"] > 0) is (data_term != "refined")


@pytest.mark.parametrize(
    ("make", "taught"),
    [
        (lambda: Joint(Parallel(Subset()), Supervised()), "target"),
        (lambda: Joint(Refinement(Parallel(Subset())), Supervised()), "target"),
        (lambda: Joint(Subset(), Parallel(Supervised())), "proxy"),
    ],
)
def test_inside_joint_the_second_network_learns_from_its_kind_of_scan(
    make: Any, taught: str, tmp_path: Path
) -> None:
    training = engine(tmp_path, make(), others=proxies(), epochs=1, micro_batch=1)
    training.run()
    assert any("second_kspace_l1" in row and row["second_kspace_l1"] > 0 for row in lines(training))
    twin = next(part.twin for part in training.method.modules() if isinstance(part, Parallel))
    for views in training.steps.step(0):
        training.step.zero_grad()
        training.step(views, key())[0].backward()
        found = [p.grad for p in twin.parameters()]
        assert all(gradient is not None for gradient in found), "ranks wait for every gradient"
        assert any(bool(g.any()) for g in found if g is not None) is (views.role == taught)


def test_a_third_network_is_refused() -> None:
    with pytest.raises(NorefError, match="has a second network too"):
        Parallel(MultiMask(Parallel(Subset()), 2))


def test_nonsense_is_refused() -> None:
    for difference in (-1.0, float("nan")):
        with pytest.raises(NorefError, match="Parallel: difference is"):
            Parallel(Subset(), difference)
