"""Two measurements of one slice: noise passes, anything more does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import scipy.io
import torch
from judging import adjoint, target, whole
from synthetic import spokes

from noref.acceptance.candidates import by_classical
from noref.acceptance.repeat import alike, halves_power, repeat
from noref.data.prepare import Preparation, prepare
from noref.errors import NorefError
from noref.physics import fft2c, ifft2c
from noref.scan import Scan

NOISE = 0.2


def again(one: Scan, noise: float = NOISE, seed: int = 5) -> Scan:
    """The same object, measured once more: other noise, on top of nothing."""
    clean = target(0, shape=(one.shape[0], one.shape[1]), noise=0.0, coils=one.coils)
    draws = torch.Generator().manual_seed(seed)
    kspace = clean.kspace + noise * torch.randn(one.kspace.shape, dtype=torch.complex64, generator=draws)
    return replace(one, id="again/scan/0", kspace=torch.where(one.mask, kspace, 0))


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("method", ["zero-filled", "cg-sense", "wavelet"])
def test_noise_alone_is_within_noise(coils: int, method: str) -> None:
    one = target(noise=NOISE, coils=coils)
    applied = by_classical(method)(one)
    found = repeat(applied, one, alike(one, again(one)), 0)
    # Wavelets remove part of one noise, and less of two that add up.
    assert found.ratio == pytest.approx(1 if method != "wavelet" else 0.8, abs=0.25)


def test_noise_is_found_from_the_difference() -> None:
    one = target(noise=NOISE, told=False)
    power = halves_power(one, alike(one, again(one)))
    assert power is not None
    assert float(power.mean()) == pytest.approx(NOISE**2, rel=0.1)


def test_a_gain_between_the_measurements_does_not_count() -> None:
    one = target(noise=NOISE)
    other = again(one)
    plain = repeat(adjoint, one, alike(one, other), 0)
    turned = repeat(adjoint, one, alike(one, replace(other, kspace=other.kspace * (0.6 + 0.9j))), 0)
    assert turned.difference == pytest.approx(plain.difference, rel=1e-3)
    assert turned.ratio == pytest.approx(plain.ratio, rel=0.1)


def test_motion_is_more_than_noise() -> None:
    one = target(noise=0.05)
    other = again(one, 0.05)
    coils = ifft2c(other.kspace).roll(2, -1)
    moved = replace(other, kspace=torch.where(one.mask, fft2c(coils), 0))
    found = repeat(adjoint, one, alike(one, moved), 0)
    assert found.ratio is not None
    assert found.ratio > 2


def test_a_reconstruction_that_draws_at_random_is_found_out() -> None:
    one = target(noise=0.05)
    draws = torch.Generator().manual_seed(0)

    def wild(scan: Scan) -> object:
        made = adjoint(scan)
        phase = torch.exp(2j * torch.pi * torch.rand((), generator=draws))
        flip = made.image.flip(-1) * 0.5 * phase
        return replace(made, image=made.image + (flip if scan.id == "again/scan/0" else 0))

    found = repeat(wild, one, alike(one, again(one, 0.05)), 0)  # type: ignore[arg-type]
    assert found.ratio is not None
    assert found.difference > 0.05


def test_the_other_half_is_predicted_as_well_as_the_image_is() -> None:
    """`Aᴴ` of a full scan: its noise is the error, that of the other half is taken off."""
    one = whole(noise=NOISE)
    draws = torch.Generator().manual_seed(9)
    clean = whole(noise=0.0)
    noise = NOISE * torch.randn(one.kspace.shape, dtype=torch.complex64, generator=draws)
    other = replace(one, id="again/scan/0", kspace=clean.kspace + noise)
    found = repeat(adjoint, one, alike(one, other), 0)
    signal = float(clean.kspace.abs().square().sum())
    # The noise of one coil-combined image: one sample of it for each pixel.
    expected = one.mask.numel() * NOISE**2 / signal
    assert found.predicted == pytest.approx(expected, rel=0.2)


def test_draws_are_those_of_the_seed() -> None:
    one = target(noise=NOISE)
    other = alike(one, again(one))
    assert repeat(adjoint, one, other, 0) == repeat(adjoint, one, other, 0)
    assert repeat(adjoint, one, other, 0).noise != repeat(adjoint, one, other, 1).noise


def test_measurements_that_do_not_belong_together_are_refused() -> None:
    one = target(noise=NOISE)
    for other, complaint in (
        (target(noise=NOISE, coils=2), "2×64×48, and subject0/scan/0 is 4×64×48; give the same slice"),
        (target(noise=NOISE, shape=(48, 48)), "give the same slice measured again"),
        (target(1, noise=NOISE), "must be sampled alike"),
        (one, "holds the same samples as subject0/scan/0; give a second measurement"),
    ):
        with pytest.raises(NorefError, match=complaint):
            alike(one, other)


def test_more_than_the_first_held_may_have_been_measured() -> None:
    one = target(noise=NOISE)
    full = replace(whole(noise=NOISE, coils=4), id="again/scan/0", kspace=whole(noise=0.3).kspace)
    second = alike(one, full)
    assert second.mask.equal(one.mask)
    assert second.measured.all()


def test_other_spokes_are_another_sampling() -> None:
    one, other = spokes(seed=0), spokes(seed=1)
    with pytest.raises(NorefError, match="must be sampled alike"):
        alike(one, other)


@pytest.mark.real_data
def test_two_real_averages_differ_by_their_noise(real_data: Path) -> None:
    """The head at 0.055 T, measured twice."""
    file = "0.055T_FLAIR_RF_cage_installed_2D_kspace.mat"
    values = scipy.io.loadmat(real_data / "brain_lowfield" / "Supplementary_Figure_3A" / file)["ksp"]
    planes = torch.from_numpy(values).to(torch.complex64)[:, :, 1].permute(2, 0, 1)[:, None].contiguous()
    everywhere = torch.ones(planes.shape[-2:], dtype=torch.bool)
    halves = [Scan(f"head/average{i}/000", one, everywhere, everywhere) for i, one in enumerate(planes)]
    how = Preparation(mask="lines", acceleration=2, acs=12)
    one, other = (prepare(half, how) for half in halves)
    again = alike(one, other)
    for method, most in (("zero-filled", 0.15), ("wavelet", 0.12)):
        found = repeat(by_classical(method)(one), one, again, 0)
        assert found.ratio == pytest.approx(1, abs=0.2)
        assert found.predicted is not None
        assert 0.02 < found.predicted < most
