"""Prewhitening: coils whose noise has one and the same power and is not correlated."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from noref.coils.channels import mix, mixed
from noref.errors import NorefError
from noref.scan import Scan

MIN_SAMPLES = 50
"""Fewer samples than this say nothing about the noise."""

SAMPLES_PER_COIL = 10
"""Fewest samples for each coil from which a covariance is estimated."""


def noise_covariance(samples: Tensor) -> Tensor:
    """`Σ = n nᴴ / N`, complex64 `(coils, coils)`, of noise of mean zero; its diagonal is σ² of each coil.

    Args:
        samples: n, complex `(coils, N)`.

    Source: Roemer et al., The NMR phased array, MRM 16 (1990); Pruessmann et al., MRM 46 (2001), appendix.
    """
    noise = samples.to(torch.complex128)
    return (noise @ noise.mH / noise.shape[-1]).to(torch.complex64)


def whitening_matrix(covariance: Tensor) -> Tensor:
    """`W = L⁻¹` with `Σ = L Lᴴ`, so that `W Σ Wᴴ = 1`: lower triangular, complex64 `(coils, coils)`.

    Args:
        covariance: Σ, complex `(coils, coils)`, Hermitian and positive definite.

    Raises:
        ValueError: if it is not positive definite.
    """
    factor, problem = torch.linalg.cholesky_ex(covariance.to(torch.complex128))
    # A dead or doubled channel leaves a pivot of nothing but rounding.
    pivots = factor.diagonal().real
    if problem.item() or not (pivots**2 > 1e-6 * covariance.diagonal().real).all():
        raise ValueError("the noise covariance is singular")
    inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor), dtype=factor.dtype), upper=False)
    white: Tensor = inverse.to(torch.complex64)
    return white


def noise_region(
    shape: tuple[int, int], sampled: Tensor, samples: int = MIN_SAMPLES
) -> tuple[Tensor | None, str]:
    """Samples that hold little but noise, bool `(ky, kx)`, and where they are; None and why if too few.

    Those in the corners of k-space, or along its border if the corners were not sampled.

    Args:
        shape: of k-space.
        sampled: bool `(ky, kx)`, samples to choose from.
        samples: how many are needed.
    """
    radius = [(torch.arange(n) - n // 2).abs() / (n / 2) for n in shape]
    y, x = radius[0][:, None], radius[1][None, :]
    for region, where in (("corners", torch.minimum(y, x) > 0.85), ("border", torch.maximum(y, x) > 0.9)):
        chosen = where & sampled
        if int(chosen.sum()) >= samples:
            return chosen, region
    return None, "too little of the border of k-space was measured"


def whitened(scan: Scan) -> Scan:
    """The scan seen by coils with noise of covariance 1: `y' = W y`, `W` by `whitening_matrix`.

    Σ is the scan's `noise_cov`, from its noise scans; without one it is estimated from Ω∖Γ in the corners of
    k-space, or along its border, where signal makes it larger than the noise.

    Raises:
        NorefError: if the covariance is singular or of other coils, or there is none and too little of the
            border was sampled to estimate it.
    """
    covariance, found = scan.noise_cov, "noise scans"
    if covariance is None:
        covariance, found = _estimated(scan)
    if len(covariance) != scan.coils:
        raise NorefError(
            f"{scan.id}: noise of {len(covariance)} channels cannot whiten {scan.coils} coils; give the "
            "noise scan of the same coils, or set whiten=false"
        )
    try:
        mixing = partial(mix, whitening_matrix(covariance))
    except ValueError as error:
        raise NorefError(
            f"{scan.id}: {error}, as a channel is dead or a mixture of others; set whiten=false"
        ) from None
    white = mixed(scan, mixing, mixing, torch.eye(scan.coils, dtype=torch.complex64))
    return replace(white, header=replace(scan.header, whitened_by=found))


def _estimated(scan: Scan) -> tuple[Tensor, str]:
    chosen, found = (None, "it was sampled off the Cartesian grid")
    if scan.trajectory is None:
        needed = max(MIN_SAMPLES, SAMPLES_PER_COIL * scan.coils)
        chosen, found = noise_region(scan.shape, scan.allowed, needed)
    if chosen is None:
        raise NorefError(f"{scan.id}: without a noise scan, and {found}; set whiten=false")
    return noise_covariance(scan.kspace[:, chosen]), f"{found} of k-space"
