"""What holds for the views of every method, and for how they are stacked and graded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from synthetic import image, scan, undersampled
from torch import Tensor

from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import (
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
    Views,
    Weighted,
)
from noref.networks import Estimate, Network
from noref.physics import Encoding
from noref.sampling.partition import Partition
from noref.scan import Role, Scan, coil_maps
from noref.seeding import Key

SHAPE = (32, 24)
METHODS: dict[str, Method] = {
    "supervised": Supervised(),
    "supervised by moved images": Supervised(augment=True),
    "split": Split(),
    "subset": Subset(),
    "multimask": MultiMask(Split(), 3),
    "joint": Joint(Split(), Supervised(), weight=0.7),
    "refinement": Refinement(Subset()),
    "refinement on everything": Refinement(Subset(), data_term="refined"),
    "weighted": Weighted(),
    "robust": Robust(sigma=0.01),
    "cyclic": Cyclic(Split()),
    "multioperator": MultiOperator(Subset()),
    "equivariant": Equivariant(Subset()),
    "parallel": Parallel(Subset()),
}


def padded(seed: int, role: Role) -> Scan:
    """A scan whose outermost lines are known zeros."""
    full = scan(SHAPE, 2, seed, noise=0.01, role=role)
    padding = torch.zeros(SHAPE, dtype=torch.bool)
    padding[:3], padding[-2:] = True, True
    cut = full.undersampled(~padding)
    cut = replace(cut, padding=padding, reference=image(SHAPE, seed=seed))
    return replace(cut, mask=undersampled(full, "lines", 2, 8, seed).mask & ~padding)


def key(epoch: int = 0) -> Key:
    return Key(0, "s", "view", epoch)


def views_of(method: Method, target: Scan, epoch: int = 0) -> list[View]:
    return method.view(target, key(epoch))


def prepared(name: str) -> tuple[Method, Scan]:
    method, proxy = METHODS[name], padded(0, Role.PROXY)
    if isinstance(method, Refinement):
        method.prepare({SHAPE: [padded(seed, Role.TARGET).mask for seed in range(3)]})
        method.begin(1, {proxy.id: image(SHAPE, seed=5)})
    return method, proxy


@pytest.mark.parametrize("name", METHODS)
def test_views_are_pure(name: str) -> None:
    method, proxy = prepared(name)
    first = views_of(method, proxy)
    torch.manual_seed(3)
    views_of(method, proxy, epoch=1)
    for a, b in zip(first, views_of(method, proxy), strict=True):
        assert torch.equal(a.shown, b.shown)
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.goal, b.goal)


@pytest.mark.parametrize("name", METHODS)
def test_padding_is_known_but_neither_graded_nor_anything_but_zero(name: str) -> None:
    method, proxy = prepared(name)
    assert proxy.padding is not None
    for epoch in range(5):
        views = views_of(method, proxy, epoch)
        for view in views:
            assert not bool((view.weight > 0)[proxy.padding].any())
        stacked = Views.of(views)
        assert bool(stacked.shown[:, proxy.padding].all())
        assert not bool(stacked.kspace[..., proxy.padding].any())


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_shown_that_the_mask_of_the_input_does_not_say(name: str) -> None:
    method, proxy = prepared(name)
    stacked = Views.of(views_of(method, proxy))
    assert not bool(torch.where(stacked.shown[:, None], 0, stacked.kspace).any())
    assert torch.equal(stacked.encoding().mask, stacked.shown)


@pytest.mark.parametrize(
    ("name", "expected"), [("supervised", 1.0), ("split", 1.0), ("multimask", 1.0), ("joint", 0.3)]
)
def test_shares_of_a_scan_add_up(name: str, expected: float) -> None:
    method, proxy = prepared(name)
    assert sum(view.share for view in views_of(method, proxy)) == pytest.approx(expected)


def test_joint_asks_the_method_of_the_role() -> None:
    joint = Joint(Split(), Supervised(), weight=0.7)
    (view,) = joint.view(padded(0, Role.TARGET).as_target(), key())
    assert view.image is None
    assert view.share == pytest.approx(0.7)
    (view,) = joint.view(padded(0, Role.PROXY), key())
    assert view.image is not None
    assert view.share == pytest.approx(0.3)


def test_multimask_refines_as_often_as_its_inner_method() -> None:
    assert MultiMask(Refinement(Subset(), stages=3)).stages == 3


def test_multimask_draws_independent_partitions() -> None:
    views = MultiMask(Split(Partition(unit="points")), 3).view(padded(0, Role.TARGET).as_target(), key())
    assert len({view.shown.numpy().tobytes() for view in views}) == 3


def test_supervised_grades_against_the_noiseless_kspace_where_there_is_one() -> None:
    proxy = padded(0, Role.PROXY)
    clean = torch.randn_like(proxy.kspace)
    assert torch.equal(Supervised().view(replace(proxy, clean=clean), key())[0].goal, clean)
    assert torch.equal(Supervised().view(proxy, key())[0].goal, proxy.kspace)


def test_methods_that_make_no_sense_are_refused() -> None:
    with pytest.raises(NorefError, match="use one or the other"):
        Refinement(Refinement(Subset()))
    with pytest.raises(NorefError, match="stages is 0"):
        Refinement(Subset(), stages=0)
    with pytest.raises(NorefError, match="nothing to refine"):
        Joint(Split(), Refinement(Supervised()))
    for share in (0, -1, 1.5, 40, (0.9, 0.1), []):
        for make in (Subset, Partition):
            with pytest.raises(NorefError, match="give a number above 0"):
                make(share=share)
    with pytest.raises(NorefError, match="k is 0"):
        MultiMask(Split(), 0)
    for weight in (0.0, 1.5):
        with pytest.raises(NorefError, match="Joint: weight"):
            Joint(Split(), Supervised(), weight)


def test_views_of_two_kinds_are_not_stacked() -> None:
    proxy = padded(0, Role.PROXY)
    with pytest.raises(ValueError, match="cannot be stacked"):
        Views.of([*Supervised().view(proxy, key()), *Split().view(proxy.as_target(), key())])


def test_proxies_are_not_refined() -> None:
    method = Refinement(Joint(Split(), Supervised()))
    proxy = padded(0, Role.PROXY)
    before = method.view(proxy, key())
    method.begin(1, {})
    assert torch.equal(method.view(proxy, key())[0].goal, before[0].goal)


def test_copying_what_a_refined_scan_shows_counts_once() -> None:
    method = Refinement(Subset())
    target = replace(padded(0, Role.TARGET), density=torch.full(SHAPE, 0.25)).as_target()
    method.prepare({SHAPE: [padded(seed, Role.TARGET).mask for seed in range(3)]})
    method.begin(1, {target.id: image(SHAPE, seed=5)})
    (view,) = method.view(target, key())
    assert view.density is not None
    assert bool((view.density[view.shown] == 1).all())
    assert bool((view.density[target.mask & ~view.shown] == 0.25).all())


def test_stages_masks_and_objectives_reach_every_method_inside() -> None:
    inner = Refinement(Subset(), stages=3)
    method = Joint(target=inner, proxy=Supervised())
    assert method.stages == 3
    bank = {SHAPE: [torch.ones(SHAPE, dtype=torch.bool)]}
    teacher = {"s": torch.zeros(1, *SHAPE)}
    method.prepare(bank)
    method.begin(2, teacher)
    objective = Objective(kspace={"mse": 1.0})
    method.minimise(objective)
    assert inner.bank[SHAPE] is bank[SHAPE]
    assert inner.teacher is teacher
    assert (method.stage, inner.stage, inner.inner.stage) == (2, 2, 2)
    assert all(m.objective is objective for m in method.modules() if isinstance(m, Method))


class Fixed(Network):
    """Gives the same images whatever it is shown."""

    def __init__(self, steps: list[Tensor], penalty: float | None = None) -> None:
        super().__init__()
        self.steps, self.penalty = steps, penalty

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        penalty = None if self.penalty is None else torch.full((kspace.shape[0],), self.penalty)
        *steps, last = (step.expand(kspace.shape[0], *step.shape) for step in self.steps)
        return Estimate(last, encoding, tuple(steps), penalty)


def test_grading_compares_the_graded_samples_of_each_step() -> None:
    target = padded(0, Role.TARGET).as_target()
    target = replace(target, density=torch.linspace(0.02, 1, SHAPE[0] * SHAPE[1]).view(SHAPE))
    assert target.density is not None
    method = Split()
    method.minimise(Objective(kspace={"mse": 2.0}, penalty=0.5))
    views = method.view(target, key())
    images = [image(SHAPE, seed=seed) for seed in (1, 2, 3)]
    losses = method.loss(Fixed(images, penalty=3.0), Views.of(views), key())
    graded = views[0].weight
    weight = 1 / target.density[graded].double()
    expected = 0.0
    for share, guess in zip((0.1, 0.1**0.5, 1.0), images, strict=True):
        shifted = torch.fft.ifftshift(coil_maps(target)[0] * guess, dim=(-2, -1))
        kspace = torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))
        error = (target.kspace - kspace)[:, graded].abs().double().square().sum(0)
        expected += share * 2.0 * float((weight * error).sum() / weight.sum())
    assert float(losses["kspace_mse"]) == pytest.approx(expected, rel=1e-4)
    assert float(losses["penalty"]) == pytest.approx(1.5)


def test_images_are_graded_where_there_is_one() -> None:
    proxy = padded(0, Role.PROXY)
    assert proxy.reference is not None
    method = Supervised()
    method.minimise(Objective(kspace={}, image={"nmse": 1.0}))
    guess = image(SHAPE, seed=4)
    losses = method.loss(Fixed([guess]), Views.of(method.view(proxy, key())), key())
    goal = proxy.reference.abs().double()
    expected = float((goal - guess.abs()).square().sum() / goal.square().sum())
    assert {name: float(loss) for name, loss in losses.items()} == {
        "image_nmse": pytest.approx(expected, rel=1e-4)
    }


def test_idle_views_weigh_nothing() -> None:
    stacked = Views.of(METHODS["multimask"].view(padded(0, Role.TARGET).as_target(), key()))
    assert float(stacked.share.sum()) == pytest.approx(1)
    assert float(stacked.idle().share.sum()) == 0


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_hidden_samples_stand_for_all_that_subset_does_not_show(share: float) -> None:
    full = scan((64, 4), 2, 0, noise=0.01, role=Role.TARGET)
    ky = torch.arange(64.0) - 32 + 1e-3
    density = 0.15 + 0.5 * torch.exp(-0.5 * (ky / 10) ** 2)
    density[28:36] = 1
    density = density[:, None].expand(64, 4)
    # Lines that touch the ACS join it and are never hidden: nothing can stand for them.
    error = torch.where(ky.abs() > 12, 1 / ky.abs(), 0)[:, None].expand(64, 4)
    generator = torch.Generator().manual_seed(0)
    told, true, shown_weights = 0.0, 0.0, []
    for number in range(1000):
        mask = (torch.rand(64, 1, generator=generator) < density[:, :1]).expand(64, 4)
        target = replace(full.undersampled(mask), density=density).as_target()
        (view,) = Subset(share=share).view(target, Key(0, str(number), "view", 0))
        assert view.density is not None
        told += float((view.weight * ~view.shown / view.density * error).sum())
        true += float((error * ~view.shown).sum())
        shown_weights.append(view.density[view.shown])
    # The plain inverse density lets shown samples stand in for others, and would be far off.
    assert told == pytest.approx(true, rel=0.05)
    assert bool((torch.cat(shown_weights) == 1).all())
