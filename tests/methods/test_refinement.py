"""IDR: what is shown, graded and kept of a refined scan, against formulas worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from linear import Oracle
from networks.problems import small
from synthetic import image, maps, scan, undersampled
from torch import Tensor

from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import (
    Cyclic,
    Joint,
    Method,
    MultiMask,
    MultiOperator,
    Refinement,
    Split,
    Subset,
    Supervised,
    View,
    Views,
)
from noref.networks import NETWORKS, ISTANet
from noref.networks.demodulated import Demodulated
from noref.physics import CartesianEncoding, cartesian, to_complex, to_pairs
from noref.scan import Role, Scan, coil_maps
from noref.seeding import Key

SHAPE = (24, 20)
TEACHER = image(SHAPE, seed=9)
KEY = Key(0, "s", "view", 0)


def target(kind: str = "random2d", coils: int = 2, padded: bool = False) -> Scan:
    """A scan with a density, and known zeros at its borders if asked for."""
    one = undersampled(scan(SHAPE, coils, 3, noise=0.01), kind, 2, 6)
    one = replace(one, density=torch.full(SHAPE, 0.4))
    if padded:
        padding = torch.zeros(SHAPE, dtype=torch.bool)
        padding[:2], padding[-1:] = True, True
        one = replace(one.undersampled(~padding), padding=padding)
    return one.as_target()


def begun(method: Method, one: Scan, teacher: Tensor = TEACHER) -> Method:
    """In its second stage, with the scan's own and two other masks in the bank."""
    bank = [undersampled(scan(SHAPE, 1, seed), "random2d", 2, 6).mask for seed in (3, 4, 5)]
    method.prepare({SHAPE: bank})
    method.begin(1, {one.id: teacher})
    return method


def kspace_of(picture: Tensor, seen: Tensor) -> Tensor:
    """`F S x` in double precision, by PyTorch's transform alone."""
    coils = (seen.to(torch.complex128) * picture.to(torch.complex128)[:, None]).sum(0)
    shifted = torch.fft.ifftshift(coils, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))


# what is graded


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("kind", ["lines", "random2d"])
@pytest.mark.parametrize("data_term", ["acquired", "refined", "mixed"])
def test_data_terms(
    data_term: Literal["acquired", "refined", "mixed"], kind: str, coils: int, padded: bool
) -> None:
    one = target(kind, coils, padded)
    method = Refinement(Subset(), data_term=data_term, beta=0.3)
    method.minimise(Objective(kspace={"mse": 2.0}, weighting="none", penalty=0))
    views = Views.of(begun(method, one).view(one, KEY))
    guesses = [image(SHAPE, seed=seed) for seed in (1, 2)]
    losses = method.loss(Oracle(*guesses), views, KEY)
    padding = torch.zeros(SHAPE, dtype=torch.bool) if one.padding is None else one.padding
    refined = torch.where(one.mask, one.kspace, kspace_of(TEACHER, coil_maps(one)))
    expected = {"kspace_mse": 0.0}
    for share, guess in zip((0.1, 1.0), guesses, strict=True):
        squares = (kspace_of(guess, coil_maps(one)) - refined).abs().square().sum(0)
        graded = ~padding if data_term == "refined" else one.mask
        expected["kspace_mse"] += share * 2 * float(squares[graded].mean())
        if data_term == "mixed":
            outside = ~padding & ~one.mask
            complement = float(squares[outside].sum() / refined[:, outside].abs().square().sum())
            expected["kspace_guess"] = expected.get("kspace_guess", 0) + share * 0.3 * complement
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_the_mixed_term_is_a_ratio() -> None:
    """Of a scan in other units it is the same, as the objective's terms are."""
    method = Refinement(Subset(), data_term="mixed")
    found = []
    for units in (1.0, 100.0):
        one = replace(target(), kspace=units * target().kspace)
        views = Views.of(begun(method, one, units * TEACHER).view(one, KEY))
        found.append(float(method.loss(Oracle(units * image(SHAPE, seed=1)), views, KEY)["kspace_guess"]))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("data_term", ["acquired", "refined", "mixed"])
@pytest.mark.parametrize("dc", ["input", "measured"])
@pytest.mark.parametrize("around", [Cyclic, MultiOperator])
def test_further_passes_are_graded_and_kept_as_the_first(
    around: type[Cyclic | MultiOperator],
    dc: Literal["input", "measured"],
    data_term: Literal["acquired", "refined", "mixed"],
) -> None:
    one = target()
    method = begun(Refinement(around(Subset()), data_term=data_term, dc=dc), one)
    method.prepare({SHAPE: [~one.mask]})
    (view,) = method.view(one, KEY)
    assert len(view.further) == (2 if data_term == "mixed" else 1)
    term, passes = view.further[0]
    assert term is around.term
    for further in passes:
        assert not further.further
        assert torch.equal(further.weight > 0, view.weight > 0)
        assert torch.equal(further.goal, view.goal)
        assert bool((further.shown & ~one.mask).any())
        (kept,) = Views.of([further]).kept
        assert torch.equal(kept, further.shown & one.mask if dc == "measured" else further.shown)
        if data_term == "refined":
            assert further.density is None
        else:
            assert further.density is not None
            assert not bool((further.weight > 0)[~one.mask].any())
            assert torch.equal(further.density, torch.where(further.shown, 1.0, 0.4))


def test_mixed_terms_reach_the_loss_through_other_methods() -> None:
    one = target()
    joint = Joint(Refinement(Subset(), data_term="mixed"), Supervised())
    joint.minimise(Objective(penalty=0))
    views = begun(joint, one).view(one, KEY)
    assert "kspace_guess" in joint.loss(Oracle(TEACHER), Views.of(views), KEY)


@pytest.mark.parametrize("dc", ["input", "measured"])
def test_only_what_is_kept_is_put_back_before_dual_losses(dc: Literal["input", "measured"]) -> None:
    one = target(coils=1)
    method = Refinement(Subset(), data_term="refined", dc=dc)
    method.minimise(Objective(kspace={"mse": 1.0}, dual=True, weighting="none", penalty=0))
    (view,) = begun(method, one).view(one, KEY)
    guess = image(SHAPE, seed=1)
    losses = method.loss(Oracle(guess), Views.of([view]), KEY)
    kept = view.shown if dc == "input" else view.shown & one.mask
    refined = torch.where(one.mask, one.kspace, kspace_of(TEACHER, coil_maps(one)))
    squares = (kspace_of(guess, coil_maps(one)) - refined).abs().square().sum(0)
    assert float(losses["kspace_mse"]) == pytest.approx(float(torch.where(kept, 0, squares).mean()), rel=1e-4)


def test_acquired_samples_never_change_and_the_others_are_the_teachers() -> None:
    one = target(padded=True)
    filled = Refinement.filled(begun(Refinement(Subset()), one), one)
    assert one.padding is not None
    guess = kspace_of(TEACHER, coil_maps(one))
    assert torch.equal(filled.kspace[:, one.mask], one.kspace[:, one.mask])
    assert not bool(filled.kspace[:, one.padding].any())
    others = ~one.mask & ~one.padding
    torch.testing.assert_close(filled.kspace[:, others], guess[:, others].to(torch.complex64))


def test_a_teachers_learned_maps_are_those_of_its_guesses() -> None:
    one, learned = target(), maps(SHAPE, 2, seed=77)
    together = torch.cat((TEACHER[:, None], learned), 1)
    filled = Refinement.filled(begun(Refinement(Subset()), one, together), one)
    guess = kspace_of(TEACHER, learned).to(torch.complex64)
    torch.testing.assert_close(filled.kspace[:, ~one.mask], guess[:, ~one.mask])
    assert filled.maps is one.maps


# what is shown, and what the network must keep of it


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dc", ["input", "measured"])
def test_data_consistency_holds_on_what_the_view_says(dc: Literal["input", "measured"], padded: bool) -> None:
    one = target(padded=padded)
    (view,) = begun(Refinement(Subset(), dc=dc), one).view(one, KEY)
    views = Views.of([view])
    padding = torch.zeros(SHAPE, dtype=torch.bool) if one.padding is None else one.padding
    guessed = view.shown & ~one.mask
    assert bool(guessed.any())
    assert torch.equal(views.shown[0], view.shown | padding)
    kept = view.shown & one.mask if dc == "measured" else view.shown
    encoding = views.encoding()
    assert torch.equal(encoding.mask[0], kept | padding)
    assert torch.equal(encoding.beginning().mask, views.shown)
    assert float(views.guessed) == pytest.approx(int(guessed.sum()) / int(view.shown.sum()))
    moved = replace(views.to("cpu"), ids=views.ids).encoding()
    assert torch.equal(moved.mask, encoding.mask)
    assert torch.equal(encoding.full().mask, torch.ones_like(encoding.mask))
    assert encoding.full().shown is None


@pytest.mark.parametrize("inner", [Subset(), Split()])
def test_without_guesses_nothing_differs(inner: Method) -> None:
    one = target()
    (view,) = Refinement(inner, dc="measured").view(one, KEY)
    views = Views.of([view])
    assert float(views.guessed) == 0
    assert views.encoding().shown is None
    assert torch.equal(views.encoding().mask, views.shown)
    proxy = replace(scan(SHAPE, 2, 3, role=Role.PROXY), reference=TEACHER)
    joint = begun(Joint(Refinement(Subset(), dc="measured"), Supervised()), proxy)
    assert float(Views.of(joint.view(proxy, KEY)).guessed) == 0


def problem(coils: int) -> tuple[Tensor, CartesianEncoding, CartesianEncoding]:
    """k-space of measured samples and wrong guesses; the encodings of both and of the measured alone."""
    one = target(coils=coils)
    (view,) = begun(Refinement(Subset(), dc="measured"), one).view(one, KEY)
    views = Views.of([view])
    measured = cartesian(views.kept, views.maps)
    assert not torch.equal(views.kept, views.shown)
    return views.kspace, views.encoding(), measured


@pytest.mark.parametrize("start", ["adjoint", "sense"])
@pytest.mark.parametrize("coils", [1, 2])
def test_a_gradient_step_goes_towards_measured_samples_only(
    coils: int, start: Literal["adjoint", "sense"]
) -> None:
    kspace, encoding, measured = problem(coils)
    net = ISTANet(phases=1, features=2, start=start, step=0.7)
    torch.nn.init.zeros_(net.phases[0].gather)  # type: ignore[union-attr, arg-type]
    shown = encoding.beginning()
    first = shown.adjoint(kspace)
    if start == "sense" and coils > 1:
        first = shown.solve(first, 0.001, iterations=30, tolerance=0)
    error = torch.where(measured.mask[:, None], measured.full().forward(first) - kspace, 0)
    expected = first - 0.7 * measured.adjoint(error)
    torch.testing.assert_close(net(kspace, encoding).image, expected, rtol=1e-4, atol=1e-5)
    # One coil's first image has all samples already: there is nothing to step towards.
    if coils > 1:
        assert not torch.allclose(net(kspace, shown).image, expected, rtol=1e-3, atol=1e-3)


def test_conjugate_gradients_fit_measured_samples_only() -> None:
    kspace, encoding, measured = problem(2)
    net = NETWORKS["modl"](unrolls=1, layers=2, features=2, cg=60)
    for weight in net.denoiser.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(weight)
    first = encoding.beginning().adjoint(kspace)
    right = measured.adjoint(torch.where(measured.mask[:, None], kspace, 0)) + 0.05 * first
    expected = to_complex(measured.solve_pairs(to_pairs(right), 0.05, iterations=200, tolerance=1e-7))
    torch.testing.assert_close(net(kspace, encoding).image, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_begins_with_guesses_it_need_not_keep(name: str, demodulate: bool) -> None:
    kspace, encoding, measured = problem(2)
    net = small(name)
    net = (Demodulated(net) if demodulate else net).eval()
    with torch.no_grad():
        given = net(kspace, encoding)
        kept = torch.where(measured.mask[:, None], kspace, 0)
        others = torch.where(measured.mask[:, None], kspace, 2 * kspace)
        assert not torch.allclose(given.image, net(others, encoding).image), "guesses are never seen"
        assert not torch.allclose(given.image, net(kspace, encoding.beginning()).image) or name == "unet"
        # Where all that is shown is measured, saying so changes no bit.
        alone = net(kept, measured).image
        assert torch.equal(alone, net(kept, replace(measured, shown=measured.mask)).image)
    assert torch.equal(given.encoding.full().mask, torch.ones_like(encoding.mask))


# the bank of masks


def test_scans_of_one_evenly_spaced_mask_are_shown_through_all_its_offsets() -> None:
    shape = (48, 20)
    full = torch.zeros(shape, dtype=torch.bool)
    full[::4], full[21:27] = True, True
    held = [8, 16, 40]
    masks = [full.clone() for _ in held]
    for mask, line in zip(masks, held, strict=True):
        mask[line] = False
    method = Refinement(Subset(share=0.9))
    method.prepare({shape: masks})
    lines = [set(mask[:, 0].nonzero().flatten().tolist()) for mask in method.bank[shape]]
    acs = set(range(20, 27))
    assert lines == [acs | {k for k in range(48) if k % 4 == s} for s in range(4)]
    one = scan(shape, 2, 3).undersampled(masks[0]).as_target()
    method.begin(1, {one.id: image(shape, seed=9)})
    seen = torch.zeros(shape, dtype=torch.bool)
    for epoch in range(40):
        (view,) = method.view(one, Key(0, one.id, "view", epoch))
        seen |= view.shown
    assert bool(seen.all())


def test_different_masks_are_the_bank_themselves() -> None:
    masks = [undersampled(scan(SHAPE, 1, seed), "random2d", 2, 6).mask for seed in range(3)]
    method = Refinement(Subset())
    method.prepare({SHAPE: masks})
    assert all(torch.equal(a, b) for a, b in zip(method.bank[SHAPE], masks, strict=True))


def test_without_a_bank_guesses_are_graded_at_most() -> None:
    one = target()
    method = Refinement(Subset(), data_term="refined", bank=False)
    method.prepare({one.shape: [one.mask, one.mask.roll(1, 0)]})
    begun(method, one)
    for epoch in range(10):
        (view,) = method.view(one, Key(0, one.id, "view", epoch))
        assert not bool((view.shown & ~one.mask).any())
        assert bool((view.weight > 0)[~one.mask].any())


def test_masks_of_another_acceleration_are_warned_of() -> None:
    masks = [undersampled(scan(SHAPE, 1, seed), "random2d", 2 + seed, 4).mask for seed in (0, 2)]
    with pytest.warns(UserWarning, match=r"24×20 with 120 to 240 samples") as caught:
        Refinement(Subset()).prepare({SHAPE: masks})
    assert "\n" not in str(caught[0].message)
    Refinement(Subset(), stages=1).prepare({SHAPE: masks})


# what makes no sense


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_weights_of_nothing_are_refused(beta: float) -> None:
    with pytest.raises(NorefError, match="Refinement: beta is") as error:
        Refinement(Subset(), data_term="mixed", beta=beta)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stages", [1, 2])
def test_refinement_of_refinement_is_refused_at_any_depth(stages: int) -> None:
    for inner in (Refinement(Subset(), stages=stages), MultiMask(Refinement(Subset(), stages=stages), k=2)):
        with pytest.raises(NorefError, match="its inner method refines too") as error:
            Refinement(inner)
        assert "\n" not in str(error.value)


def test_views_of_two_roles_are_not_stacked() -> None:
    one = target()
    views: list[View] = Split().view(one, KEY)
    with pytest.raises(ValueError, match="cannot be stacked"):
        Views.of([*views, replace(views[0], scan=replace(one, role=Role.PROXY))])


def test_scans_off_the_grid_are_refused() -> None:
    target = scan((24, 20), 2, 0)
    spokes = replace(target, trajectory=torch.zeros(24, 20, 2))
    with pytest.raises(
        NorefError, match=r"^[^\n]*off the Cartesian grid, where guesses have no place[^\n]*$"
    ):
        Refinement(Subset()).view(spokes, Key(0, target.id, "view", 0))
