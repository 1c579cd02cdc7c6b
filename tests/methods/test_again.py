"""Methods that reconstruct their own image again, followed by hand."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from linear import PLAIN, SHAPE, Oracle, ZeroFilled, key, power, target
from synthetic import image, maps, scan
from torch import Tensor
from training.scans import engine, same, weights

from noref.errors import NorefError
from noref.methods import (
    Cyclic,
    Equivariant,
    Joint,
    Method,
    MultiMask,
    MultiOperator,
    Parallel,
    Refinement,
    Split,
    Subset,
    Supervised,
    View,
    Views,
)
from noref.methods.motion import draw_motion, move
from noref.networks import Estimate
from noref.physics import Encoding
from noref.physics.fourier import fft2c, ifft2c
from noref.scan import Role, Scan, coil_maps


def bank(count: int) -> list[Tensor]:
    return [target(seed).mask for seed in range(10, 10 + count)]


def ready(method: Method, masks: int = 2) -> Method:
    method.minimise(PLAIN)
    method.prepare({SHAPE: bank(masks)})
    return method


def other_mask(view: View) -> Tensor:
    """Ω̃ of a view's further passes."""
    return view.further[0][1][-1].shown


@pytest.mark.parametrize("coils", [1, 3])
def test_the_true_image_comes_back(coils: int) -> None:
    shown = target(seed=3, coils=coils)
    cyclic, operator = ready(Cyclic(Split())), ready(MultiOperator(Subset()))
    for seed, true in ((3, True), (4, False)):
        network = Oracle(image(SHAPE, seed=seed))
        losses = cyclic.loss(network, Views.of(cyclic.view(shown, key())), key())
        assert (float(losses["cycle_kspace_nmse"].detach()) < 1e-9) is true
        losses = operator.loss(network, Views.of(operator.view(shown, key())), key())
        assert float(losses["operator"].detach()) == 0


def test_a_cycle_is_graded_on_all_that_was_measured_with_the_gradient_of_both_passes() -> None:
    shown, a = target(), 0.9
    method, network = ready(Cyclic(Split(), weight=2.0)), ZeroFilled(a)
    (view,) = method.view(shown, key())
    mask = other_mask(view)
    losses = method.loss(network, Views.of([view]), key())
    assert set(losses) == {"kspace_nmse", "cycle_kspace_nmse"}
    total = power(shown.kspace, shown.mask)
    lost, kept = (power(shown.kspace, shown.mask & where) / total for where in (~mask, mask))
    assert lost > 1e-4
    assert float(losses["cycle_kspace_nmse"].detach()) == pytest.approx(
        2 * (lost + (1 - a**2) ** 2 * kept), rel=1e-4
    )
    losses["cycle_kspace_nmse"].sum().backward()
    assert float(network.gain.grad or 0) == pytest.approx(2 * -4 * a * (1 - a**2) * kept, rel=1e-4)


def test_an_operator_is_graded_against_the_first_image_with_the_gradient_of_both_passes() -> None:
    shown, a = target(), 0.7
    method, network = ready(MultiOperator(Subset(), weight=3.0)), ZeroFilled(a)
    (view,) = method.view(shown, key())
    mask = other_mask(view)
    losses = method.loss(network, Views.of([view]), key())
    assert set(losses) == {"kspace_nmse", "operator"}
    total = power(shown.kspace, view.shown)
    lost, kept = (power(shown.kspace, view.shown & where) / total for where in (~mask, mask))
    assert float(losses["operator"].detach()) == pytest.approx(3 * (lost + (1 - a) ** 2 * kept), rel=1e-4)
    losses["operator"].sum().backward()
    assert float(network.gain.grad or 0) == pytest.approx(3 * -2 * (1 - a) * kept, rel=1e-4)


def test_a_moved_image_is_graded_with_the_gradient_of_both_passes() -> None:
    shown, a = target(), 0.7
    method, network = ready(Equivariant(Subset(), weight=3.0)), ZeroFilled(a)
    (view,) = method.view(shown, key())
    (other,) = view.further[0][1]
    assert other.motion is not None
    losses = method.loss(network, Views.of([view]), key())
    assert set(losses) == {"kspace_nmse", "equivariance"}
    image = ifft2c(torch.where(view.shown, shown.kspace, 0))[0]
    kspace = fft2c(image.flatten()[other.motion])
    kept = float(kspace[other.shown].abs().square().sum() / kspace.abs().square().sum())
    unmoved = float(fft2c(image)[other.shown].abs().square().sum() / image.abs().square().sum())
    assert abs(kept - unmoved) > 1e-4
    expected = 3 * (1 - kept + (1 - a) ** 2 * kept)
    assert float(losses["equivariance"].detach()) == pytest.approx(expected, rel=1e-4)
    losses["equivariance"].sum().backward()
    assert float(network.gain.grad or 0) == pytest.approx(3 * -2 * (1 - a) * kept, rel=1e-4)


def exact(given: Scan) -> float:
    """The term where zero-filling is exact: all of k-space is shown again; the most of some motions."""
    method, terms = Equivariant(Subset()), []
    method.minimise(PLAIN)
    method.prepare({given.shape: [torch.ones(given.shape, dtype=torch.bool)] * 2})
    for epoch in range(8):
        (view,) = method.view(given, key(epoch))
        terms.append(method.loss(ZeroFilled(), Views.of([view]), key())["equivariance"])
    return float(torch.cat(terms).max().detach())


@pytest.mark.parametrize("sets", [1, 2])
def test_coils_move_along_with_what_they_see(sets: int) -> None:
    shown = target(coils=3)
    assert shown.maps is not None
    # Anatomy that is moved into the air of maps that stay would be lost. No pixel is seen by both sets.
    air = torch.arange(SHAPE[1]) < 6
    right = torch.arange(SHAPE[1]) > 12
    first, second = shown.maps.clone(), shown.maps.clone()
    first[..., air | right if sets == 2 else air] = 0
    second[..., ~right] = 0
    assert exact(replace(shown, maps=torch.cat([first, second])[:sets])) < 1e-9


def test_what_is_moved_into_the_padding_is_not_asked_for() -> None:
    shape = (20, 20)
    padding = torch.zeros(shape, dtype=torch.bool)
    padding[:4], padding[-3:] = True, True
    full = scan(shape, 1, 0)
    cut = replace(full.undersampled(~padding), padding=padding).as_target()
    assert exact(cut) < 1e-9


class Met(Oracle):
    """Keeps what it is shown, with which maps."""

    def __init__(self, *images: Tensor, maps: Tensor) -> None:
        super().__init__(*images, maps=maps)
        self.met: list[tuple[Tensor, Tensor]] = []

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        self.met.append((kspace, encoding.maps))
        return super().forward(kspace, encoding)


def test_a_moved_image_is_scanned_by_learned_maps_and_the_network_starts_from_the_given_ones() -> None:
    shown, true, learned = target(coils=3), image(SHAPE, seed=4), maps(SHAPE, 3, seed=9)
    method, network = ready(Equivariant(Subset())), Met(true, maps=learned)
    (view,) = method.view(shown, key())
    method.loss(network, Views.of([view]), key())
    (other,) = view.further[0][1]
    assert other.motion is not None
    given = coil_maps(shown)
    (_, first), (kspace, second) = network.met
    torch.testing.assert_close(first[0], given)
    torch.testing.assert_close(second[0], move(given, other.motion))
    seen = fft2c((move(learned, other.motion) * move(true, other.motion)[:, None]).sum(0))
    torch.testing.assert_close(kspace[0], torch.where(other.shown, seen, 0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("shape", "motions"), [((20, 20), 8), ((24, 20), 4)])
def test_motions_are_mirrors_turns_and_shifts(shape: tuple[int, int], motions: int) -> None:
    met = set()
    for epoch in range(100):
        motion = draw_motion(shape, key(epoch))
        assert torch.equal(motion.flatten().sort().values, torch.arange(motion.numel()))
        # Where the middle's neighbours come from says how it was mirrored and turned, whatever the shift.
        middle, right, below = (int(motion[y, x]) for y, x in ((10, 10), (10, 11), (11, 10)))
        at = [divmod(place, shape[1]) for place in (middle, right, below)]
        met.add(tuple((y - at[0][0], x - at[0][1]) for y, x in at[1:]))
        assert max(abs(at[0][0] - shape[0] / 2), abs(at[0][1] - shape[1] / 2)) <= 2 + 2 + shape[0] // 10
    assert len(met) == motions
    assert torch.equal(draw_motion(shape, key(3)), draw_motion(shape, key(3)))


def test_a_moved_image_may_be_scanned_as_it_was() -> None:
    shown = target()
    method = ready(Equivariant(MultiOperator(Subset()), other=False), masks=3)
    views = [view for epoch in range(8) for view in method.view(shown, key(epoch))]
    assert all(torch.equal(view.further[-1][1][0].shown, shown.mask) for view in views)
    others = {view.further[0][1][0].shown.numpy().tobytes() for view in views}
    assert others <= {mask.numpy().tobytes() for mask in bank(3)}
    assert all(view.further[0][1][0].motion is None for view in views)


@pytest.mark.parametrize("make", [Cyclic, MultiOperator])
def test_masks_are_other_scans_drawn_anew_for_every_view(make: type[Cyclic] | type[MultiOperator]) -> None:
    method = ready(make(MultiMask(Split(), 2)), masks=3)
    drawn, differ = set(), False
    for epoch in range(12):
        first, second = (other_mask(view) for view in method.view(target(), key(epoch)))
        drawn |= {first.numpy().tobytes(), second.numpy().tobytes()}
        differ = differ or not torch.equal(first, second)
        again = other_mask(method.view(target(), key(epoch))[0])
        assert torch.equal(first, again)
    assert drawn == {mask.numpy().tobytes() for mask in bank(3)}
    assert differ


@pytest.mark.parametrize("make", [Cyclic, MultiOperator])
def test_one_evenly_spaced_mask_is_shifted(make: type[Cyclic] | type[MultiOperator]) -> None:
    shape, acs = (48, 20), range(21, 27)
    full = torch.zeros(shape, dtype=torch.bool)
    full[2::4], full[acs] = True, True
    masks = [full.clone() for _ in range(3)]
    for mask, held in zip(masks, (2, 6, 42), strict=True):
        mask[held] = False
    method, one = make(Split()), scan(shape, 1, 0).undersampled(masks[0]).as_target()
    method.prepare({shape: masks})
    views = [view for epoch in range(40) for view in method.view(one, key(epoch))]
    shown = [other_mask(view) for view in views]
    assert all(torch.equal(mask, mask[:, :1].expand(shape)) for mask in shown)
    drawn = {tuple(mask[:, 0].nonzero().flatten().tolist()) for mask in shown}
    assert drawn == {tuple(k for k in range(48) if k % 4 == offset or k in acs) for offset in range(4)}


def test_a_scan_weighs_the_same_alone_and_in_a_batch() -> None:
    method, network = ready(Equivariant(Cyclic(MultiOperator(Split()))), masks=3), ZeroFilled(0.8)
    views = [method.view(target(seed, coils=2), key(seed))[0] for seed in (0, 1)]
    together = method.loss(network, Views.of(views), key())
    assert {"cycle_kspace_nmse", "operator", "equivariance"} <= set(together)
    for i, view in enumerate(views):
        for name, loss in method.loss(network, Views.of([view]), key()).items():
            assert float(loss.detach()) == pytest.approx(float(together[name][i].detach()), rel=1e-4)


def test_loading_processes_can_hand_over_further_passes() -> None:
    method = ready(Cyclic(Split()))
    views = Views.of(method.view(target(), key()))
    received = pickle.loads(pickle.dumps(views))
    assert received.further[0][0] is views.further[0][0]
    assert torch.equal(received.further[0][1][1].shown, views.further[0][1][1].shown)


def test_training_on_scans_of_two_shapes_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = (
        engine(tmp_path / name, Cyclic(MultiOperator(Subset())), epochs=1) for name in ("a", "b")
    )
    start = weights(first)
    first.run()
    second.run()
    assert same(weights(first), weights(second))
    assert not same(weights(first), start)


def test_proxies_are_graded_by_their_references_alone() -> None:
    proxy = scan(SHAPE, 1, 0, role=Role.PROXY)
    assert ready(Cyclic(Split())).view(proxy, key())[0].further == ()


def test_further_passes_are_kept_inside_every_method_made_of_methods() -> None:
    def inner() -> Method:
        return MultiOperator(Subset())

    for method in (
        MultiMask(inner(), 2),
        Joint(inner(), Supervised()),
        Refinement(inner()),
        Parallel(inner()),
        Cyclic(inner()),
    ):
        network = ZeroFilled(0.8)
        ready(method).meet(network)
        for stage in range(method.stages):
            method.begin(stage, {target().id: image(SHAPE, seed=1)})
            losses = method.loss(network, Views.of(method.view(target(), key())), key())
            assert float(losses["operator"].detach().min()) > 0


def test_the_second_of_two_parallel_networks_makes_further_passes_of_its_own() -> None:
    shown, a = target(), 0.5
    method, network = ready(Parallel(MultiOperator(Subset(), weight=3.0))), ZeroFilled(0.8)
    method.meet(network)
    cast(ZeroFilled, cast(Parallel, method).twin).gain.data.fill_(a)
    (view,) = method.view(shown, key())
    losses = method.loss(network, Views.of([view]), key())
    (second,) = view.further[-1][1]
    mask = other_mask(second)
    total = power(shown.kspace, second.shown)
    lost, kept = (power(shown.kspace, second.shown & where) / total for where in (~mask, mask))
    expected = 3 * (lost + (1 - a) ** 2 * kept)
    assert float(losses["second_operator"].detach()) == pytest.approx(expected, rel=1e-4)


class Watched(ZeroFilled):
    """Keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        self.shown.append(kspace.detach())
        return super().forward(kspace, encoding)


@pytest.mark.parametrize("make", [Cyclic, MultiOperator])
def test_a_simulated_scan_is_zero_in_the_padding(make: type[Cyclic] | type[MultiOperator]) -> None:
    padding = torch.zeros(SHAPE, dtype=torch.bool)
    padding[:2] = True
    shown = replace(target(coils=3).undersampled(~padding), padding=padding)
    method, network = ready(make(Split())), Watched()
    (view,) = method.view(shown, key())
    method.loss(network, Views.of([view]), key())
    simulated = network.shown[-1][0]
    assert not bool(simulated[:, padding].any())
    assert bool(simulated[:, other_mask(view) & ~padding].abs().min() > 0)


def test_dual_losses_put_back_what_the_second_pass_was_shown() -> None:
    shown, a = target(), 0.9
    method, network = ready(Cyclic(Split())), ZeroFilled(a)
    method.minimise(replace(PLAIN, dual=True))
    (view,) = method.view(shown, key())
    mask = other_mask(view)
    losses = method.loss(network, Views.of([view]), key())
    total = power(shown.kspace, shown.mask)
    lost, kept = (power(shown.kspace, shown.mask & where) / total for where in (~mask, mask))
    expected = lost + (1 - a) ** 2 * kept
    assert float(losses["cycle_kspace_nmse"].detach()) == pytest.approx(expected, rel=1e-4)


def test_nonsense_is_refused() -> None:
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(NorefError, match="Cyclic: weight is"):
            Cyclic(Split(), weight)
