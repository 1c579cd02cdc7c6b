"""The unrolled ResNet of SSDU (Yaman et al., MRM 2020, 84:3172), for complex, multi-coil scans."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noref.networks.modl import CONVERGED, Alternation
from noref.networks.start import Start, check_channels
from noref.physics import Encoding, conjugate_gradients


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.normal_(convolution.weight, std=0.05)
    return convolution


class ResidualBlock(nn.Module):
    """`x + 0.1·K₂(ReLU(K₁ x))`, by default with one kernel, K₂ = K₁."""

    def __init__(self, features: int, shared: bool) -> None:
        super().__init__()
        self.first = _convolution(features, features)
        self.second = self.first if shared else _convolution(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, features, y, x)` in and out."""
        outputs: Tensor = x + 0.1 * self.second(F.relu_(self.first(x)))
        return outputs


class ResNet(nn.Module):
    """`G(x₀ + K·B(x₀))`, `x₀ = E x`: E, K, G convolutions, B a chain of residual blocks; no biases."""

    def __init__(self, blocks: int, features: int, channels: int, shared: bool) -> None:
        super().__init__()
        self.extract = _convolution(channels, features)
        self.blocks = nn.Sequential(*(ResidualBlock(features, shared) for _ in range(blocks)))
        self.last = _convolution(features, features)
        self.gather = _convolution(features, channels)

    def forward(self, image: Tensor) -> Tensor:
        """Pairs `(batch, 2·sets, y, x)` in and out."""
        # Channels last is what convolutions work in.
        extracted = self.extract(image.contiguous(memory_format=torch.channels_last))
        gathered: Tensor = self.gather(extracted + self.last(self.blocks(extracted)))
        return gathered.to(image.dtype).contiguous()


class SSDUNet(Alternation):
    """SSDU's network: a ResNet, shared by all iterations, in turn with `cg` conjugate gradients.

    `z = R(x)`,  `x = (AᴴA + λ)⁻¹ (Aᴴy + λ z)`. Every step of the conjugate gradients is differentiated, so
    that the gradient is that of what was computed, converged or not. All of it scales with the data.

    Args:
        unrolls: iterations: 10 as published.
        blocks: residual blocks: 15 as published.
        features: channels of the ResNet: 64 as published.
        shared: one kernel for both convolutions of a block, 592,129 parameters as published; otherwise two.
        cg: iterations of conjugate gradients: 10 as published.
        channels: 2·sets.
        start: image that the first ResNet gets: `adjoint`, the published `Aᴴy`, or `sense`, CG-SENSE's.
        deep_supervision: give the images of all iterations to be graded.
        checkpointing: recompute each iteration in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        unrolls: int = 10,
        blocks: int = 15,
        features: int = 64,
        shared: bool = True,
        cg: int = 10,
        channels: int = 2,
        start: Start = "adjoint",
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> None:
        check_channels("SSDUNet", channels)
        denoiser = ResNet(blocks, features, channels, shared)
        super().__init__(denoiser, unrolls, channels, start, deep_supervision, checkpointing)
        self.cg = cg

    def solve(self, right: Tensor, damping: Tensor, encoding: Encoding) -> Tensor:
        """With the gradient of every step; see `Alternation`."""
        solution = conjugate_gradients(
            lambda x: encoding.normal_pairs(x) + damping * x,
            right,
            iterations=self.cg,
            tolerance=CONVERGED,
        )
        # An empty batch takes no step: its gradient is zero, not missing.
        return solution + 0 * right
