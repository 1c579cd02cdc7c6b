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

_DARK = 0.1
"""Smooth images below this share of their maximum have more of the overall phase than of their own."""


class Demodulated(Network):
    """`f(y, A) = p·f'(y, A p)`: the smooth phase p of the image moves into the coil maps.

    `p = exp(i arg(s + 0.1·max|s|·o))`, `s = g ∗ Aᴴy`, o the overall phase, that of `Σ x|x|`: where the image
    is dark it has no phase of its own, and noise there would turn what lies beside it.

    Convolutions on real and imaginary parts learn the phases that the training's images have, and fail where
    a scan of another sequence, or another place in the head, has others. Without the smooth phase images are
    nearer to real ones, though raw scans have a fine phase, too: `f(e^{iφ} y) = e^{iφ} f(y)` exactly for a
    constant φ, nearly for a smooth one.

    Args:
        inner: the network, of complex images.
    """

    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        """Reconstructs k-space `(batch, coils, ky, kx)`; see `Network`."""
        with torch.no_grad():
            phase = smooth_phase_of(encoding.beginning().adjoint(kspace))
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


def smooth_phase_of(image: Tensor) -> Tensor:
    """`p` of complex `(…, y, x)`: its smooth phase, the overall one where it is dark."""
    smooth = _smooth(image)
    overall = torch.sgn((image * image.abs()).sum((-2, -1), keepdim=True))
    brightest = smooth.abs().amax((-2, -1), keepdim=True)
    return torch.sgn(smooth + _DARK * brightest * overall)


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
