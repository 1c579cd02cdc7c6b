"""Off the Cartesian grid every method and network works on whole spokes, or says in one line why not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from synthetic import scan, spokes
from test_methods_teach_networks import method, network

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation, prepare
from noref.errors import NorefError
from noref.methods import METHODS, MultiMask, Split, Subset, Supervised, Views, Weighted
from noref.networks import NETWORKS
from noref.networks.demodulated import Demodulated
from noref.networks.refinedmaps import RefinedMaps
from noref.physics import NonCartesianEncoding
from noref.sampling.holdout import holdout_error
from noref.sampling.partition import Partition
from noref.scan import Role, Scan, ScanBatch
from noref.seeding import Key
from noref.training import Engine, Training
from noref.training.step import Step

ON_GRID = {"refinement", "robust", "cyclic", "multioperator", "equivariant", "parallel"}
"""Methods that fill k-space in, draw other masks of it, or take its noise for white."""

IN_KSPACE = {"varnet", "kikinet"}
"""Networks that fill k-space in."""

SHAPE = (20, 17)


@cache
def targets(coils: int) -> Dataset:
    return Dataset([spokes(SHAPE, coils, seed, noise=0.01) for seed in range(3)], Preparation(holdout=0.1))


@cache
def proxies() -> Dataset:
    made = [spokes(SHAPE, 2, seed, noise=0.01) for seed in (10, 11)]
    return Dataset(made, Preparation(), Role.PROXY)


def views(name: str, given: Scan) -> Views:
    shown = given.as_target() if given.role is Role.TARGET else given
    return Views.of(method(name).view(shown, Key(0, given.id, "view", 0)))


@pytest.mark.parametrize("coils", [1, 2])
@pytest.mark.parametrize("learner", sorted(set(NETWORKS) - IN_KSPACE))
@pytest.mark.parametrize("teacher", sorted(set(METHODS) - ON_GRID))
def test_every_other_method_teaches_every_other_network(teacher: str, learner: str, coils: int) -> None:
    given = proxies()[0] if teacher == "supervised" else targets(coils)[0]
    batch, net = views(teacher, given), network(learner)
    assert isinstance(batch.encoding(), NonCartesianEncoding)
    step = Step(method(teacher), net)
    loss, _ = step(batch, Key(0, "", "loss", 0))
    loss.backward()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize("teacher", sorted(ON_GRID))
def test_methods_that_need_the_grid_say_so_in_one_line(teacher: str) -> None:
    with pytest.raises(
        NorefError,
        match=r"^subject0/scan/0: sampled off the Cartesian grid, [^\n]*recipe default or jssl-default$",
    ):
        views(teacher, targets(2)[0])


@pytest.mark.parametrize("learner", sorted(IN_KSPACE))
def test_networks_that_need_the_grid_say_so_in_one_line(learner: str) -> None:
    batch = views("split", targets(2)[0])
    with pytest.raises(NorefError, match=r"^[^\n]*sampled off the grid; choose network.name=[^\n]*$"):
        network(learner)(batch.kspace, batch.encoding())


@pytest.mark.parametrize("wrap", [Demodulated, lambda net: RefinedMaps(net, 4, 1)])
def test_wrapped_networks_are_taught_too(wrap: type) -> None:
    batch, net = views("split", targets(2)[0]), wrap(network("istanet"))
    loss, _ = Step(method("split"), net)(batch, Key(0, "", "loss", 0))
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("make", [Split, Subset, Weighted, lambda: MultiMask(Split(), k=2)])
@pytest.mark.parametrize("coils", [1, 2])
def test_what_is_shown_and_graded_are_whole_spokes_of_omega_without_gamma(make: type, coils: int) -> None:
    target = targets(coils)[0]
    assert target.holdout is not None
    assert bool(target.holdout.any())
    assert torch.equal(target.holdout, target.holdout[:, :1].expand_as(target.holdout))
    for epoch in range(5):
        for view in make().view(target.as_target(), Key(0, target.id, "view", epoch)):
            graded = view.weight > 0
            for mask in (view.shown, graded):
                assert torch.equal(mask, mask[:, :1].expand_as(mask))
                assert bool(mask.any())
                assert not bool((mask & ~target.allowed).any())
            assert torch.equal(view.shown | graded, target.allowed)
            assert view.scan.reference is view.scan.clean is None
            assert not bool(view.scan.kspace[:, target.holdout].any())


def test_every_spoke_is_as_likely_to_be_held_back() -> None:
    """Whatever its number: a Gaussian over the lines of a grid would take those in the middle."""
    target = targets(2)[0].as_target()
    partition = Partition(weight="gaussian", width=40.0)
    held = sum(partition(target, Key(0, "", "", epoch))[1][:, 0].float() for epoch in range(300)) / 300
    inside = held[target.mask[:, 0]]
    assert float(inside.std()) < 0.05
    chance = partition.chance(target, partition(target, Key(0, "", ""))[1])[target.mask]
    torch.testing.assert_close(chance, chance[:1].expand_as(chance))


def test_held_out_spokes_change_nothing_that_training_sees() -> None:
    raw, how = spokes((32, 24), 3, noise=0.01, keep_maps=False, number=21), Preparation(holdout=0.1)
    ready = prepare(raw, how)
    assert ready.holdout is not None
    other = replace(raw, kspace=torch.where(ready.holdout, 17.0, raw.kspace), clean=None)
    one, two = ready.as_target(), prepare(other, how).as_target()
    for name in ("kspace", "maps", "weights", "density", "mask"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert one.scale == two.scale


def test_gamma_is_the_error_where_nothing_was_shown() -> None:
    """Zero for the true image, one for none, and near the NMSE over k-space in between."""
    raw = spokes((32, 24), 2, number=25)
    target = prepare(raw, Preparation(holdout=0.2))
    assert target.maps is not None
    truth = target.reference
    assert truth is not None
    assert holdout_error(target, truth) < 1e-8
    assert holdout_error(target, torch.zeros_like(truth)) == pytest.approx(1)
    assert holdout_error(target, 0.9 * truth) == pytest.approx(0.01, rel=1e-3)


def test_a_training_runs_to_its_end_the_same_each_time(tmp_path: Path) -> None:
    """On targets off the grid and proxies on it, which share steps and no micro-batch."""
    on_grid = Dataset(
        [scan(SHAPE, 2, seed, noise=0.01) for seed in (20, 21)],
        Preparation(mask="lines", acceleration=2, acs=6),
        Role.PROXY,
    )

    def engine(folder: Path) -> Engine:
        settings = Training(epochs=2, batch=2, warmup=0, device="cpu")  # type: ignore[call-arg]
        parts = {"targets": targets(2), "proxies": on_grid, "validation": targets(2)}
        return Engine(folder, method("joint"), network("istanet"), settings, **parts)

    first, second = engine(tmp_path / "a"), engine(tmp_path / "b")
    for training in (first, second):
        training.run()
        assert training.progress.finished
    for one, two in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_final_image_has_what_was_measured_put_back() -> None:
    target = targets(2)[0]
    batch = ScanBatch.of([target.undersampled(target.mask)])
    net = network("istanet")
    with torch.no_grad():
        plain = net(batch.kspace, batch.encoding())
        given = Split().reconstruct(net, batch)
    misfit = [float((batch.encoding().forward(e.image) - batch.kspace).norm()) for e in (plain, given)]
    assert misfit[1] < misfit[0]


def test_supervised_grades_all_measured_samples_and_the_image() -> None:
    proxy = Dataset([spokes(SHAPE, 2, 10, number=40)], Preparation(mask="lines", acceleration=4), Role.PROXY)
    proxy.check_shown()
    proxy.check_references()
    (view,) = Supervised().view(proxy[0], Key(0, "", ""))
    assert int(view.shown[:, 0].sum()) == 10
    assert bool(view.weight.all())
    assert view.goal.shape == proxy[0].kspace.shape
    assert view.image is proxy[0].reference


def test_proxies_shown_whole_are_refused() -> None:
    whole = Dataset([spokes(SHAPE, 2, 10, number=40)], Preparation(), Role.PROXY)
    with pytest.raises(NorefError, match="shown whole"):
        whole.check_shown()
    with pytest.raises(NorefError, match=r"off the Cartesian grid only read-outs; use mask=lines$"):
        Dataset([spokes(SHAPE, 2, 10)], Preparation(mask="random2d", acs=0), Role.PROXY)[0]


def test_one_trajectory_for_all_scans_of_one_coil_is_refused() -> None:
    same = [replace(spokes(SHAPE, 1, seed), trajectory=spokes(SHAPE, 1, 0).trajectory) for seed in range(2)]
    with pytest.raises(NorefError, match="share one mask"):
        Dataset(same, Preparation(holdout=0)).check_masks(False)
    Dataset([spokes(SHAPE, 1, seed) for seed in range(2)], Preparation(holdout=0)).check_masks(False)
