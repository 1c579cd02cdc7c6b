"""The ceiling is what a noiseless reconstruction really scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from noref import metrics
from noref.data.noise import ceiling_psnr
from noref.data.phantoms import phantom
from noref.data.simulate import acquire
from noref.physics import ifft2c
from noref.scan import Scan
from noref.seeding import Key


def noisy() -> Scan:
    # Smoothed, so that the corners of k-space hold noise alone, as in a scan of higher resolution.
    image = phantom("brain", (96, 96), Key(0, "a", "phantom"))
    spectrum = torch.fft.fft2(image)
    y, x = torch.fft.fftfreq(96)[:, None], torch.fft.fftfreq(96)
    image = torch.fft.ifft2(spectrum * torch.exp(-60 * (y**2 + x**2)))
    one = torch.ones(1, 96, 96, dtype=torch.complex64)
    return acquire(image, one, id="a/b/000", matrix=(96, 96), noise_db=25, key=Key(0, "a", "noise"))


def test_the_ceiling_is_the_score_of_the_truth() -> None:
    scan = noisy()
    assert scan.clean is not None
    reference, truth = ifft2c(scan.kspace), ifft2c(scan.clean)
    body = truth.abs() > 0.2 * truth.abs().max()
    error = (reference.abs() - truth.abs())[body].square().mean().sqrt()
    expected = 20 * torch.log10(reference.abs().max() / error)
    ceiling = ceiling_psnr(replace(scan, clean=None, reference=reference))
    assert ceiling == pytest.approx(float(expected), abs=0.5)
    assert float(metrics.psnr(reference.abs(), truth.abs())) == pytest.approx(ceiling, abs=1.5)


def test_no_ceiling_without_noise_in_the_reference() -> None:
    scan = noisy()
    assert ceiling_psnr(replace(scan, reference=ifft2c(scan.kspace))) is None
    assert ceiling_psnr(replace(scan, clean=None)) is None
