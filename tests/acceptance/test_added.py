"""What was added: nothing by what shows acquired samples alone, and where the rest lies."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from judging import adjoint, target, truth, whole

from noref.acceptance.added import acquired_only, added
from noref.acceptance.candidates import Made
from noref.physics import fft2c, ifft2c
from noref.scan import coil_maps


def test_nothing_is_added_to_itself() -> None:
    one = target()
    made = adjoint(one)
    found = added(one, made, made)
    assert found.energy == 0
    assert found.unacquired == 0


def test_invented_samples_lie_where_nothing_was_acquired() -> None:
    one = target(coils=1, noise=0.1)
    plain = adjoint(one)
    invented = torch.randn(one.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    image = plain.image + ifft2c(torch.where(one.mask, 0, invented))
    found = added(one, replace(plain, image=image), plain)
    assert found.unacquired == pytest.approx(1, abs=1e-5)
    assert found.energy == pytest.approx(
        float(invented[~one.mask].abs().square().sum() / one.kspace.abs().square().sum()), rel=1e-4
    )
    # The acquired samples are as they were.
    assert found.residual == pytest.approx(0, abs=1e-6)


def test_changed_samples_show_as_misfit() -> None:
    one = target(coils=1, noise=0.1)
    plain = adjoint(one)
    image = ifft2c(1.5 * torch.where(one.mask, fft2c(plain.image), 0))
    found = added(one, replace(plain, image=image), plain)
    assert found.unacquired == pytest.approx(0, abs=1e-5)
    energy = float(one.kspace[:, one.mask].abs().square().sum())
    assert found.residual == pytest.approx(0.25 * energy / (int(one.mask.sum()) * 0.1**2), rel=1e-4)


def test_the_truth_fits_as_well_as_noise_allows() -> None:
    for coils in (1, 4):
        one = whole(coils=coils, noise=0.2)
        perfect = Made(truth(), coil_maps(one))
        found = added(one, perfect, adjoint(one))
        assert found.residual == pytest.approx(1, rel=0.05)


def test_padding_is_no_place_for_inventions() -> None:
    one = target(coils=1)
    padding = torch.zeros_like(one.mask)
    padding[:, :6] = True
    padded = replace(
        one,
        padding=padding,
        mask=one.mask & ~padding,
        measured=one.measured & ~padding,
        kspace=torch.where(padding, 0, one.kspace),
    )
    plain = adjoint(padded)
    image = plain.image + ifft2c(torch.where(padding, 1.0 + 0j, 0))
    assert added(padded, replace(plain, image=image), plain).unacquired == pytest.approx(0, abs=1e-5)


def test_one_coil_is_shown_zero_filled_and_several_by_cg_sense() -> None:
    assert acquired_only(1)[0] == "zero-filled"
    assert acquired_only(8)[0] == "cg-sense"
