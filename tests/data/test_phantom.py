import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from noref.data.phantoms import ANATOMIES, phantom
from noref.physics import crop_centre, fft2c, ifft2c
from noref.seeding import Key

BODIES = ["brain", "knee", "cardiac", "prostate"]


def subject(anatomy: str, seed: int, size: int = 64, z: float = 0.0) -> Tensor:
    return phantom(anatomy, (size, size), Key(seed, f"{anatomy}-0001", "phantom"), z)


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_every_key_is_another_subject_and_always_the_same_one(anatomy: str) -> None:
    seeds = range(20)
    digests = {hashlib.sha256(subject(anatomy, seed, 24).numpy().tobytes()).digest() for seed in seeds}
    assert len(digests) == len(seeds)
    torch.testing.assert_close(subject(anatomy, 5), subject(anatomy, 5), rtol=0, atol=0)


def test_subjects_differ_in_more_than_contrast() -> None:
    # Outlines inside the head are another subject's, whatever its contrast: gradients hardly correlate.
    edges = []
    for seed in range(8):
        image = subject("brain", seed, 128).abs()[32:96, 32:96]
        edges.append((image.diff(dim=0)[:, 1:] ** 2 + image.diff(dim=1)[1:] ** 2).sqrt().flatten())
    correlation = torch.corrcoef(torch.stack(edges))
    assert float(correlation.triu(1).max()) < 0.4


@pytest.mark.parametrize("anatomy", ANATOMIES)
@pytest.mark.parametrize("shape", [(64, 64), (63, 65), (48, 80)])
def test_magnitude_lies_between_0_and_1_inside_the_field_of_view(
    anatomy: str, shape: tuple[int, int]
) -> None:
    image = phantom(anatomy, shape, Key(1, "a", "phantom"))
    assert image.shape == shape
    assert image.dtype == torch.complex64
    magnitude = image.abs()
    assert 0.6 < float(magnitude.max()) <= 1 + 1e-6
    assert float((magnitude > 0.05).float().mean()) > 0.25
    rows = torch.cat((magnitude[0], magnitude[-1]))
    assert float(rows.max()) < 0.05


@pytest.mark.parametrize("anatomy", ANATOMIES)
@pytest.mark.parametrize("seed", range(4))
def test_phase_is_smooth_and_spans_at_least_a_quarter_turn(anatomy: str, seed: int) -> None:
    size = 128
    image = subject(anatomy, seed, size)
    inside = image.abs() > 0.05
    right = inside[:, 1:] & inside[:, :-1]
    steps = (image[:, 1:] * image[:, :-1].conj()).angle()[right]
    assert float(steps.abs().max()) < 0.4
    v, u = torch.meshgrid(*(torch.linspace(-1, 1, size),) * 2, indexing="ij")
    middle = image[(u**2 + v**2 < 0.4**2) & inside]
    # Turned by its mean, the phase of the middle stays clear of the cut at ±π.
    angles = (middle * (middle / middle.abs()).mean().conj()).angle()
    assert float(angles.max() - angles.min()) > np.pi / 2


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_a_finer_grid_shows_the_same_subject(anatomy: str) -> None:
    # Pixel i of the coarse grid is centred on pixel 2i of the fine one; edges are as wide on both.
    coarse, fine = subject(anatomy, 3, 192), subject(anatomy, 3, 384)[::2, ::2]
    assert float(torch.linalg.vector_norm(coarse - fine) / torch.linalg.vector_norm(fine)) < 0.03


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_slices_change_smoothly_with_height(anatomy: str) -> None:
    def distance(a: Tensor, b: Tensor) -> float:
        return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))

    heights = np.linspace(-0.4, 0.4, 5)
    slices = [subject(anatomy, 2, 96, z) for z in heights]
    nearby = [subject(anatomy, 2, 96, z + 1e-3) for z in heights]
    assert max(distance(a, b) for a, b in zip(nearby, slices, strict=True)) < 0.06
    assert min(distance(a, b) for a, b in zip(slices[1:], slices[:-1], strict=True)) > 0.1


def test_anatomies_differ_in_structure() -> None:
    # Local variation at three scales in 6×6 regions of the image tells the anatomies apart.
    def features(image: Tensor) -> np.ndarray:
        magnitude = image.abs().numpy()
        magnitude = magnitude / magnitude.mean()
        kept = []
        for sigma in (1.0, 2.0, 4.0):
            band = gaussian_filter(magnitude, sigma / 2) - gaussian_filter(magnitude, sigma)
            kept.append(np.abs(band).reshape(6, 16, 6, 16).mean((1, 3)).ravel())
        return np.concatenate(kept)

    known = {a: np.mean([features(subject(a, seed, 96)) for seed in range(8)], 0) for a in ANATOMIES}
    trials = [(a, features(subject(a, seed, 96))) for a in ANATOMIES for seed in range(20, 26)]
    right = sum(min(known, key=lambda b: np.linalg.norm(known[b] - seen)) == a for a, seen in trials)
    assert right >= 0.9 * len(trials)


def outside(image: np.ndarray) -> float:
    """Share of the energy outside the largest tenth of the Daubechies-4 coefficients."""
    pywt = pytest.importorskip("pywt")
    levels = pywt.wavedec2(image, "db4", "periodization", level=4)
    energy = np.sort(np.abs(pywt.coeffs_to_array(levels)[0].ravel()) ** 2)[::-1]
    return float(energy[energy.size // 10 :].sum() / energy.sum())


def cropped(image: Tensor) -> np.ndarray:
    """The image at 128×128, from the middle of its k-space."""
    return np.asarray(ifft2c(crop_centre(fft2c(image), (128, 128))))


@pytest.mark.parametrize("anatomy", BODIES)
def test_bodies_are_no_mosaics_that_wavelets_would_find_easy(anatomy: str) -> None:
    # Real head slices of 128×128 have 0.018 to 0.042, discs of constant value 0.004.
    shares = [outside(cropped(subject(anatomy, seed, 256))) for seed in range(5)]
    assert np.mean(shares) > 0.017


@pytest.mark.real_data
def test_bodies_are_about_as_hard_for_wavelets_as_real_heads(real_data: Path) -> None:
    slices = np.load(real_data / "brain_siat" / "siat_scan1_lsq1-30.npy", mmap_mode="r")
    real = [outside(cropped(torch.from_numpy(slices[i, 7:263].copy()))) for i in range(0, 30, 3)]
    made = [outside(cropped(subject(a, seed, 256))) for a in BODIES for seed in range(4)]
    assert np.mean(made) > 0.7 * np.mean(real)
