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


@pytest.mark.parametrize("brightness", [(1.0,), (0.1, 1.0, 0.1), (1.0, 1.0)])
def test_the_ceiling_is_the_score_of_the_truth(brightness: tuple[float, ...]) -> None:
    scan = noisy()
    assert scan.clean is not None
    noise = scan.kspace - scan.clean
    kspaces = [scan.clean * bright + noise.roll(5 * i, -1) for i, bright in enumerate(brightness)]
    truth = torch.cat([ifft2c(scan.clean * bright) for bright in brightness])
    references = [ifft2c(kspace) for kspace in kspaces]
    volume = [
        replace(scan, kspace=kspace, clean=None, reference=reference, scale=2 - 1j)
        for kspace, reference in zip(kspaces, references, strict=True)
    ]
    reached = float(metrics.psnr(torch.cat(references).abs(), truth.abs()))
    assert ceiling_psnr(volume) == pytest.approx(reached, abs=0.5)


def test_no_ceiling_without_noise_in_the_reference() -> None:
    scan = noisy()
    assert ceiling_psnr([replace(scan, reference=ifft2c(scan.kspace))]) is None
    assert ceiling_psnr([replace(scan, clean=None)]) is None


def test_no_ceiling_where_a_filter_emptied_the_border() -> None:
    scan = replace(noisy(), clean=None)
    y, x = torch.arange(96)[:, None] - 48, torch.arange(96) - 48
    filtered = scan.kspace * torch.sigmoid((20 - (y**2 + x**2).sqrt()) / 1.5)
    for kspace, told in ((scan.kspace, True), (filtered, False)):
        ceiling = ceiling_psnr([replace(scan, kspace=kspace, reference=ifft2c(kspace))])
        assert (ceiling is not None) == told
