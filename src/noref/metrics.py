"""How far a reconstruction is from a reference: fastMRI's definitions (arXiv 1811.08839, section 5.2).

With `g` the reference and `p` the reconstruction, both magnitude images `(…, slices, y, x)`, a number is
computed for every volume, the last three axes:

    NMSE  Σ (g − p)² / Σ g²
    NMAE  Σ |g − p| / Σ |g|
    PSNR  10 log₁₀( (max g)² / mean (g − p)² )                    in dB
    SSIM  mean over slices and 7×7 windows, constants of the volume's maximum

and, from elsewhere, two norms of the error of edges (Ravishankar & Bresler, IEEE TMI 2011, 30:1028; in the
form of arXiv 2311.15856):

    HFEN₁ Σ |LoG(g − p)| / Σ |LoG g|
    HFEN₂ Σ (LoG(g − p))² / Σ (LoG g)²

Slices on their own are volumes of one slice: `nmse(g[:, None], p[:, None])` for `g` of `(slices, y, x)`.
All are differentiable in both images and computed in float32, or float64 where both are.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

WINDOW = 7
LOG_SIZE, LOG_SIGMA = 15, 2.5
_K1, _K2 = 0.01, 0.03
_VOLUME = (-3, -2, -1)
# Pixels of slices worked on at once: their temporaries stay in a core's cache.
_CHUNK = 2**18


def nmse(reference: Tensor, image: Tensor) -> Tensor:
    """Normalised mean squared error of each volume, `Σ (g − p)² / Σ g²`.

    Args:
        reference: magnitudes `(…, slices, y, x)`.
        image: magnitudes of the same shape.

    Returns:
        `(…)`; not finite where the reference is zero.

    Raises:
        ValueError: shapes differ, fewer than three axes, complex or integer images.
    """
    reference, image = _volumes(reference, image)
    return (reference - image).square().sum(_VOLUME) / reference.square().sum(_VOLUME)


def nmae(reference: Tensor, image: Tensor) -> Tensor:
    """Normalised mean absolute error of each volume, `Σ |g − p| / Σ |g|`; arguments as `nmse`."""
    reference, image = _volumes(reference, image)
    return (reference - image).abs().sum(_VOLUME) / reference.abs().sum(_VOLUME)


def psnr(reference: Tensor, image: Tensor, peak: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each volume in dB, `10 log₁₀(peak² / mean (g − p)²)`.

    Args:
        reference: magnitudes `(…, slices, y, x)`.
        image: magnitudes of the same shape.
        peak: `(…)`, the volumes' maxima if not given; give it for slices of a volume that is not at hand.

    Returns:
        `(…)`; infinite for equal images.

    Raises:
        ValueError: as `nmse`.
    """
    reference, image = _volumes(reference, image)
    peak = reference.amax(_VOLUME) if peak is None else peak.to(reference)
    # Divided before squaring: raw scans have amplitudes of 1e-6, and float32 ends at 1e-38.
    error = (reference - image) / peak[..., None, None, None]
    return -10 * torch.log10(error.square().mean(_VOLUME))


def ssim(reference: Tensor, image: Tensor, peak: Tensor | None = None) -> Tensor:
    """Structural similarity of each volume (Wang et al., IEEE TIP 2004, eq. 13): the mean of `ssim_map`.

    Args:
        reference: magnitudes `(…, slices, y, x)`.
        image: magnitudes of the same shape.
        peak: `(…)`, as in `psnr`.

    Returns:
        `(…)`, at most 1.

    Raises:
        ValueError: as `nmse`, or slices smaller than the 7×7 window.
    """
    reference, image, scale = _windowed(reference, image, peak)
    scale = scale.expand(*reference.shape[:-2], 1, 1)
    slices = max(1, _CHUNK // (reference.shape[-2] * reference.shape[-1]))
    parts = (torch.split(array.flatten(end_dim=-3), slices) for array in (reference, image, scale))
    means = [_structure(*part).mean((-2, -1)) for part in zip(*parts, strict=True)]
    return torch.cat(means).reshape(reference.shape[:-2]).mean(-1)


def ssim_map(reference: Tensor, image: Tensor, peak: Tensor | None = None) -> Tensor:
    """Structural similarity of every 7×7 window, `(…, slices, y − 6, x − 6)`.

        (2 μ_g μ_p + C₁)(2 σ_gp + C₂) / ((μ_g² + μ_p² + C₁)(σ_g² + σ_p² + C₂))

    with uniform windows, unbiased covariances, `C₁ = (0.01 · peak)²` and `C₂ = (0.03 · peak)²`; arguments
    as `ssim`.
    """
    return _structure(*_windowed(reference, image, peak))


def hfen1(reference: Tensor, image: Tensor) -> Tensor:
    """High-frequency error of each volume, `Σ |LoG(g − p)| / Σ |LoG g|`; arguments as `nmse`."""
    reference, image = _volumes(reference, image)
    edges, error = laplacian_of_gaussian(reference), laplacian_of_gaussian(reference - image)
    return error.abs().sum(_VOLUME) / edges.abs().sum(_VOLUME)


def hfen2(reference: Tensor, image: Tensor) -> Tensor:
    """High-frequency error of each volume, `Σ (LoG(g − p))² / Σ (LoG g)²`; arguments as `nmse`.

    The square of what Ravishankar & Bresler call HFEN.
    """
    reference, image = _volumes(reference, image)
    edges, error = laplacian_of_gaussian(reference), laplacian_of_gaussian(reference - image)
    return error.square().sum(_VOLUME) / edges.square().sum(_VOLUME)


def laplacian_of_gaussian(image: Tensor) -> Tensor:
    """Edges: convolution with a 15×15 Laplacian of Gaussian of σ = 2.5 pixels, zeros beyond the border.

        LoG(r) = (r² − 2σ²)/σ⁴ · exp(−r²/2σ²) / Σ exp(−r²/2σ²),    less its mean

    so that the kernel's sum is zero and flat regions vanish.

    Args:
        image: real `(…, y, x)`, float32 or float64.

    Returns:
        The same shape.
    """
    (y, x), kind = image.shape[-2:], (image.dtype, image.device)
    along_rows, along_columns = _log_bands(y, *kind)[0], _log_bands(x, *kind)[1]
    return torch.cat(along_rows.unbind(), 1) @ (image[..., None, :, :] @ along_columns.mT).flatten(-3, -2)


def _log_factors() -> tuple[Tensor, Tensor]:
    """The kernel as a sum of three products of a column and a row, each float64 `(3, 15)`."""
    offset = torch.arange(LOG_SIZE, dtype=torch.float64) - LOG_SIZE // 2
    gaussian = torch.exp(-offset.square() / (2 * LOG_SIGMA**2))
    gaussian /= gaussian.sum()
    curvature = (offset.square() - LOG_SIGMA**2) / LOG_SIGMA**4 * gaussian
    ones = torch.ones_like(offset)
    mean = 2 * curvature.sum() / LOG_SIZE**2
    return torch.stack((curvature, gaussian, -mean * ones)), torch.stack((gaussian, curvature, ones))


# Never forgotten: a CUDA graph may read them.
@cache
@torch.inference_mode(False)
def _log_bands(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The factors as banded matrices that filter an axis, each `(3, size, size)`.

    Up to some 500 pixels their products cost less than a convolution, and its gradient several times more.
    """
    index = torch.arange(size)
    tap = index - index[:, None] + LOG_SIZE // 2
    inside = (tap >= 0) & (tap < LOG_SIZE)
    columns, rows = (
        torch.where(inside, factors[:, tap.clamp(0, LOG_SIZE - 1)], 0).to(device, dtype)
        for factors in _log_factors()
    )
    return columns, rows


def _structure(reference: Tensor, image: Tensor, peak: Tensor) -> Tensor:
    # In sums and differences, s = g + p and d = g − p, each factor is (S − D + 2C)/(S + D + 2C): four window
    # means instead of five, and no cancellation where the images agree.
    reference, image = reference / peak, image / peak
    total, difference = reference + image, reference - image
    mean_s, mean_d = _window_mean(total).square(), _window_mean(difference).square()
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    var_s = unbiased * (_window_mean(total.square()) - mean_s)
    var_d = unbiased * (_window_mean(difference.square()) - mean_d)
    luminance = 1 - 2 * mean_d / (mean_s + mean_d + 2 * _K1**2)
    return luminance * (1 - 2 * var_d / (var_s + var_d + 2 * _K2**2))


def _window_mean(field: Tensor) -> Tensor:
    # Shifted additions: an eighth of the time of avg_pool2d on a CPU, and more exact than a convolution.
    for axis in (-2, -1):
        size = field.shape[axis] - WINDOW + 1
        moved = field.narrow(axis, 0, size) + field.narrow(axis, 1, size)
        for shift in range(2, WINDOW):
            moved += field.narrow(axis, shift, size)
        field = moved
    return field / WINDOW**2


def _windowed(reference: Tensor, image: Tensor, peak: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    reference, image = _volumes(reference, image)
    if min(reference.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs slices of {WINDOW}×{WINDOW} or more, not {tuple(reference.shape[-2:])}")
    peak = reference.amax(_VOLUME) if peak is None else peak.to(reference)
    return reference, image, peak[..., None, None, None]


def _volumes(reference: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    if reference.shape != image.shape or reference.ndim < 3:
        raise ValueError(
            "metrics compare images of one shape (…, slices, y, x), "
            f"not {tuple(reference.shape)} with {tuple(image.shape)}"
        )
    if not (reference.is_floating_point() and image.is_floating_point()):
        raise ValueError(f"metrics compare magnitudes, not {reference.dtype} with {image.dtype}: take abs()")
    exact = reference.dtype == image.dtype == torch.float64
    dtype = torch.float64 if exact else torch.float32
    return reference.to(dtype), image.to(dtype)
