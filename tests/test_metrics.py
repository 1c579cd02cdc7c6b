"""scikit-image with fastMRI's settings is the oracle."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_laplace
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from noref import metrics
from noref.seeding import Key

METRICS = (metrics.nmse, metrics.nmae, metrics.psnr, metrics.ssim, metrics.hfen1, metrics.hfen2)
shapes = st.tuples(st.integers(1, 3), st.integers(7, 33), st.integers(7, 33))
seeds = st.integers(0, 2**20)
dtypes = st.sampled_from([torch.float32, torch.float64])


def volumes(
    seed: int, shape: tuple[int, ...], noise: float = 0.1, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """A smooth positive volume with different maxima per slice, and a noisy copy."""
    rng = Key(seed, "volume", "test").numpy()
    smooth = np.abs(np.cumsum(np.cumsum(rng.standard_normal(shape), -1), -2))
    smooth *= rng.uniform(0.3, 1, size=shape[:-2])[..., None, None] / smooth.max()
    noisy = np.abs(smooth + noise * smooth.max() * rng.standard_normal(shape))
    return torch.from_numpy(smooth).to(dtype), torch.from_numpy(noisy).to(dtype)


def oracle_ssim(reference: Tensor, image: Tensor) -> float:
    g, p = reference.double().numpy(), image.double().numpy()
    # Constants and window are scikit-image's defaults; written out because they are the definition.
    return float(
        np.mean(
            [
                structural_similarity(
                    a, b, data_range=g.max(), win_size=7, K1=0.01, K2=0.03, use_sample_covariance=True
                )
                for a, b in zip(g, p, strict=True)
            ]
        )
    )


@settings(max_examples=60, deadline=None)
@given(shapes, seeds, st.sampled_from([1e-4, 0.02, 0.3]), dtypes)
def test_ssim_is_scikit_images(
    shape: tuple[int, int, int], seed: int, noise: float, dtype: torch.dtype
) -> None:
    reference, image = volumes(seed, shape, noise, dtype)
    assert metrics.ssim(reference, image).item() == pytest.approx(oracle_ssim(reference, image), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(shapes, seeds, dtypes)
def test_psnr_is_scikit_images(shape: tuple[int, int, int], seed: int, dtype: torch.dtype) -> None:
    reference, image = volumes(seed, shape, 0.05, dtype)
    expected = peak_signal_noise_ratio(reference.numpy(), image.numpy(), data_range=reference.max().item())
    assert metrics.psnr(reference, image).item() == pytest.approx(expected, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(shapes, seeds, dtypes)
def test_errors_are_ratios_of_norms(shape: tuple[int, int, int], seed: int, dtype: torch.dtype) -> None:
    reference, image = volumes(seed, shape, 0.05, dtype)
    g, p = reference.double().numpy().ravel(), image.double().numpy().ravel()
    squares = (np.linalg.norm(g - p) / np.linalg.norm(g)) ** 2
    absolute = np.linalg.norm(g - p, 1) / np.linalg.norm(g, 1)
    assert metrics.nmse(reference, image).item() == pytest.approx(squares, rel=1e-6)
    assert metrics.nmae(reference, image).item() == pytest.approx(absolute, rel=1e-6)


def scipys_log() -> NDArray[np.float64]:
    """What an impulse becomes, its Gaussian cut off after 7 samples, shifted to a sum of zero."""
    impulse = np.zeros((15, 15))
    impulse[7, 7] = 1
    kernel = gaussian_laplace(impulse, 2.5, mode="constant", truncate=7 / 2.5)
    return kernel - kernel.mean()


def test_the_laplacian_of_gaussian_is_scipys() -> None:
    impulse = torch.zeros(2, 31, 33, dtype=torch.float64)
    impulse[:, 15, 16] = 1
    response = metrics.laplacian_of_gaussian(impulse)[1]
    kernel = response[8:23, 9:24].numpy()
    np.testing.assert_allclose(kernel, scipys_log(), rtol=1e-9, atol=1e-15)
    assert response.abs().sum().item() == pytest.approx(np.abs(kernel).sum(), rel=1e-12)
    assert abs(kernel.sum()) < 1e-14
    # Nothing is left of a constant but at its border, and of r² the continuous operator's 4 but for the cut.
    assert metrics.laplacian_of_gaussian(torch.ones(1, 40, 40))[0, 7:-7, 7:-7].abs().max() < 1e-6
    r = torch.arange(31, dtype=torch.float64) - 15
    bowl = metrics.laplacian_of_gaussian((r[:, None] ** 2 + r**2)[None])[0, 15, 15]
    assert bowl.item() == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("shape", [(2, 40, 37), (1, 9, 21)])
def test_hfen_is_of_scipys_edges(shape: tuple[int, int, int]) -> None:
    reference, image = volumes(10, shape)
    edges, error = (
        np.stack([convolve(z, scipys_log(), mode="constant") for z in volume.numpy()])
        for volume in (reference, reference - image)
    )
    hfen1, hfen2 = np.abs(error).sum() / np.abs(edges).sum(), (error**2).sum() / (edges**2).sum()
    assert metrics.hfen1(reference, image).item() == pytest.approx(hfen1, rel=1e-9)
    assert metrics.hfen2(reference, image).item() == pytest.approx(hfen2, rel=1e-9)


def test_hfen_compares_edges() -> None:
    reference, _ = volumes(10, (2, 40, 37))
    # A slow shading costs less than a blur, whatever a pixel-wise error says.
    y = torch.linspace(0.9, 1.1, 40, dtype=torch.float64)[:, None]
    blurred = torch.nn.functional.avg_pool2d(reference, 3, 1, 1, count_include_pad=False)
    assert metrics.hfen2(reference, reference * y) < metrics.hfen2(reference, blurred)


def test_a_volume_is_not_the_mean_of_its_slices() -> None:
    reference, image = volumes(3, (4, 24, 31))
    for metric in METRICS:
        per_slice = metric(reference[:, None], image[:, None])
        assert per_slice.shape == (4,)
        assert per_slice.mean().item() != pytest.approx(metric(reference, image).item(), rel=1e-3)
    peak = reference.amax().expand(4)
    per_slice = metrics.ssim(reference[:, None], image[:, None], peak)
    assert per_slice.mean().item() == pytest.approx(metrics.ssim(reference, image).item(), rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_batches_are_volumes_side_by_side(metric: Callable[..., Tensor]) -> None:
    reference, image = volumes(4, (2, 3, 5, 19, 24))
    together = metric(reference, image)
    assert together.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], metric(reference[i, j], image[i, j]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("amplitude", [1e-7, 1e5])
def test_the_scanner_gain_does_not_matter(metric: Callable[..., Tensor], amplitude: float) -> None:
    reference, image = volumes(5, (2, 33, 40), dtype=torch.float32)
    scaled = metric(amplitude * reference, amplitude * image)
    torch.testing.assert_close(scaled, metric(reference, image), rtol=2e-5, atol=1e-6)


def test_large_volumes_are_cut_into_pieces_that_do_not_show() -> None:
    reference, image = volumes(6, (5, 300, 290), dtype=torch.float32)
    assert metrics.ssim(reference, image).item() == pytest.approx(oracle_ssim(reference, image), abs=1e-6)
    windows = metrics.ssim_map(reference, image)
    assert windows.shape == (5, 294, 284)
    assert windows.double().mean().item() == pytest.approx(metrics.ssim(reference, image).item(), abs=1e-6)


def test_equal_images() -> None:
    reference, _ = volumes(7, (2, 20, 20))
    assert metrics.nmse(reference, reference).item() == 0
    assert metrics.nmae(reference, reference).item() == 0
    assert metrics.psnr(reference, reference).item() == float("inf")
    assert metrics.ssim(reference, reference).item() == 1


@pytest.mark.parametrize("metric", METRICS)
def test_gradients(metric: Callable[..., Tensor]) -> None:
    reference, image = volumes(8, (2, 2, 9, 11))
    assert torch.autograd.gradcheck(lambda p: metric(reference, p), image.requires_grad_())


def test_edges_first_found_without_gradients_can_be_differentiated_later() -> None:
    image = torch.rand(1, 18, 22)
    with torch.inference_mode():
        metrics.laplacian_of_gaussian(image)
    metrics.laplacian_of_gaussian(image.requires_grad_()).abs().sum().backward()
    assert image.grad is not None


def test_half_precision_is_computed_in_single() -> None:
    reference, image = volumes(9, (1, 32, 32), 0.05)
    half = metrics.ssim(reference.half(), image.half())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(metrics.ssim(reference, image).item(), abs=2e-3)


@pytest.mark.parametrize(
    ("reference", "image", "message"),
    [
        (torch.ones(2, 8, 8), torch.ones(1, 8, 8), "one shape"),
        (torch.ones(8, 8), torch.ones(8, 8), "one shape"),
        (torch.ones(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.complex64), "take abs"),
        (torch.ones(1, 8, 6), torch.ones(1, 8, 6), "7×7"),
    ],
)
def test_what_is_refused(reference: Tensor, image: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.ssim(reference, image)


def test_ssim_costs_less_than_scikit_images() -> None:
    reference, image = volumes(10, (20, 256, 256), dtype=torch.float32)

    def cost(run: Callable[[], object]) -> float:
        costs = []
        for _ in range(5):
            start = time.process_time()
            run()
            costs.append(time.process_time() - start)
        return min(costs)

    g, p, peak = reference.numpy(), image.numpy(), reference.max().item()
    theirs = cost(lambda: [structural_similarity(a, b, data_range=peak) for a, b in zip(g, p, strict=True)])
    assert cost(lambda: metrics.ssim(reference, image)) < theirs
