"""The centre of k-space on the Cartesian grid, of a scan that was sampled off it."""

from __future__ import annotations

import torch
from torch import Tensor

from noref.physics import fft2c, noncartesian
from noref.physics.fourier import crop_centre
from noref.scan import Scan

BLOCK = 24
"""Samples along either axis."""

MARGIN = 4
"""Samples beyond the block on each side: what is left out there shows at the border of what is kept."""

_DAMPING, _ITERATIONS = 0.01, 30


def gridded_calibration(scan: Scan) -> Tensor:
    """Calibration k-space of Ω∖Γ of a scan off the grid, complex64 `(coils, ky, kx)`, the centre at `N // 2`.

    `F argmin_x ½‖M W (F x − y)‖² + λ/2 ‖x‖²` of each coil, x an image of low resolution over the whole field
    of view, M the samples of Ω∖Γ near the centre, λ = 0.01: where spokes lie farther apart than the grid, the
    smallest image that agrees with them.

    Args:
        scan: with a trajectory; its k-space multiplied by its weights, if it has any.

    Returns:
        24 × 24 samples, or as many as the matrix or the trajectory reach.
    """
    assert scan.trajectory is not None
    near = scan.trajectory.abs()[scan.allowed]
    reach = [int(min(BLOCK, n, 2 * float(k.max()))) for n, k in zip(scan.matrix, near.T, strict=True)]
    shape = (min(reach[0] + 2 * MARGIN, scan.matrix[0]), min(reach[1] + 2 * MARGIN, scan.matrix[1]))
    limits = torch.tensor(shape) / 2
    mask = scan.allowed & (scan.trajectory.abs() <= limits).all(-1)
    # Coils are the batch: each has an image of its own. Read-outs that do not come near are left out.
    used = mask.any(-1)
    coils = scan.coils

    def of_all(tensor: Tensor) -> Tensor:
        return tensor[used][None].expand(coils, *tensor[used].shape)

    ones = torch.ones(coils, 1, 1, *shape, dtype=scan.kspace.dtype)
    weights = None if scan.weights is None else of_all(scan.weights)
    encoding = noncartesian(of_all(mask), ones, of_all(scan.trajectory), weights)
    right = encoding.adjoint(scan.kspace[:, used][:, None])
    images = encoding.solve(right, _DAMPING, iterations=_ITERATIONS)
    return crop_centre(fft2c(images[:, 0]), (reach[0], reach[1]))
