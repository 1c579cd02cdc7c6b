"""The measures of `lowfield`, which know no clean image."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
import torch
from torch import Tensor

from noref.data.dataset import Dataset
from noref.data.phantoms import phantom
from noref.evaluation.score import Reconstruction
from noref.experiments import EXPERIMENTS
from noref.experiments.lowfield import (
    DENOISED,
    REPEATED,
    UNACQUIRED,
    air_level,
    further,
    repeated_error,
    unacquired_error,
    whole_denoised,
)
from noref.physics.fourier import fft2c, ifft2c
from noref.scan import Scan
from noref.seeding import Key

SHAPE = (128, 96)
SIGMA = 0.05


def image() -> Tensor:
    """Of a head in air."""
    return phantom("brain", SHAPE, Key(0, "head", "phantom"))


def noise(purpose: str) -> Tensor:
    return SIGMA * torch.randn(SHAPE, dtype=torch.complex64, generator=Key(0, "head", purpose).torch())


def scan(purpose: str = "noise", lines: slice = slice(None, None, 2)) -> Scan:
    """A full scan with noise of its own, every other line of which is Ω."""
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[lines] = True
    everywhere = torch.ones(SHAPE, dtype=torch.bool)
    kspace = fft2c(image()) + noise(purpose)
    return Scan(id="head/head/000", kspace=kspace[None], measured=everywhere, mask=mask)


def test_the_air_tells_the_noise() -> None:
    assert air_level(scan()) == pytest.approx(SIGMA, rel=0.05)


def test_the_truth_has_no_error_and_nothing_has_all() -> None:
    assert unacquired_error(scan(), image()[None]) == pytest.approx(0, abs=0.02)
    assert unacquired_error(scan(), 0 * image()[None]) == pytest.approx(1, abs=1e-4)


def test_only_samples_that_were_not_acquired_count() -> None:
    wrong = fft2c(image())
    wrong[::2] += 3
    assert unacquired_error(scan(), ifft2c(wrong)[None]) == pytest.approx(0, abs=0.02)
    wrong[1::2] += 3
    assert unacquired_error(scan(), ifft2c(wrong)[None]) > 1


@pytest.mark.parametrize("gain", [1, 2.5 - 1j])
def test_another_average_is_met_up_to_a_gain(gain: complex) -> None:
    again = scan("other noise")
    assert repeated_error(gain * image()[None], again) == pytest.approx(0, abs=0.01)
    noisy = ifft2c(fft2c(image()) + noise("noise"))
    signal = float(image().abs().square().sum())
    power = SIGMA**2 * image().numel()
    # The noise of the first average is left, as far as one gain cannot shrink it.
    assert repeated_error(gain * noisy[None], again) == pytest.approx(power / (signal + power), rel=0.1)


def test_denoising_all_of_it_helps() -> None:
    made = whole_denoised(scan()).image[0]
    before = float((ifft2c(scan().kspace)[0] - image()).abs().square().sum())
    assert float((made - image()).abs().square().sum()) < 0.6 * before
    # Ω is nothing to it.
    other = whole_denoised(replace(scan(), mask=scan().measured)).image[0]
    assert torch.equal(made, other)


class Repeated(Dataset):
    """Two averages of a slice, one after the other."""

    def __init__(self) -> None:
        self.averages = [scan(), scan("other noise")]

    def __len__(self) -> int:
        return len(self.averages)

    def scan(self, index: int) -> Scan:
        return self.averages[index]


def test_rows_are_measured_on_both_averages_and_on_what_they_have_not_seen() -> None:
    scans = Repeated()

    def acquired(of: Scan) -> Reconstruction:
        return Reconstruction(ifft2c(of.kspace * of.mask), None, 0.0)

    errors = further("zero-filled", acquired, scans, scans)
    both = [repeated_error(acquired(scans.scan(one)).image, scans.scan(1 - one)) for one in (0, 1)]
    assert errors == {REPEATED: pytest.approx(fmean(both)), UNACQUIRED: pytest.approx(1, abs=0.02)}
    # Denoising the full scan has seen all of it.
    assert set(further(DENOISED, whole_denoised, scans, scans)) == {REPEATED}
    assert set(EXPERIMENTS["lowfield"].measures) == {REPEATED, UNACQUIRED}
