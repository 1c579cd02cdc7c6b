"""White after whitening, whatever the noise was; BART whitens the same way."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noref.coils.whitening import noise_covariance, whitened, whitening_matrix
from noref.errors import NorefError
from noref.formats.bart import read_cfl, write_cfl
from noref.physics import cartesian
from noref.scan import Scan, coil_maps

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")


def noise(coils: int, samples: int, seed: int = 0, mixing: Tensor | None = None) -> Tensor:
    """Noise of coils that hear one another, `(coils, samples)`."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(coils, samples, dtype=torch.complex64, generator=generator)
    if mixing is None:
        mixing = torch.randn(coils, coils, dtype=torch.complex64, generator=generator)
    return mixing @ white


def noisy(coils: int = 4, shape: tuple[int, int] = (40, 36), noise_cov: bool = True) -> Scan:
    """A scan with such noise, and perhaps with its covariance from a noise scan."""
    generator = torch.Generator().manual_seed(9)
    mixing = torch.randn(coils, coils, dtype=torch.complex64, generator=generator) / 4
    scan = synthetic.scan(shape, coils)
    added = noise(coils, shape[0] * shape[1], 1, mixing).view(coils, *shape)
    covariance = noise_covariance(noise(coils, 4000, 2, mixing)) if noise_cov else None
    return replace(scan, kspace=scan.kspace + added, clean=scan.kspace, noise_cov=covariance)


@settings(deadline=None, max_examples=25)
@given(coils=st.integers(1, 12), seed=st.integers(0, 1000))
def test_noise_is_white_afterwards(coils: int, seed: int) -> None:
    samples = noise(coils, 300, seed)
    matrix = whitening_matrix(noise_covariance(samples))
    torch.testing.assert_close(noise_covariance(matrix @ samples), torch.eye(coils) + 0j, atol=2e-3, rtol=0)
    assert torch.equal(matrix, matrix.tril())


def test_the_diagonal_is_the_power_of_each_coil() -> None:
    samples = noise(3, 500)
    power = samples.abs().square().mean(1)
    torch.testing.assert_close(noise_covariance(samples).diagonal().real, power)


@needs_bart
def test_bart_whitens_the_same_way(tmp_path: Path) -> None:
    values, measured = noise(5, 60, 1), noise(5, 400, 2)
    covariance = noise_covariance(measured)
    write_cfl(tmp_path / "k", values.mT.reshape(60, 1, 1, 5).numpy())
    write_cfl(tmp_path / "n", measured.mT.reshape(400, 1, 1, 5).numpy())
    subprocess.run(["bart", "whiten", "k", "n", "white", "matrix", "covariance"], cwd=tmp_path, check=True)
    # BART divides by one sample less.
    expected = np.array(read_cfl(tmp_path / "covariance")).reshape(5, 5) * 399 / 400
    np.testing.assert_allclose(covariance, expected, rtol=1e-4, atol=1e-5)
    white = torch.from_numpy(np.array(read_cfl(tmp_path / "white"))).reshape(60, 5).mT * (400 / 399) ** 0.5
    torch.testing.assert_close(whitening_matrix(covariance) @ values, white, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise_cov", [True, False])
def test_a_scan_is_white_afterwards(noise_cov: bool) -> None:
    scan = whitened(noisy(noise_cov=noise_cov))
    assert scan.clean is not None
    found = noise_covariance((scan.kspace - scan.clean).flatten(1))
    # Signal that reaches the border makes the noise look larger.
    atol = 0.12 if noise_cov else 0.35
    torch.testing.assert_close(found, torch.eye(4) + 0j, atol=atol, rtol=0)
    assert scan.noise_cov is not None
    assert torch.equal(scan.noise_cov, torch.eye(4) + 0j)


def test_maps_follow_the_coils() -> None:
    scan = noisy()
    assert scan.maps is not None
    white = whitened(replace(scan, calibration=scan.kspace[:, 10:20, 8:20]))
    assert white.calibration is not None
    assert torch.equal(white.calibration, white.kspace[:, 10:20, 8:20])
    maps = coil_maps(white)
    torch.testing.assert_close(maps.abs().square().sum(1), torch.ones(1, 40, 36))
    # What the old coils made of an image, the new ones make of its multiple.
    assert scan.noise_cov is not None
    weight = torch.linalg.vector_norm(
        torch.einsum("vc,scyx->svyx", whitening_matrix(scan.noise_cov), scan.maps), dim=1
    )
    full = torch.ones(1, 40, 36, dtype=torch.bool)
    image = synthetic.image((40, 36)) * weight
    made = cartesian(full, maps[None]).forward(image[None])[0]
    assert white.clean is not None
    torch.testing.assert_close(made, white.clean, rtol=1e-3, atol=1e-3 * float(made.abs().max()))


def test_held_out_samples_do_not_tell_the_noise() -> None:
    scan = noisy(noise_cov=False, shape=(60, 60))
    holdout = torch.zeros(60, 60, dtype=torch.bool)
    holdout[:3] = holdout[:, -3:] = True
    loud = replace(scan, kspace=torch.where(holdout, 100 * scan.kspace, scan.kspace), holdout=holdout)
    quiet = whitened(replace(scan, holdout=holdout))
    assert torch.equal(whitened(loud).kspace[:, ~holdout], quiet.kspace[:, ~holdout])


def test_bad_noise_is_refused_in_one_line() -> None:
    scan = noisy()
    with pytest.raises(NorefError, match="noise of 3 channels cannot whiten 4 coils"):
        whitened(replace(scan, noise_cov=torch.eye(3) + 0j))
    for dead in (torch.diag(torch.tensor([1, 1, 0, 1 + 0j])), torch.ones(4, 4) + 0j):
        with pytest.raises(NorefError, match="singular, as a channel is dead"):
            whitened(replace(scan, noise_cov=dead))
    centre = torch.zeros_like(scan.mask)
    centre[10:30, 10:26] = True
    with pytest.raises(NorefError, match="without a noise scan, and too little of the border"):
        whitened(replace(scan, noise_cov=None).undersampled(centre))
