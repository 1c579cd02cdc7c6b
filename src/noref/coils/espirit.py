"""ESPIRiT: coil maps as the eigenvectors, pixel by pixel, of what the calibration region allows."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from noref.seeding import Key

ROUGH = 0.9
"""Neighbouring eigenvectors whose overlap is below this are not interpolated between."""

SQUARINGS = 8
"""Of `G`, to find its largest eigenvalue: the second is damped by `(λ₂ / λ₁)^256`."""

RESIDUAL = 1e-5
"""Of eigenvectors found so, above which `G` is decomposed instead; its eigenvalues are at most 1."""

CHUNK = 8192
"""Pixels computed at a time outside the coarse grid: bounds the memory."""


def espirit(
    calibration: Tensor,
    shape: tuple[int, int],
    *,
    sets: int = 1,
    kernel: int = 6,
    threshold: float = 0.02,
    floor: float = 0.0,
    crop: float = 0.8,
    phase: Literal["principal", "first"] = "principal",
    nodes: int = 64,
) -> Tensor:
    """Coil maps from fully sampled calibration k-space: complex64 `(sets, coils, y, x)`.

    All `kernel × kernel` blocks of k-space, across the coils, lie in a small subspace: that of the right
    singular vectors `v_r` of the matrix of calibration blocks. Seen from the image, the projection onto it is
    a `coils × coils` matrix per pixel,

        G(x) = Σ_r v̂_r(x) v̂_r(x)ᴴ / kernel²,    G(x) S(x) = λ(x) S(x),

    whose eigenvectors with `λ = 1` are the sensitivities. They have unit norm, `Σ_c |S_c|² = 1`, where
    `λ > crop`, and are zero elsewhere; no weight lies between. One coil gives ones where there is signal.

    `G` is a trigonometric polynomial of degree `kernel − 1`, so its eigenvectors vary slowly. They are
    computed on a coarse grid and interpolated, except where neighbours differ too much (eigenvalues cross
    there): those pixels are computed one by one.

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
        floor: smallest singular value of a kernel kept, as it is; see `noise_floor`.
        crop: eigenvalue up to which maps are zero.
        phase: the phase convention.
        nodes: size of the coarse grid along each axis; with that of the image nothing is interpolated.

    Raises:
        ValueError: if the calibration region is smaller than the kernel, or has fewer coils than sets.

    Source: Uecker et al., ESPIRiT – an eigenvalue approach to autocalibrating parallel MRI, MRM 71 (2014).
    """
    coils, *region = calibration.shape
    if min(region) < kernel:
        raise ValueError(f"a calibration region of {region} has no room for {kernel} × {kernel} kernels")
    if sets > coils:
        raise ValueError(f"{coils} coils cannot give {sets} sets of maps")
    calibration = calibration.to(torch.complex64)
    kernels = _kernels(calibration, kernel, threshold, floor)
    if len(kernels) == 0:
        return torch.zeros(sets, coils, *shape, dtype=torch.complex64, device=calibration.device)
    maps, values = _eigenmaps(_correlation(kernels), shape, sets, crop, nodes)
    reference = _principal_component(calibration) if phase == "principal" else torch.eye(coils)[0].to(maps)
    combined = torch.einsum("c,scyx->syx", reference.conj(), maps)
    # A coil without signal has no phase: it must not take the maps of the others with it, as sgn(0) would.
    return maps * torch.polar((values > crop).to(values.dtype), -combined.angle())[:, None]


def noise_floor(shape: tuple[int, ...], covariance: Tensor, key: Key, kernel: int = 6) -> float:
    """The largest singular value that noise alone gives to the matrix of calibration blocks.

    Kernels below it are noise, and those above are signal. Of a draw of noise: blocks share samples, which
    makes it larger than the `√N + √M` of an `N × M` matrix of independent entries, and hardly differs between
    draws.

    Args:
        shape: `(coils, ky, kx)` of the calibration region.
        covariance: of the noise in a sample, complex `(coils, coils)`.
        key: of the draw.
        kernel: side of the blocks.
    """
    values, vectors = torch.linalg.eigh(covariance.to(torch.complex64))
    mixing = vectors * values.clamp_min(0).sqrt()
    white = torch.randn(shape, dtype=torch.complex64, generator=key.torch()).to(mixing.device)
    noise = torch.einsum("cd,dyx->cyx", mixing, white)
    return float(torch.linalg.matrix_norm(_blocks(noise, kernel), 2))


def _blocks(calibration: Tensor, kernel: int) -> Tensor:
    """The matrix of calibration blocks, `(blocks, coils · kernel²)`."""
    blocks = calibration.unfold(1, kernel, 1).unfold(2, kernel, 1)
    return blocks.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)


def _kernels(calibration: Tensor, kernel: int, threshold: float, floor: float) -> Tensor:
    """Right singular vectors of the matrix of blocks above the threshold, `(kernels, coils, ky, kx)`."""
    matrix = _blocks(calibration, kernel)
    # The smaller of the two Gram matrices has the same singular values, squared.
    if matrix.shape[0] < matrix.shape[1]:
        power, left = torch.linalg.eigh(matrix @ matrix.mH)
        kept = power > (threshold**2 * power[-1]).clamp_min(floor**2)
        vectors = (left[:, kept].mH @ matrix) / power[kept, None].sqrt()
    else:
        power, right = torch.linalg.eigh(matrix.mH @ matrix)
        vectors = right[:, power > (threshold**2 * power[-1]).clamp_min(floor**2)].mH
    kernels: Tensor = vectors.reshape(-1, calibration.shape[0], kernel, kernel)
    return kernels


def _correlation(kernels: Tensor) -> Tensor:
    """Coefficients of `G`, `(2·kernel − 1, 2·kernel − 1, coils, coils)`, lag zero in the centre.

    They are the kernels' correlations, summed over the kernels; by FFT, zero-padded so that none wrap.
    """
    width = kernels.shape[-1]
    lags = (2 * width - 1, 2 * width - 1)
    images = torch.fft.ifft2(kernels, s=lags, norm="forward").flatten(2).permute(2, 1, 0)
    gram = (images @ images.mH).unflatten(0, lags) / width**2
    coefficients = torch.fft.fft2(gram, dim=(0, 1), norm="forward")
    centred: Tensor = torch.fft.fftshift(coefficients, dim=(0, 1))
    return centred


def _eigenmaps(
    correlation: Tensor, shape: tuple[int, int], sets: int, crop: float, nodes: int
) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors `(sets, coils, y, x)`, of any phase, and eigenvalues `(sets, y, x)` of `G`."""
    lags, _, coils, _ = correlation.shape
    steps = [math.ceil(size / nodes) for size in shape]
    cells = [math.ceil(size / step) for size, step in zip(shape, steps, strict=True)]
    # One node before the first pixel and enough after the last, so that every cell has 4 × 4 nodes around it;
    # G is periodic, so nodes may lie outside the image.
    rows, columns = (
        _waves(torch.arange(-1, count + 2, device=correlation.device) * step, size, lags)
        for count, step, size in zip(cells, steps, shape, strict=True)
    )
    gram = columns @ (rows @ correlation.flatten(1)).reshape(len(rows), lags, -1)
    maps, values = _leading(gram.reshape(len(rows), len(columns), coils, coils), sets)

    map_windows, value_windows = _windows(maps, cells), _windows(values, cells)
    overlap = torch.einsum("scyx,scijyx->sijyx", map_windows[:, :, 1, 1].conj(), map_windows)
    aligned = torch.view_as_real(map_windows * torch.sgn(overlap).conj()[:, None])
    parts = _refine(aligned.movedim(-1, 2), steps)[..., : shape[0], : shape[1]]
    parts = parts / parts.square().sum((1, 2), keepdim=True).sqrt().clamp_min(torch.finfo(parts.dtype).tiny)
    fine_maps = torch.complex(parts[:, :, 0], parts[:, :, 1])
    fine_values = _refine(value_windows, steps)[..., : shape[0], : shape[1]]

    rough = ((overlap.abs().amin((1, 2)) < ROUGH) & (value_windows.amax((1, 2)) > crop)).any(0)
    rough = rough.repeat_interleave(steps[0], 0).repeat_interleave(steps[1], 1)[: shape[0], : shape[1]]
    pixels = rough.nonzero()
    for start in range(0, len(pixels), CHUNK):
        y, x = pixels[start : start + CHUNK].unbind(1)
        waves = _waves(y, shape[0], lags)[:, :, None] * _waves(x, shape[1], lags)[:, None]
        gram = waves.flatten(1) @ correlation.flatten(0, 1).flatten(1)
        fine_maps[:, :, y, x], fine_values[:, y, x] = _leading(gram.reshape(-1, coils, coils), sets)
    return fine_maps, fine_values


def _windows(nodes: Tensor, cells: list[int]) -> Tensor:
    """The 4 × 4 nodes around each cell: `(…, y, x)` to `(…, 4, 4, cells, cells)`."""
    return nodes.unfold(-2, cells[0], 1).unfold(-2, cells[1], 1)


def _refine(windows: Tensor, steps: list[int]) -> Tensor:
    """Cubic interpolation from the 4 × 4 nodes around each cell: `(…, 4, 4, cells, cells)` to `(…, y, x)`."""
    rows, columns = (_cubic(step, windows.device) for step in steps)
    fine = torch.einsum("ai,bj,...ijyx->...yaxb", rows, columns, windows)
    return fine.flatten(-4, -3).flatten(-2, -1)


def _cubic(step: int, device: torch.device) -> Tensor:
    """Weights `(step, 4)` of nodes −1, 0, 1, 2 at the pixels between nodes 0 and 1 (Lagrange)."""
    t = torch.arange(step, device=device) / step
    return torch.stack(
        (
            -t * (t - 1) * (t - 2) / 6,
            (t + 1) * (t - 1) * (t - 2) / 2,
            -(t + 1) * t * (t - 2) / 2,
            (t + 1) * t * (t - 1) / 6,
        ),
        dim=1,
    )


def _waves(positions: Tensor, size: int, lags: int) -> Tensor:
    """`exp(2πi lag (position − size // 2) / size)`, `(positions, lags)`."""
    lag = torch.arange(lags, device=positions.device) - lags // 2
    turns = (positions[:, None] - size // 2) * lag / size
    return torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)


def _leading(gram: Tensor, sets: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors `(sets, coils, …)` and -values `(sets, …)` of Hermitian `(…, coils, coils)`."""
    if sets > 1:
        return _decomposed(gram, sets)
    pixels = gram.flatten(0, -3)
    vectors, values, residual = _dominant(pixels)
    # Not "above": where the matrix is zero it is NaN.
    unsure = ~(residual < RESIDUAL)
    if unsure.any():
        exact_vectors, exact_values = _decomposed(pixels[unsure], 1)
        vectors[unsure], values[unsure] = exact_vectors[0].mT, exact_values[0]
    where = gram.shape[:-2]
    return vectors.mT.reshape(1, -1, *where), values.reshape(1, *where)


def _dominant(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvector `(pixels, coils)` to the largest eigenvalue `(pixels,)`, and `‖G v − λ v‖`, `(pixels,)`.

    A column of a high power of `G`, by repeated squaring: of many small matrices, in a third of the time of
    a decomposition. The residual is large where the two largest eigenvalues are close.
    """
    power = gram
    for _ in range(SQUARINGS // 2):
        # The largest eigenvalue is at least 1 / coils of their sum: float32 holds its fourth power.
        power = power @ power
        power = power @ power
        trace = power.diagonal(dim1=-2, dim2=-1).real.sum(-1)
        torch.view_as_real(power).div_(trace[:, None, None, None])
    brightest = power.diagonal(dim1=-2, dim2=-1).real.argmax(-1)
    columns = power.take_along_dim(brightest[:, None, None], -1)
    vectors = columns / torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    images = gram @ vectors
    values = (vectors.mH @ images).real
    residual = torch.linalg.vector_norm(images - values * vectors, dim=1)
    return vectors[..., 0], values[:, 0, 0], residual[:, 0]


def _decomposed(gram: Tensor, sets: int) -> tuple[Tensor, Tensor]:
    """What `_leading` gives, by decomposition."""
    values, vectors = torch.linalg.eigh(gram)
    vectors, values = vectors[..., -sets:].flip(-1), values[..., -sets:].flip(-1)
    return vectors.movedim(-1, 0).movedim(-1, 1), values.movedim(-1, 0)


def _principal_component(calibration: Tensor) -> Tensor:
    """The coils' first principal component, `(coils,)`, its last coil real and positive."""
    samples = calibration.flatten(1).to(torch.complex128)
    _, components = torch.linalg.eigh(samples @ samples.mH)
    component: Tensor = components[:, -1] * torch.exp(-1j * components[-1, -1].angle())
    return component.to(torch.complex64)
