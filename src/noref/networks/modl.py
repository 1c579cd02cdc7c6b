"""MoDL (Aggarwal et al., IEEE TMI 2019, 38:394), for complex, multi-coil scans."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noref.networks.base import Estimate, Network
from noref.networks.start import Start, adjoint_image, check_channels, first_image
from noref.physics import Encoding, to_complex

CONVERGED = 1e-6
"""Relative residual that ends conjugate gradients: one coil is solved in two steps, and what further ones
divide by is rounding errors, without a usable gradient."""


class Alternation(Network):
    """One denoiser, shared by all iterations, in turn with a regularised least-squares fit of the data.

    `z = D(x)`,  `x = (AᴴA + λ)⁻¹ (Aᴴy + λ z)`, λ learned, above zero and 0.05 before training.

    Args:
        denoiser: pairs `(batch, 2·sets, y, x)` in and out.
        unrolls: iterations.
        channels: 2·sets.
        start: image that the first denoiser gets, `adjoint` or `sense`.
        deep_supervision: give the images of all iterations to be graded.
        checkpointing: recompute each iteration in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        unrolls: int,
        channels: int,
        start: Start,
        deep_supervision: bool,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.denoiser, self.unrolls, self.channels = denoiser, unrolls, channels
        self.start: Start = start
        self.deep_supervision, self.checkpointing = deep_supervision, checkpointing
        # λ = exp(θ): above zero, and a step of the optimiser changes it by the same share wherever it is.
        self.log_damping = nn.Parameter(torch.tensor(0.05).log())

    def solve(self, right: Tensor, damping: Tensor, encoding: Encoding) -> Tensor:
        """`(AᴴA + λ)⁻¹ b` on pairs `(batch, 2·sets, y, x)`, differentiable in `b` and λ."""
        raise NotImplementedError

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        """Reconstructs k-space `(batch, coils, ky, kx)`; see `Network`."""
        adjoint = adjoint_image(type(self).__name__, self.channels, kspace, encoding)
        images = [first_image(kspace, adjoint, encoding, self.start)]
        for _ in range(self.unrolls):
            images.append(self.run(self._iteration, images[-1], adjoint, encoding))
        steps = tuple(map(to_complex, images[1:-1])) if self.deep_supervision else ()
        return Estimate(to_complex(images[-1]), encoding, steps)

    def _iteration(self, image: Tensor, adjoint: Tensor, encoding: Encoding) -> Tensor:
        damping = self.log_damping.exp()
        return self.solve(adjoint + damping * self.denoiser(image), damping, encoding)

    def blocks(self) -> Iterable[nn.Module]:
        """The denoiser."""
        return [self.denoiser]


class Residual(nn.Module):
    """`D(x) = x + N(x)`, N: 3×3 convolutions with ReLU between them.

    Without biases, and without the published batch normalisation, by which scans of a batch would see each
    other: what comes out scales with what goes in.
    """

    def __init__(self, layers: int, features: int, channels: int) -> None:
        super().__init__()
        widths = [channels, *[features] * (layers - 1), channels]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))

    def forward(self, image: Tensor) -> Tensor:
        """Pairs `(batch, 2·sets, y, x)` in and out."""
        # Channels last is what convolutions work in.
        x = image.contiguous(memory_format=torch.channels_last)
        for i, layer in enumerate(self.layers):
            x = layer(F.relu_(x) if i else x)
        return image + x.to(image.dtype).contiguous()


class MoDL(Alternation):
    """MoDL: a small denoiser, shared by all iterations, in turn with conjugate gradients.

    `z = x + N(x)`,  `x = (AᴴA + λ)⁻¹ (Aᴴy + λ z)`. The gradient is that of the exact solution, computed by as
    many iterations again (its section III-B), so that memory does not grow with them.

    Args:
        unrolls: iterations: 10 as published.
        layers: convolutions of the denoiser: 5 as published.
        features: channels between them: 64 as published.
        cg: iterations of conjugate gradients.
        channels: 2·sets.
        start: image that the first denoiser gets: `adjoint`, the published `Aᴴy`, or `sense`, CG-SENSE's.
        deep_supervision: give the images of all iterations to be graded.
        checkpointing: recompute each iteration in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        unrolls: int = 10,
        layers: int = 5,
        features: int = 64,
        cg: int = 20,
        channels: int = 2,
        start: Start = "adjoint",
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> None:
        check_channels("MoDL", channels)
        denoiser = Residual(layers, features, channels)
        super().__init__(denoiser, unrolls, channels, start, deep_supervision, checkpointing)
        self.cg = cg

    def solve(self, right: Tensor, damping: Tensor, encoding: Encoding) -> Tensor:
        """With the implicit gradient; see `Alternation`."""
        return encoding.solve_pairs(right, damping, iterations=self.cg, tolerance=CONVERGED)
