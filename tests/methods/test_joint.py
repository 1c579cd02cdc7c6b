"""Targets and proxies of other matrices, coils, contrast and noise train one network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from linear import DUAL
from synthetic import scan
from torch import nn
from training.scans import network, same, settings, weights

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import Joint, Method, Refinement, Split, Subset, Supervised, Views
from noref.networks import VSHARP
from noref.networks.refinedmaps import RefinedMaps
from noref.sampling.partition import Partition
from noref.scan import Role, Scan
from noref.seeding import Key
from noref.training import Engine
from noref.training.steps import Steps

SHAPE = (40, 24)
HOW = Preparation(mask="lines", acceleration=2.0, acs=12, holdout=0.2)


def joint(target: Method | None = None, objective: Objective = DUAL) -> Joint:
    """JSSL in both domains."""
    method = Joint(target or Split(Partition(weight="gaussian", share=[0.2, 0.4, 0.6])), Supervised())
    method.minimise(objective)
    return method


def raw(coils: int, seed: int) -> Scan:
    """Fully sampled, its maps to be estimated."""
    return scan(SHAPE, coils, seed, noise=0.01, keep_maps=False)


def targets(coils: int = 3) -> Dataset:
    return Dataset([raw(coils, seed) for seed in range(2)], HOW)


def proxies() -> Dataset:
    """Other matrices, numbers of coils, contrast and noise, in points of which many more are kept."""
    slices = []
    for seed, (shape, coils) in enumerate((((26, 20), 2), ((20, 33), 1), ((26, 20), 2))):
        one = scan(shape, coils, 10 + seed, noise=0.1, role=Role.PROXY)
        slices.append(replace(one, kspace=7e-5 * one.kspace * one.kspace.abs() ** 0.3))
    how = Preparation(mask="random2d", acceleration=1.5, acs=8, redraw=True)
    return Dataset(slices, how, Role.PROXY)


def refining() -> RefinedMaps:
    torch.manual_seed(0)
    return RefinedMaps(network(), features=2, pools=1)


def trained(folder: Path, method: Method, net: nn.Module, data: Dataset, **changes: object) -> Engine:
    given = settings(epochs=2, batch=4, validate_every=2, **changes)
    engine = Engine(folder, method, net, given, targets=data, proxies=proxies(), validation=data)  # type: ignore[arg-type]
    engine.run()
    return engine


@pytest.mark.parametrize("target", [None, Refinement(Subset())], ids=["SSDU", "refined"])
@pytest.mark.parametrize("coils", [1, 3])
def test_one_network_learns_from_scans_of_every_kind(
    target: Method | None, coils: int, tmp_path: Path
) -> None:
    net = refining()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    engine = trained(tmp_path, joint(target), net, targets(coils))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    terms = {name for line in lines for name in line}
    assert {"image_ssim", "image_hfen1", "kspace_nmse", "gamma"} <= terms
    assert all(0 < line["loss"] < 100 for line in lines if "loss" in line)
    after = net.state_dict()
    assert all(bool(weight.isfinite().all()) for weight in after.values())
    assert {name for name in before if not torch.equal(before[name], after[name])} >= {
        "inner.phases.0.step",
        "unet.last.weight",
    }
    shapes = {views.kspace.shape[1:] for step in range(4) for views in engine.steps.step(step)}
    assert shapes == {(coils, *SHAPE), (2, 26, 20), (1, 20, 33)}


@pytest.mark.parametrize("coils", [1, 3])
def test_what_targets_hide_changes_no_bit_of_weights_or_maps(coils: int, tmp_path: Path) -> None:
    """Of a target, losses in both domains and learned maps read Ω∖Γ alone."""
    clean = targets(coils)
    poisoned = Dataset(
        [
            replace(
                raw(coils, index),
                kspace=torch.where(seen.allowed, raw(coils, index).kspace, torch.nan),
                reference=torch.full((1, *SHAPE), torch.nan, dtype=torch.complex64),
                rss=torch.full(SHAPE, torch.nan),
            )
            for index, seen in enumerate(clean)
        ],
        HOW,
    )
    results = []
    for name, data in (("clean", clean), ("poisoned", poisoned)):
        engine = Engine(
            tmp_path / name, joint(), refining(), settings(epochs=2), targets=data, proxies=proxies()
        )
        engine.run()
        results.append(weights(engine))
    assert same(*results)


def test_deep_supervision_reaches_targets_and_proxies() -> None:
    torch.manual_seed(0)
    net = VSHARP(steps=3, gradient_steps=1, features=2, pools=1)
    alone = VSHARP(steps=3, gradient_steps=1, features=2, pools=1, deep_supervision=False)
    alone.load_state_dict(net.state_dict())
    method, steps = joint(), Steps(joint(), targets(), proxies(), batch=4, mixing=0.5)
    for views in steps.step(0):
        assert len(net(views.kspace, views.encoding()).steps) == 2
        deep, last = (method.loss(one, views, Key(0, "", "loss")) for one in (net, alone))
        assert deep.keys() == last.keys()
        assert all(bool((deep[name] > last[name]).all()) for name in last)


def test_proxies_that_teach_themselves_are_weighted_like_targets() -> None:
    """SSDU on everything: the inverse density of a proxy's own masks, its reference unused."""
    method = Joint(Split(), Split(), weight=0.5)
    data = proxies()
    one = data.scan(0, 3)
    assert one.reference is not None
    (view,) = method.view(one, Key(0, one.id, "view", 3))
    assert view.image is None
    assert view.density is not None
    assert view.share == 0.5
    assert not bool((view.weight & ~one.mask).any())
    expected = sum(mask.float().mean() for mask in data.masks[one.shape]) / len(data.masks[one.shape])
    assert float(view.density.mean()) == pytest.approx(float(expected), abs=0.05)


def test_a_penalty_needs_a_network_that_has_one() -> None:
    views = Views.of(Split().view(targets()[0].as_target(), Key(0, "s", "view", 0)))
    method = Split()
    method.minimise(Objective(penalty=0.01))
    with pytest.raises(NorefError, match=r"loss\.penalty=0\.01: the network gives nothing to weigh by it"):
        method.loss(network(symmetry=False), views, Key(0, "", "loss"))
    assert "penalty" in method.loss(network(), views, Key(0, "", "loss"))
    assert Objective().penalty == 0
