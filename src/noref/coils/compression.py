"""Coil compression: fewer, virtual coils that keep most of what the coils of a scan have seen."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from noref.coils.calibration import calibration
from noref.coils.channels import mix, mixed
from noref.errors import NorefError
from noref.physics import constant_along_readout, fft1c, ifft1c, pad_centre
from noref.scan import Scan

Compression = Literal["svd", "geometric"]


def svd_matrix(calibration: Tensor, coils: int) -> Tensor:
    """The virtual coils that keep most of the calibration region's energy, complex64 `(virtual, coils)`.

    `A = U_vᴴ` of `Y = U Σ Vᴴ`, the leading left singular vectors of the samples `(coils, N)`; its rows are
    orthonormal, so that white noise stays white.

    Args:
        calibration: Y, complex `(coils, ky, kx)`.
        coils: virtual coils to keep.

    Source: Huang et al., A software channel compression technique, MRI 26 (2008); Buehrer et al., MRM 57
    (2007).
    """
    return _leading(calibration.flatten(1), coils).to(torch.complex64)


def geometric_matrices(calibration: Tensor, readout: int, coils: int) -> Tensor:
    """Virtual coils for every place along the read-out, complex64 `(kx, virtual, coils)`.

    The matrix of `svd_matrix` at each x after the inverse FFT along the read-out, where fewer coils see the
    object; then each is rotated to be closest to its neighbour's, `A_x ← V Wᴴ A_x` with `A_x A'ᴴ = W Σ Vᴴ`,
    from the centre outwards, so that virtual coils change slowly along x and the FFT back spreads nothing.

    Args:
        calibration: complex `(coils, ky, kx)`, with its centre at `N // 2`.
        readout: kx, samples of a whole read-out.
        coils: virtual coils to keep.

    Source: Zhang et al., Coil compression for accelerated imaging with Cartesian sampling, MRM 69 (2013),
    equations 4 to 9.
    """
    rows = ifft1c(pad_centre(calibration.to(torch.complex128), (calibration.shape[-2], readout)))
    matrices = _leading(rows.permute(2, 0, 1), coils)
    for order in (range(readout // 2 + 1, readout), range(readout // 2 - 1, -1, -1)):
        before = matrices[readout // 2]
        for x in order:
            left, _, right = torch.linalg.svd(matrices[x] @ before.mH)
            before = matrices[x] = right.mH @ left.mH @ matrices[x]
    return matrices.to(torch.complex64)


def compressed(scan: Scan, coils: int, method: Compression = "svd") -> Scan:
    """The scan seen by fewer, virtual coils; as it is if it has no more than these.

    The virtual coils are made of the scan's calibration region alone: its separate calibration scan, or the
    fully sampled centre of Ω∖Γ.

    Args:
        scan: Cartesian or, for `svd` with a separate calibration scan, not.
        coils: virtual coils to keep.
        method: `svd`, or `geometric` for whole read-outs.

    Raises:
        NorefError: if nothing was sampled to calibrate with, or read-outs are not whole for `geometric`.
    """
    if scan.coils <= coils:
        return scan
    if scan.trajectory is not None and scan.calibration is None:
        raise NorefError(f"{scan.id}: sampled off the Cartesian grid, without a scan to calibrate coils with")
    region = calibration(scan)
    if region[0].numel() < coils:
        raise NorefError(f"{scan.id}: the centre of k-space was not sampled, so coils cannot be compressed")
    if method == "svd":
        matrix = svd_matrix(region, coils)
        mixing = partial(mix, matrix)
        return mixed(scan, mixing, mixing, _seen(scan.noise_cov, matrix[None]))
    # A transform along the read-out takes what is hidden in a line into what is shown of it.
    whole_lines = all(map(constant_along_readout, (scan.measured, scan.mask, scan.allowed)))
    if scan.trajectory is not None or not whole_lines:
        raise NorefError(f"{scan.id}: geometric compression needs whole read-outs; give compression=svd")
    if region.shape[-2] < coils:
        raise NorefError(
            f"{scan.id}: {region.shape[-2]} calibration lines cannot tell {coils} virtual coils apart "
            "everywhere along the read-out; give compression=svd"
        )
    matrices = geometric_matrices(region, scan.shape[1], coils)

    def along_readout(kspace: Tensor) -> Tensor:
        whole = pad_centre(kspace, (kspace.shape[-2], scan.shape[-1]))
        return fft1c(torch.einsum("xvc,...cyx->...vyx", matrices, ifft1c(whole)))

    def images(maps: Tensor) -> Tensor:
        return torch.einsum("xvc,...cyx->...vyx", matrices, maps)

    return mixed(scan, along_readout, images, _seen(scan.noise_cov, matrices))


def _leading(samples: Tensor, coils: int) -> Tensor:
    """The leading left singular vectors of samples `(…, coils, N)`, conjugate: `(…, virtual, coils)`."""
    samples = samples.to(torch.complex128)
    _, vectors = torch.linalg.eigh(samples @ samples.mH)
    kept: Tensor = vectors[..., -coils:].flip(-1).mH
    return kept


def _seen(noise_cov: Tensor | None, matrices: Tensor) -> Tensor | None:
    """`A Σ Aᴴ`, the mean over matrices `(x, virtual, coils)`."""
    return None if noise_cov is None else (matrices @ noise_cov @ matrices.mH).mean(0)
