"""ESPIRiT: coil maps as the eigenvectors, pixel by pixel, of what the calibration region allows."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

ROUGH = 0.9
"""Neighbouring eigenvectors whose overlap is below this are not interpolated between."""

CHUNK = 8192
"""Pixels computed at a time outside the coarse grid: bounds the memory."""


def espirit(
    calibration: Tensor,
    shape: tuple[int, int],
    *,
    sets: int = 1,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.8,
    phase: Literal["principal", "first"] = "principal",
    grid: int = 4,
) -> Tensor:
    """Coil maps from fully sampled calibration k-space: complex64 `(sets, coils, y, x)`.

    All `kernel × kernel` blocks of k-space, across the coils, lie in a small subspace: that of the right
    singular vectors `v_r` of the matrix of calibration blocks. Seen from the image, the projection onto it is
    a `coils × coils` matrix per pixel,

        G(x) = Σ_r v̂_r(x) v̂_r(x)ᴴ / kernel²,    G(x) S(x) = λ(x) S(x),

    whose eigenvectors with `λ = 1` are the sensitivities. They have unit norm, `Σ_c |S_c|² = 1`, where
    `λ > crop`, and are zero elsewhere; no weight lies between. One coil gives ones where there is signal.

    `G` is a trigonometric polynomial of degree `kernel − 1`, so its eigenvectors vary slowly. They are
    computed at every `grid`-th pixel and interpolated, except where neighbours differ too much (eigenvalues
    cross there): those pixels are computed one by one.

    An eigenvector has no phase of its own. `principal` makes `Σ_c p_c* S_c` real and positive, `p` being the
    first principal component of the calibration data, its last coil real and positive, as BART's `ecalib`
    does; `first` makes the first coil real and positive, as SigPy's `EspiritCalib` does.

    Args:
        calibration: complex `(coils, ky, kx)`.
        shape: `(y, x)` of the maps: the whole grid of the scan.
        sets: how many eigenvectors, by falling eigenvalue.
        kernel: side of the blocks, k-space samples.
        threshold: smallest singular value of a kernel kept, relative to the largest (the square root of
            BART's `-t`).
        crop: eigenvalue up to which maps are zero.
        phase: the phase convention.
        grid: pixels between computed eigenvectors; 1 interpolates nothing.

    Raises:
        ValueError: if the calibration region is smaller than the kernel, or has fewer coils than sets.

    Source: Uecker et al., ESPIRiT – an eigenvalue approach to autocalibrating parallel MRI, MRM 71 (2014).
    """
    coils, *region = calibration.shape
    if min(region) < kernel:
        raise ValueError(f"a calibration region of {region} has no room for {kernel} × {kernel} kernels")
    if sets > coils:
        raise ValueError(f"{coils} coils cannot give {sets} sets of maps")
    correlation = _correlation(_kernels(calibration, kernel, threshold))
    maps, values = _eigenmaps(correlation, shape, sets, crop, grid)
    reference = _principal_component(calibration) if phase == "principal" else torch.eye(coils)[0].to(maps)
    combined = torch.einsum("c,scyx->syx", reference.conj(), maps)
    return maps * (torch.sgn(combined).conj() * (values > crop))[:, None]


def _kernels(calibration: Tensor, kernel: int, threshold: float) -> Tensor:
    """Right singular vectors of the matrix of blocks above the threshold, `(kernels, coils, ky, kx)`."""
    blocks = calibration.unfold(1, kernel, 1).unfold(2, kernel, 1)
    matrix = blocks.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    # The smaller of the two Gram matrices has the same singular values, squared.
    if matrix.shape[0] < matrix.shape[1]:
        power, left = torch.linalg.eigh(matrix @ matrix.mH)
        kept = power > threshold**2 * power[-1]
        vectors = (left[:, kept].mH @ matrix) / power[kept, None].sqrt()
    else:
        power, right = torch.linalg.eigh(matrix.mH @ matrix)
        vectors = right[:, power > threshold**2 * power[-1]].mH
    return vectors.reshape(-1, calibration.shape[0], kernel, kernel)


def _correlation(kernels: Tensor) -> Tensor:
    """Coefficients of `G`, `(coils, coils, 2·kernel − 1, 2·kernel − 1)`, lag zero in the centre.

    They are the kernels' correlations, summed over the kernels; by FFT, zero-padded so that none wrap.
    """
    width = kernels.shape[-1]
    lags = (2 * width - 1, 2 * width - 1)
    images = torch.fft.ifft2(kernels, s=lags, norm="forward").flatten(2).permute(2, 1, 0)
    gram = (images @ images.mH).permute(1, 2, 0).unflatten(-1, lags) / width**2
    return torch.fft.fftshift(torch.fft.fft2(gram, norm="forward"), dim=(-2, -1))


def _eigenmaps(
    correlation: Tensor, shape: tuple[int, int], sets: int, crop: float, grid: int
) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors `(sets, coils, y, x)`, of any phase, and eigenvalues `(sets, y, x)` of `G`."""
    # One node before the first pixel and enough after the last, so that every cell has 4 × 4 nodes around it;
    # G is periodic, so nodes may lie outside the image.
    lags = correlation.shape[-1]
    cells = [math.ceil(size / grid) for size in shape]
    nodes = [torch.arange(-1, count + 2, device=correlation.device) * grid for count in cells]
    rows, columns = (_waves(node, size, lags) for node, size in zip(nodes, shape, strict=True))
    gram = rows @ correlation @ columns.mT
    maps, values = _leading(gram.permute(2, 3, 0, 1), sets)

    windows = _windows(maps, cells)
    overlap = torch.einsum("scyx,scijyx->sijyx", windows[:, :, 1, 1].conj(), windows)
    fine = _refine(windows * torch.sgn(overlap).conj()[:, None], grid)[..., : shape[0], : shape[1]]
    length = torch.view_as_real(fine).square().sum((1, -1)).sqrt()
    fine = fine / length.clamp_min(torch.finfo(length.dtype).tiny)[:, None]
    window_values = _windows(values, cells)
    fine_values = _refine(window_values, grid)[..., : shape[0], : shape[1]]

    rough = (overlap.abs().amin((1, 2)) < ROUGH) & (window_values.amax((1, 2)) > crop)
    rough = rough.any(0).repeat_interleave(grid, 0).repeat_interleave(grid, 1)[: shape[0], : shape[1]]
    pixels = rough.nonzero()
    for start in range(0, len(pixels), CHUNK):
        y, x = pixels[start : start + CHUNK].unbind(1)
        rows, columns = _waves(y, shape[0], lags), _waves(x, shape[1], lags)
        gram = torch.einsum("pi,cdij,pj->pcd", rows, correlation, columns)
        fine[:, :, y, x], fine_values[:, y, x] = _leading(gram, sets)
    return fine, fine_values


def _windows(nodes: Tensor, cells: list[int]) -> Tensor:
    """The 4 × 4 nodes around each cell: `(…, y, x)` to `(…, 4, 4, cells, cells)`."""
    return nodes.unfold(-2, cells[0], 1).unfold(-2, cells[1], 1)


def _refine(windows: Tensor, grid: int) -> Tensor:
    """Cubic interpolation from the 4 × 4 nodes around each cell: `(…, 4, 4, cells, cells)` to `(…, y, x)`."""
    offset = torch.arange(grid, device=windows.device)[:, None] / grid
    weights = torch.cat(
        (
            -offset * (offset - 1) * (offset - 2) / 6,
            (offset + 1) * (offset - 1) * (offset - 2) / 2,
            -(offset + 1) * offset * (offset - 2) / 2,
            (offset + 1) * offset * (offset - 1) / 6,
        ),
        dim=1,
    )
    if windows.is_complex():
        parts = torch.einsum("ai,bj,...ijyxr->...yaxbr", weights, weights, torch.view_as_real(windows))
        return torch.view_as_complex(parts.contiguous()).flatten(-4, -3).flatten(-2, -1)
    return torch.einsum("ai,bj,...ijyx->...yaxb", weights, weights, windows).flatten(-4, -3).flatten(-2, -1)


def _waves(positions: Tensor, size: int, lags: int) -> Tensor:
    """`exp(2πi lag (position − size // 2) / size)`, `(positions, lags)`."""
    lag = torch.arange(lags, device=positions.device) - lags // 2
    turns = (positions[:, None] - size // 2) * lag / size
    return torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)


def _leading(gram: Tensor, sets: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors `(sets, coils, …)` and eigenvalues `(sets, …)` of Hermitian `(…, coils, coils)`."""
    values, vectors = torch.linalg.eigh(gram)
    vectors, values = vectors[..., -sets:].flip(-1), values[..., -sets:].flip(-1)
    return vectors.movedim(-1, 0).movedim(-1, 1), values.movedim(-1, 0)


def _principal_component(calibration: Tensor) -> Tensor:
    """The coils' first principal component, `(coils,)`, its last coil real and positive."""
    samples = calibration.flatten(1).to(torch.complex128)
    _, components = torch.linalg.eigh(samples @ samples.mH)
    component: Tensor = components[:, -1] * torch.sgn(components[-1, -1]).conj()
    return component.to(torch.complex64)
