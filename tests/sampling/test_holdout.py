from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import image, scan, undersampled

from noref.errors import NorefError
from noref.physics import cartesian, fft2c, ifft2c
from noref.sampling.centre import centre_block
from noref.sampling.density import CAP
from noref.sampling.draw import draw, lines_of, sampled_in_lines
from noref.sampling.holdout import acs_mask, hold_out, holdout_error, share_under_cap
from noref.scan import Scan, coil_maps
from noref.seeding import Key

KINDS = ["lines", "equispaced", "random2d"]


def held(s: Scan) -> torch.Tensor:
    assert s.holdout is not None
    return s.holdout


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(KINDS), share=st.floats(0.05, 0.3), seed=st.integers(0, 99))
def test_gamma_is_an_exact_share_outside_the_acs_in_the_acquisitions_unit(
    kind: str, share: float, seed: int
) -> None:
    what = undersampled(scan((64, 24), 1), kind, 2.0, 6)
    outside = what.mask & ~acs_mask(what.mask)
    gamma = held(hold_out(what, share, seed))
    assert not bool((gamma & ~outside).any())
    if kind == "random2d":
        assert int(gamma.sum()) == max(round(share * int(outside.sum())), 1)
    else:
        assert torch.equal(gamma, lines_of(gamma) & what.mask)
        assert int(lines_of(gamma).sum()) == max(round(share * int(lines_of(outside).sum())), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_gamma_depends_on_the_data_sets_seed_and_the_scan_only(kind: str) -> None:
    what = undersampled(scan((64, 24), 1), kind, 2.0, 6)
    first = held(hold_out(what, 0.2, 0))
    torch.manual_seed(5)
    assert torch.equal(first, held(hold_out(what, 0.2, 0)))
    assert torch.equal(first, held(hold_out(what.scaled(3.0), 0.2, 0)))
    assert not torch.equal(first, held(hold_out(what, 0.2, 1)))
    assert not torch.equal(first, held(hold_out(replace(what, id="another"), 0.2, 0)))


def test_points_are_held_out_of_points_and_lines_of_lines() -> None:
    full = scan((64, 24), 1)
    assert sampled_in_lines(held(hold_out(undersampled(full, "lines"), 0.2, 0)))
    assert not sampled_in_lines(held(hold_out(undersampled(full, "random2d"), 0.2, 0)))


def test_nothing_to_hold_out_is_refused_in_one_line() -> None:
    what = scan((16, 16), 1)
    with pytest.raises(
        NorefError, match="subject0/scan/0: no samples outside the calibration region"
    ) as caught:
        hold_out(what, 0.07, 0)
    assert "\n" not in str(caught.value)


def test_at_least_one_unit_is_held_out() -> None:
    sparse = undersampled(scan((32, 16), 1), "lines", 3, 8)
    assert int(held(hold_out(sparse, 0.01, 0)).sum()) == 16


def test_an_error_without_gamma_is_refused() -> None:
    what = undersampled(scan((32, 16), 1))
    for broken in (what, replace(what, holdout=torch.zeros_like(what.mask))):
        with pytest.raises(NorefError, match="no held-out samples"):
            holdout_error(broken, image((32, 16)))


@pytest.mark.parametrize(("coils", "sets"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_its_formula(kind: str, coils: int, sets: int) -> None:
    what = hold_out(undersampled(scan((32, 16), coils, sets=sets), kind), 0.2, 0)
    estimate = image((32, 16), sets, seed=9)
    kspace = fft2c((coil_maps(what) * estimate[:, None]).sum(0)).numpy()
    gamma, y = held(what).numpy(), what.kspace.numpy()
    plain = sum(abs(y[c] - kspace[c])[gamma] ** 2 for c in range(coils)).sum()
    power = sum(abs(y[c])[gamma] ** 2 for c in range(coils)).sum()
    assert holdout_error(what, estimate) == pytest.approx(plain / power, rel=1e-4)
    density = torch.linspace(0.001, 1, 32 * 16).view(32, 16)
    weight = (1 / density).clamp(max=CAP).numpy()[gamma]
    error = sum(weight * abs(y[c] - kspace[c])[gamma] ** 2 for c in range(coils)).sum()
    power = sum(weight * abs(y[c])[gamma] ** 2 for c in range(coils)).sum()
    assert holdout_error(replace(what, density=density), estimate) == pytest.approx(error / power, rel=1e-4)


def test_the_true_image_has_no_error_and_zero_has_all_of_it() -> None:
    what = hold_out(undersampled(scan((32, 16), 3)), 0.2, 0)
    assert holdout_error(what, image((32, 16))) < 1e-9
    assert holdout_error(what, torch.zeros(1, 32, 16, dtype=torch.complex64)) == pytest.approx(1)


def test_only_gamma_is_read() -> None:
    what = hold_out(undersampled(scan((32, 16), 3)), 0.2, 0)
    estimate = image((32, 16), seed=3)
    broken = replace(what, kspace=torch.where(held(what), what.kspace, torch.nan))
    assert holdout_error(broken, estimate) == holdout_error(what, estimate)


@pytest.mark.parametrize("columns", [1, 24])
def test_weighted_sums_over_gamma_stand_for_all_of_kspace(columns: int) -> None:
    """Horvitz–Thompson: over many masks, `Σ_Γ w |e|²` is the error over all of k-space outside the ACS."""
    shape, number, share = (48, 24), 400, 0.25
    full = scan(shape, 2)
    estimate = ifft2c(fft2c(image(shape)) * centre_block(shape, 16, 12))  # wrong at high frequencies alone
    everything = cartesian(full.mask[None], coil_maps(full)[None]).forward(estimate[None])[0]
    error, power = ((everything - full.kspace).abs().square().sum(0), full.kspace.abs().square().sum(0))
    # Lines or points of variable density, a gap around the ACS, so that it is the same in every mask.
    lines = columns == 1
    acs, outside = (centre_block(shape, n, 24 if lines else n)[:, :columns] for n in (6, 8))
    outside = ~outside
    log_weight = -2 * (torch.arange(48).sub(24).div(24).square()[:, None].expand(48, columns))
    count = 12 if lines else 200
    masks = [
        (acs | draw(outside, count, Key(seed, "s", "mask"), log_weight)).expand(shape)
        for seed in range(number)
    ]
    probability = torch.stack(masks).float().mean(0)
    reached = outside.expand(shape)
    numerators, denominators, plain, held_power = [], [], [], []
    for seed, mask in enumerate(masks):
        scored = replace(hold_out(replace(full, mask=mask), share, seed), density=probability)
        gamma = held(scored)
        denominators.append(float((power / probability / share)[gamma].sum()))
        numerators.append(holdout_error(scored, estimate) * denominators[-1])
        held_power.append(float(power[gamma].sum()))
        plain.append(holdout_error(replace(scored, density=None), estimate) * held_power[-1])
    exact = float(error[reached].sum())
    spread = float(torch.tensor(numerators).std()) / number**0.5
    assert abs(sum(numerators) / number - exact) < 4 * spread
    assert spread < 0.05 * exact
    nmse = exact / float(power[reached].sum())
    assert sum(numerators) / sum(denominators) == pytest.approx(nmse, rel=0.1)
    assert sum(plain) / sum(held_power) < 0.9 * nmse  # without weights, low frequencies count for too much


def test_the_share_of_weight_under_the_cap() -> None:
    what = hold_out(undersampled(scan((32, 16), 1), "random2d"), 0.2, 0)
    assert share_under_cap(what) == 1
    gamma = held(what).nonzero()
    density = torch.full((32, 16), 0.5)
    assert share_under_cap(replace(what, density=density)) == 1
    for position in gamma[:3]:
        density[tuple(position)] = 1e-4
    rest = 2 * (len(gamma) - 3)
    assert share_under_cap(replace(what, density=density)) == pytest.approx(rest / (rest + 3 * CAP))
    assert share_under_cap(replace(what, holdout=None, density=density)) == 1
