"""The ceiling is what a noiseless reconstruction really scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from noref import metrics
from noref.data.noise import ceiling_psnr, noise_level
from noref.data.phantoms import phantom
from noref.data.simulate import acquire
from noref.physics import fft2c, ifft2c
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


def test_the_ceiling_of_an_interpolated_image_knows_what_its_filter_left() -> None:
    scan = noisy()
    assert scan.clean is not None
    y, x = torch.arange(96)[:, None] - 48, torch.arange(96) - 48
    taper = torch.sigmoid((20 - (y**2 + x**2).sqrt()) / 1.5)
    kspace, truth = scan.kspace * taper, ifft2c(scan.clean * taper)
    reached = float(metrics.psnr(ifft2c(kspace).abs(), truth.abs()))
    filtered = replace(scan, kspace=kspace, clean=None, reference=ifft2c(kspace))
    assert (noise_level(filtered)[0] or 0) < 0.01 * (noise_level(scan)[0] or 0)
    assert ceiling_psnr([filtered]) == pytest.approx(reached, abs=1)


def test_no_ceiling_where_the_border_was_emptied_and_no_air_is_there() -> None:
    scan = replace(noisy(), clean=None)
    full = scan.kspace.clone()
    # The object in one corner: that is no air.
    image = ifft2c(full)
    full = fft2c(image.roll((48, 48), (-2, -1)))
    full[..., :12, :] = full[..., -12:, :] = 0
    full[..., :12] = full[..., -12:] = 0
    assert ceiling_psnr([replace(scan, kspace=full, reference=ifft2c(full))]) is None
