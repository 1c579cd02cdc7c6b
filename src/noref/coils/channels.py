"""What mixes the coils of a scan mixes everything that it knows of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from noref.scan import Scan

Mixing = Callable[[Tensor], Tensor]
"""From coils to other coils, complex `(…, coils, y, x)`."""


def mixed(scan: Scan, kspace: Mixing, image: Mixing, noise_cov: Tensor | None) -> Scan:
    """The scan seen by other coils.

    Args:
        scan: with a mixture of whose coils the others see.
        kspace: mixes k-space.
        image: mixes maps; they are brought back to `Σ_c |S_c|² = 1`, which the image takes over.
        noise_cov: of the new coils, complex64 `(coils, coils)`, or None.
    """
    maps = None
    if scan.maps is not None:
        maps = torch.nn.functional.normalize(image(scan.maps), dim=-3, eps=torch.finfo(torch.float32).tiny)
    return replace(
        scan,
        kspace=kspace(scan.kspace),
        calibration=None if scan.calibration is None else kspace(scan.calibration),
        clean=None if scan.clean is None else kspace(scan.clean),
        maps=maps,
        # Combined with other maps.
        reference=None,
        noise_cov=noise_cov,
    )


def mix(matrix: Tensor, coils: Tensor) -> Tensor:
    """`y'_v = Σ_c A_vc y_c`: matrix `(virtual, coils)` and `(…, coils, ky, kx)` to `(…, virtual, ky, kx)`."""
    return torch.einsum("vc,...cyx->...vyx", matrix, coils)
