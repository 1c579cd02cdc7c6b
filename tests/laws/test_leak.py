"""What training may see of a target is Ω∖Γ: the law that no method may break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic import image, scan
from torch import Tensor, nn

from noref.coils.compression import Compression
from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import (
    METHODS,
    Cyclic,
    Equivariant,
    Joint,
    Method,
    MultiMask,
    MultiOperator,
    Parallel,
    Refinement,
    Robust,
    Split,
    Subset,
    Supervised,
    View,
    Weighted,
)
from noref.networks import ISTANet, Network
from noref.networks.refinedmaps import RefinedMaps
from noref.physics import cartesian
from noref.sampling.density import sampling_density
from noref.sampling.partition import Partition
from noref.scan import Role, Scan, coil_maps
from noref.seeding import Key
from noref.training import Engine, Training
from noref.training.steps import Steps

SHAPE = (40, 24)
HOW = Preparation(mask="lines", acceleration=2.0, acs=12, holdout=0.2)

INSTANCES: dict[str, Callable[[], Method]] = {
    "split": Split,
    "split in points": lambda: Split(Partition(unit="points", share=(0.2, 0.5))),
    "subset": Subset,
    "multimask": lambda: MultiMask(Split(), k=2),
    "multimask of subset": lambda: MultiMask(Subset(), k=2),
    "joint": lambda: Joint(target=Split(), proxy=Supervised()),
    "refinement": lambda: Refinement(Subset()),
    "refinement on everything": lambda: Refinement(Subset(), data_term="refined"),
    "refinement mixed": lambda: Refinement(Subset(), data_term="mixed"),
    "refinement consistent with measured": lambda: Refinement(Subset(), dc="measured"),
    "refinement by one teacher": lambda: Refinement(Subset(), stages=3, update=False),
    "refinement of split": lambda: Refinement(Split(Partition(share=0.2))),
    "joint refinement": lambda: Joint(target=Refinement(Subset()), proxy=Supervised()),
    "weighted": Weighted,
    "robust": lambda: Robust(sigma=0.01),
    "multimask of robust": lambda: MultiMask(Robust(sigma=0.01), k=2),
    "cyclic": lambda: Cyclic(Split()),
    "joint of cyclic": lambda: Joint(target=Cyclic(Weighted()), proxy=Supervised()),
    "multioperator": lambda: MultiOperator(Subset()),
    "equivariant": lambda: Equivariant(Subset()),
    "refinement of multioperator": lambda: Refinement(MultiOperator(Subset())),
    "equivariant of multioperator": lambda: Equivariant(MultiOperator(Subset())),
    "refinement of equivariant": lambda: Refinement(Equivariant(Subset())),
    "parallel": lambda: Parallel(Subset()),
    "parallel refinement": lambda: Parallel(Refinement(Subset())),
    "refinement of robust": lambda: Refinement(Robust(sigma=0.01)),
    "refinement of parallel": lambda: Refinement(Parallel(Subset())),
    "joint of parallel": lambda: Joint(target=Parallel(Subset()), proxy=Supervised()),
    "joint refinement of parallel": lambda: Joint(Refinement(Parallel(Subset())), Supervised()),
    "joint of robust": lambda: Joint(target=Robust(sigma=0.01), proxy=Supervised()),
    "joint refinement of robust": lambda: Joint(Refinement(Robust(sigma=0.01)), Supervised()),
    "multioperator of robust": lambda: MultiOperator(Robust(sigma=0.01)),
    "parallel of robust": lambda: Parallel(Robust(sigma=0.01)),
    "parallel joint": lambda: Parallel(Joint(target=Split(), proxy=Supervised())),
}
"""Every method that learns from targets."""

ASKING: dict[str, Callable[[], Method]] = {
    "robust that asks the border": Robust,
    "refinement of robust that asks the border": lambda: Refinement(Robust()),
}
"""Those that learn the noise from k-space: by its border, which only masks of lines reach here."""

REFINING = [name for name, make in INSTANCES.items() if make().stages > 1]
SPLITTING = ["split", "split in points", "multimask", "joint", "weighted", "cyclic"]


def raw(coils: int, seed: int, role: Role = Role.TARGET) -> Scan:
    """A fully sampled scan as a file would hold it, whose coil maps must be estimated."""
    return scan(SHAPE, coils, seed, noise=0.01, keep_maps=False, role=role)


def targets(coils: int, number: int = 3, how: Preparation = HOW) -> Dataset:
    return Dataset([raw(coils, seed) for seed in range(number)], how)


def proxies(coils: int, how: Preparation = HOW) -> Dataset:
    return Dataset([raw(coils, seed, Role.PROXY) for seed in (10, 11)], how, Role.PROXY)


def views(method: Method, target: Scan, epochs: int = 20) -> list[View]:
    method.prepare({SHAPE: [target.allowed, target.allowed.flip(0)]})
    return [v for e in range(epochs) for v in method.view(target.as_target(), Key(0, target.id, "view", e))]


def test_every_method_is_held_to_the_law() -> None:
    covered = {type(m) for make in INSTANCES.values() for m in make().modules()} | {Supervised}
    assert covered >= set(METHODS.values())


@pytest.mark.parametrize("coils", [1, 3])
def test_supervised_training_refuses_targets(coils: int) -> None:
    target = targets(coils)[0]
    assert target.reference is not None
    with pytest.raises(NorefError, match="needs fully sampled scans"):
        Supervised().view(target.as_target(), Key(0, target.id, "view", 0))


@pytest.mark.parametrize("mask", ["lines", "equispaced", "random2d"])
@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("name", INSTANCES)
def test_all_that_is_shown_or_graded_is_all_of_omega_without_gamma(name: str, coils: int, mask: str) -> None:
    target = targets(coils, how=HOW.model_copy(update={"mask": mask}))[0]
    allowed, acquired = target.allowed, target.as_target().kspace
    assert bool(target.holdout is not None and target.holdout.any())
    seen = torch.zeros_like(allowed)
    for view in views(INSTANCES[name](), target):
        graded = view.weight > 0
        seen |= view.shown | graded
        for one in (view, *(further for _, passes in view.further for further in passes)):
            assert one.image is None
            assert one.scan.reference is one.scan.holdout is one.scan.clean is one.scan.rss is None
            # Noise is added to what is seen, as input and as goal, and to nothing else.
            noisy = one.shown if "robust" in name else torch.zeros_like(one.shown)
            for kspace in (one.scan.kspace, one.goal):
                assert torch.equal(torch.where(noisy, 0, kspace), torch.where(noisy, 0, acquired))
            assert not bool((one.weight > 0)[~allowed].any())
        assert bool(graded.any())
        assert bool(view.shown.any())
        if name in SPLITTING:
            assert not bool((graded & view.shown).any())
    assert torch.equal(seen, allowed)


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("name", REFINING)
def test_refined_scans_hold_what_was_acquired_and_the_teachers_guess_elsewhere(name: str, coils: int) -> None:
    dataset, method = targets(coils), INSTANCES[name]()
    target = dataset[0]
    allowed, acquired = target.allowed, target.as_target().kspace
    teacher = image(SHAPE, seed=77)
    full = cartesian(torch.ones_like(allowed)[None], coil_maps(target)[None])
    refined = torch.where(allowed, acquired, full.forward(teacher[None])[0])
    method.prepare(dataset.masks)
    method.begin(1, {target.id: teacher})
    shown_acquired, shown_guessed = torch.zeros_like(allowed), torch.zeros_like(allowed)
    for view in views(method, target):
        acquired_and_shown = view.shown & allowed
        if "robust" in name:
            # But for noise, of which its own tests tell.
            noise = view.scan.kspace - refined
            assert float(noise[:, view.shown].abs().max()) < 8 * 0.01 / abs(target.scale)
            goal = torch.where(acquired_and_shown, acquired - noise / 0.75**2, refined)
            torch.testing.assert_close(view.goal[:, allowed], goal[:, allowed])
            refined_view = replace(view.scan, kspace=torch.where(view.shown, refined, 0))
            view = replace(view, scan=refined_view, goal=refined)
        kspace = torch.where(view.shown, view.scan.kspace, 0)
        torch.testing.assert_close(kspace, torch.where(view.shown, refined, 0))
        assert torch.equal(kspace[:, acquired_and_shown], acquired[:, acquired_and_shown])
        shown_acquired |= acquired_and_shown
        shown_guessed |= view.shown & ~allowed
        graded = view.weight > 0
        assert torch.equal(
            graded, torch.ones_like(allowed) if name == "refinement on everything" else allowed
        )
        assert torch.equal(view.goal[:, allowed], acquired[:, allowed])
        torch.testing.assert_close(view.goal[:, graded], refined[:, graded])
        assert view.image is None
    assert bool(shown_guessed.any())
    assert not torch.equal(shown_acquired, torch.zeros_like(allowed))


def poisoned(dataset: Dataset, coils: int) -> Dataset:
    """The same scans, everything that training may not see of them replaced by NaN."""
    slices = []
    for index, prepared in enumerate(dataset):
        whole = raw(coils, index)
        hidden = torch.where(prepared.allowed, whole.kspace, torch.nan)
        slices.append(
            replace(
                whole,
                kspace=hidden,
                reference=torch.full((1, *SHAPE), torch.nan, dtype=torch.complex64),
                clean=torch.full_like(whole.kspace, torch.nan),
                rss=torch.full(SHAPE, torch.nan),
            )
        )
    return Dataset(slices, dataset.how)


def untrained() -> Network:
    """A network that learns maps too, where there are several coils."""
    torch.manual_seed(0)
    return RefinedMaps(ISTANet(phases=2, features=4), features=2, pools=1)


def train(folder: Path, method: Method, dataset: Dataset, others: Dataset | None) -> nn.Module:
    network = untrained()
    settings = Training(epochs=2, batch=2, warmup=0, device="cpu")
    method.minimise(Objective(kspace={"nmse": 1.0}))
    Engine(folder, method, network, settings, targets=dataset, proxies=others).run()
    return network


@pytest.mark.parametrize("compression", ["svd", "geometric"])
def test_coils_are_whitened_and_compressed_by_what_training_may_see(compression: Compression) -> None:
    how = HOW.model_copy(update={"whiten": True, "coils": 3, "compression": compression})
    clean = targets(4, how=how)
    for one, other in zip(clean, poisoned(clean, 4), strict=True):
        shown = other.as_target()
        assert shown.coils == 3
        assert shown.maps is not None
        assert torch.equal(shown.maps, coil_maps(one))
        assert torch.equal(shown.kspace, one.as_target().kspace)
        assert (shown.scale, shown.noise_cov is None) == (one.scale, False)


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("name", [*INSTANCES, *ASKING])
def test_what_training_may_not_see_changes_no_bit_of_the_weights(
    name: str, coils: int, tmp_path: Path
) -> None:
    clean, others = targets(coils), proxies(coils) if "joint" in name else None
    make = {**INSTANCES, **ASKING}[name]
    first = train(tmp_path / "first", make(), clean, others)
    second = train(tmp_path / "second", make(), poisoned(clean, coils), others)
    start = untrained().state_dict()
    for key, weight in first.state_dict().items():
        assert bool(weight.isfinite().all())
        assert torch.equal(weight, second.state_dict()[key]), key
    assert any(not torch.equal(weight, start[key]) for key, weight in first.state_dict().items())


def test_a_poisoned_sample_that_training_may_see_stops_it(tmp_path: Path) -> None:
    """The control of the test above: NaN does reach the loss from inside Ω∖Γ."""
    slices = []
    for index, prepared in enumerate(targets(1)):
        whole = raw(1, index)
        outside_the_centre = prepared.allowed.clone()
        outside_the_centre[10:30] = False
        assert bool(outside_the_centre.any())
        slices.append(replace(whole, kspace=torch.where(outside_the_centre, torch.nan, whole.kspace)))
    with pytest.raises(NorefError, match="the loss is nan"):
        train(tmp_path, Subset(), Dataset(slices, HOW), None)


@pytest.mark.parametrize("mask", ["lines", "random2d"])
def test_omega_and_gamma_of_a_target_never_change(mask: str) -> None:
    how = HOW.model_copy(update={"mask": mask, "redraw": True})
    first = targets(1, how=how)

    def masks(target: Scan) -> tuple[Tensor, Tensor]:
        assert target.holdout is not None
        return target.mask, target.holdout

    for index in range(2):
        omega, gamma = masks(first[index])
        for epoch in (0, 1, 17):
            again = masks(targets(1, how=how).scan(index, epoch))
            assert torch.equal(again[0], omega)
            assert torch.equal(again[1], gamma)
    assert not torch.equal(first[0].mask, first[1].mask)
    other = targets(1, how=how.model_copy(update={"seed": 1}))[0]
    assert not torch.equal(other.mask, first[0].mask)


@pytest.mark.parametrize("mask", ["lines", "random2d"])
def test_densities_and_the_bank_of_masks_come_from_omega_without_gamma(mask: str) -> None:
    dataset = targets(1, how=HOW.model_copy(update={"mask": mask}))
    allowed = [target.allowed for target in dataset]
    assert all(torch.equal(a, b) for a, b in zip(dataset.masks[SHAPE], allowed, strict=True))
    density = dataset[0].density
    assert density is not None
    assert torch.equal(density, sampling_density(allowed))


def test_the_training_seed_moves_partitions_and_nothing_else() -> None:
    def seen(seed: int) -> tuple[Tensor, list[Tensor]]:
        steps = Steps(Split(), targets(1, number=1), None, batch=1, seed=seed)
        shown = [steps[step][0] for step in range(12)]
        return (
            torch.stack([v.shown[0] | (v.weight[0] > 0) for v in shown]),
            [v.shown[0] for v in shown],
        )

    allowed = targets(1, number=1)[0].allowed
    partitions = []
    for seed in (0, 1):
        together, shown = seen(seed)
        assert torch.equal(together, allowed.expand_as(together))
        partitions.append(torch.stack(shown))
    assert not torch.equal(*partitions)
    assert not torch.equal(partitions[0][0], partitions[0][1])


def test_proxies_masks_may_be_drawn_anew() -> None:
    fixed, redrawn = proxies(1), proxies(1, HOW.model_copy(update={"redraw": True}))
    assert torch.equal(fixed.scan(0, 1).mask, fixed.scan(0, 2).mask)
    assert not torch.equal(redrawn.scan(0, 1).mask, redrawn.scan(0, 2).mask)
    assert redrawn.scan(0, 1).holdout is None
