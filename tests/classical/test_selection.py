from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from objects import acquired, ellipses, psnr
from synthetic import image
from torch import Tensor

from noref.classical import (
    ANY_SAMPLING,
    CLASSICAL,
    CGSense,
    Classical,
    Wavelet,
    ZeroFilled,
    choose,
    fit,
    reconstruct,
)
from noref.classical.selection import best_of, kspace_errors, splits
from noref.data.part import AsTheyCome
from noref.data.prepare import Preparation
from noref.errors import NorefError
from noref.physics import Encoding
from noref.sampling.density import sampling_density
from noref.sampling.holdout import acs_mask, holdout_error
from noref.scan import Scan

REGULARISED = ["cg-sense", "tv", "wavelet"]


@pytest.mark.parametrize("name", REGULARISED)
@pytest.mark.parametrize("noise", [0.01, 0.04])
def test_the_choice_is_as_good_as_the_references(name, noise):
    method, losses = CLASSICAL[name], []
    for seed in range(2):
        scan = acquired(ellipses((128, 64)), noise=noise, seed=seed)
        best = max(psnr(fit(method, scan, s), scan.reference) for s in (0.1, 0.03, 0.01, 0.003, 0.001))
        losses.append(best - psnr(reconstruct(method, scan), scan.reference))
    assert sum(losses) / 2 < 0.3


def test_the_order_of_the_methods():
    scan = acquired(ellipses((96, 64)))
    zero_filled, cg_sense, tv, wavelet = (
        psnr(reconstruct(CLASSICAL[name], scan), scan.reference) for name in ("zero-filled", *REGULARISED)
    )
    assert min(tv, wavelet) > cg_sense + 0.5 > zero_filled + 1


@pytest.mark.parametrize("name", ANY_SAMPLING)
@pytest.mark.parametrize(("shape", "coils", "sets"), [((45, 39), 4, 1), ((36, 33), 1, 1), ((40, 32), 6, 2)])
def test_any_scan_is_reconstructed_and_always_the_same_way(name, shape, coils, sets):
    scan, method = acquired(image(shape, sets), coils, acceleration=2), of_few(name)
    first = reconstruct(method, scan)
    assert first.shape == (sets, *shape)
    assert first.dtype == torch.complex64
    assert bool(first.isfinite().all())
    assert torch.equal(first, reconstruct(method, scan))


def of_few(name: str) -> Classical:
    """The method with three of its strengths to choose from, and few iterations."""
    method = CLASSICAL[name]
    if method.strengths:
        method = replace(method, strengths=method.strengths[2:5])
    few = {"iterations": 8, "warm_iterations": 8, "second_iterations": 4}
    return replace(method, **{key: value for key, value in few.items() if hasattr(method, key)})


@pytest.mark.parametrize("name", ANY_SAMPLING)
def test_nothing_outside_the_mask_is_read(name):
    scan = acquired(ellipses((48, 36)))
    poisoned = replace(scan, kspace=torch.where(scan.mask, scan.kspace, torch.nan), reference=None)
    assert torch.equal(reconstruct(of_few(name), poisoned), reconstruct(of_few(name), scan))


def test_candidates_are_made_without_the_held_out_samples():
    scan = acquired(ellipses((48, 36)))
    other = replace(scan, kspace=torch.where(scan.holdout, -3 * scan.kspace, scan.kspace))
    method = CGSense(strengths=(0.01,))
    first, second = choose(method, scan), choose(method, other)
    assert torch.equal(first.image, second.image)
    assert first.errors != second.errors
    assert not torch.equal(reconstruct(method, scan), reconstruct(method, other))


def test_errors_are_those_on_the_held_out_samples():
    scan = acquired(ellipses((48, 36)))
    choice = choose(Wavelet(), scan)
    assert choice.errors.keys() == choice.scores.keys()
    assert choice.errors[choice.strength] == holdout_error(scan, choice.image)
    assert choice.scores[choice.strength] == pytest.approx(min(choice.scores.values()), rel=2e-3)


EVENLY = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0]) / 4
UNEVENLY = torch.tensor([0.0, 7.0, -5.0, 6.0, -4.0]) / 4


@pytest.mark.parametrize(
    ("worse", "taken"),
    [
        (0.0005 * EVENLY, 0.1),  # the same
        (0.005 * EVENLY, 0.01),  # little worse, and surely
        (0.005 * UNEVENLY, 0.1),  # little worse, by chance
        (0.02 * UNEVENLY, 0.01),  # much worse, by chance or not
    ],
)
def test_the_strongest_that_cannot_be_told_from_the_best_is_taken(worse, taken):
    """Errors in the ACS and on four lines that sum up to 1, and what a stronger one adds."""
    errors = torch.tensor([0.2, 0.5, 0.1, 0.1, 0.1])
    assert best_of({0.1: errors + worse, 0.01: errors, 0.001: errors + 0.1 * EVENLY}) == taken


def test_one_line_alone_tells_nothing_of_chance():
    assert best_of({0.1: torch.tensor([0.2, 0.805]), 0.01: torch.tensor([0.2, 0.8])}) == 0.01


@dataclass
class Counted:
    """CG-SENSE that remembers what it was asked."""

    name: str = "counted"
    strengths: tuple[float, ...] = CGSense().strengths
    evenly_spaced: ClassVar[bool] = False
    asked: list[float] = field(default_factory=list)

    def __call__(
        self, kspace: Tensor, encoding: Encoding, strength: float, start: Tensor | None = None
    ) -> Tensor:
        self.asked.append(strength)
        return CGSense()(kspace, encoding, strength, start)


def test_the_work_is_bounded_and_the_search_refines():
    method, scan = Counted(), acquired(ellipses((48, 36)), noise=0.1)
    choice = choose(method, scan)
    times = len(splits(scan))
    method.asked, every = method.asked[::times], method.asked
    assert every == [strength for strength in method.asked for _ in range(times)]
    assert len(method.asked) == len(set(method.asked)) <= len(method.strengths) + 2
    assert method.strengths[-1] not in method.asked
    coarse = [s for s in method.asked if s in method.strengths]
    assert coarse == sorted(coarse, reverse=True)
    assert len(method.asked) - len(coarse) in (1, 2)
    assert choice.strength in method.asked


def test_a_small_holdout_is_joined_by_all_other_lines():
    scan = acquired(ellipses((48, 36)))
    parts = splits(scan)
    assert parts[0] is scan
    assert len(parts) == 4
    held = torch.stack([part.holdout for part in parts]).sum(0)
    outside = scan.mask & ~acs_mask(scan.mask)
    assert torch.equal(held, outside.long())
    again = splits(scan)
    assert all(torch.equal(one.holdout, two.holdout) for one, two in zip(parts, again, strict=True))


def test_all_samples_are_regularised_less_than_a_part_of_them():
    scan, method = acquired(ellipses((48, 36))), CGSense()
    choice = choose(method, scan)
    assert choice.for_all == pytest.approx(0.75**0.5 * choice.strength)
    assert torch.equal(reconstruct(method, scan), fit(method, scan, choice.for_all))
    single = choose(CGSense(strengths=(0.01,)), scan)
    assert single.for_all == single.strength == 0.01


def test_enough_held_out_points_stay_alone():
    scan = acquired(ellipses((48, 36)))
    points = torch.rand(scan.shape, generator=torch.Generator().manual_seed(0)) < 0.05
    held = replace(scan, mask=scan.mask | points, holdout=points & ~scan.mask)
    assert len(splits(held)) == 1


def test_one_coil_is_not_dimmed_by_a_strength_that_cannot_be_told():
    scan = acquired(ellipses((48, 36)), coils=1)
    for one in (scan, without_acs(scan)):
        zero_filled = reconstruct(ZeroFilled(), one)
        plain = reconstruct(CGSense(reweighted=False), one)
        torch.testing.assert_close(plain, zero_filled, rtol=0.02, atol=1e-5)
        made = psnr(reconstruct(CGSense(), one), scan.reference)
        assert made > psnr(zero_filled, scan.reference)


def without_acs(scan: Scan) -> Scan:
    """Without the line through the centre of k-space no block around it is sampled."""
    mask = scan.mask.clone()
    mask[mask.shape[0] // 2] = False
    return scan.undersampled(mask)


def test_the_estimate_is_the_error_over_all_of_kspace():
    """Averaged over many Γ it is the true NMSE of k-space; exactly so for the truth and for nothing."""
    scans = [acquired(ellipses((96, 48)), noise=0.0, seed=seed) for seed in range(12)]
    for scan in scans[:2]:
        truth, nothing = scan.reference, torch.zeros_like(scan.reference)
        assert float(kspace_errors([scan], [truth]).sum()) < 1e-8
        assert float(kspace_errors([scan], [nothing]).sum()) == pytest.approx(1)
    estimates, truths = [], []
    for scan in scans:
        made = choose(CGSense(strengths=(0.01,), reweighted=False), scan)
        estimates.append(made.scores[0.01])
        truths.append(float((made.image - scan.reference).norm() / scan.reference.norm()) ** 2)
    assert sum(estimates) == pytest.approx(sum(truths), rel=0.3)


def test_densities_weigh_the_estimate():
    scan = acquired(ellipses((96, 48)))
    density = sampling_density([scan.allowed])
    assert choose(CGSense(), replace(scan, density=density)).scores != choose(CGSense(), scan).scores


@pytest.mark.parametrize("name", REGULARISED)
@pytest.mark.parametrize("lines", [48, 36])
@pytest.mark.parametrize("samples", [36, 28])
def test_what_calibrates_as_a_whole_is_reconstructed_without_gamma(name, lines, samples):
    """Full scans, partial Fourier and partial echoes, as `noref reconstruct` prepares them."""
    scan = acquired(ellipses((48, 36)))
    mask = torch.zeros_like(scan.mask)
    mask[:lines, :samples] = True
    raw = replace(scan, kspace=scan.kspace * mask, measured=mask, mask=mask, holdout=None, reference=None)
    prepared = AsTheyCome([raw], Preparation())[0]
    assert prepared.holdout is None
    made = reconstruct(CLASSICAL[name], prepared) * prepared.scale
    zero_filled = reconstruct(ZeroFilled(), prepared) * prepared.scale
    whole = (lines, samples) == (48, 36)
    assert psnr(made, scan.reference) > (30 if whole else psnr(zero_filled, scan.reference) - 0.1)


@pytest.mark.parametrize("name", REGULARISED)
def test_without_held_out_samples_it_says_what_to_do(name):
    scan = replace(acquired(ellipses((48, 36))), holdout=None)
    with pytest.raises(NorefError, match=r"ellipses: .*set holdout above 0"):
        reconstruct(CLASSICAL[name], scan)
    assert reconstruct(ZeroFilled(), scan).shape == scan.reference.shape


def test_held_out_samples_without_signal_choose_nothing():
    scan = acquired(ellipses((48, 36)))
    blank = replace(scan, kspace=torch.where(scan.holdout, 0, scan.kspace))
    with pytest.raises(NorefError, match="nothing can be chosen by it"):
        choose(CGSense(), blank)


def test_names_are_those_of_the_registry():
    assert list(CLASSICAL) == ["zero-filled", *REGULARISED, "grappa", "raki"]
    assert list(ANY_SAMPLING) == ["zero-filled", *REGULARISED]
    for name, method in CLASSICAL.items():
        assert method.name == name
        assert list(method.strengths) == sorted(method.strengths, reverse=True)
