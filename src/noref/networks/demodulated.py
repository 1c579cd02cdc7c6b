"""Any network, shown images without their smooth phase."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from noref.networks.base import Estimate, Network
from noref.physics import Encoding

_WIDTH = 1 / 20
"""Standard deviation of the smoothing as a share of the matrix: three samples of k-space either side."""


class Demodulated(Network):
    """`f(y, A) = p·f'(y, A p)`, `p = exp(i arg(g ∗ Aᴴy))`: the smooth phase moves into the coil maps.

    Convolutions on real and imaginary parts learn the phases that the training's images have, and fail where
    a scan of another sequence, or another place in the head, has others. Without the smooth phase all images
    are nearly real: `f(e^{iφ} y) = e^{iφ} f(y)` exactly for a constant φ, nearly for a smooth one.

    Args:
        inner: the network, of complex images.
    """

    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        """Reconstructs k-space `(batch, coils, ky, kx)`; see `Network`."""
        with torch.no_grad():
            phase = torch.exp(1j * _smooth(encoding.adjoint(kspace)).angle())
        estimate: Estimate = self.inner(kspace, encoding.turned(phase))
        return replace(
            estimate,
            image=phase * estimate.image,
            steps=tuple(phase * step for step in estimate.steps),
            encoding=estimate.encoding.turned(phase.conj()),
        )

    def blocks(self) -> Iterable[nn.Module]:
        """The inner network's."""
        return self.inner.blocks()


def _smooth(image: Tensor) -> Tensor:
    """Complex `(…, y, x)` under a Gaussian, periodic at the edges."""
    spectrum = torch.fft.fft2(image)
    for axis in (-2, -1):
        n = image.shape[axis]
        frequency = torch.fft.fftfreq(n, device=image.device) * (_WIDTH * n)
        passed = torch.exp(-2 * math.pi**2 * frequency**2)
        spectrum = spectrum * (passed[:, None] if axis == -2 else passed)
    smooth: Tensor = torch.fft.ifft2(spectrum)
    return smooth
