"""Robust artificial neural networks for k-space interpolation: GRAPPA and what is not linear."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from noref.classical.grappa import GRAPPA
from noref.classical.lines import Predictor
from noref.seeding import Key


@dataclass(frozen=True)
class RAKI(GRAPPA):
    """`ŷ = w * y + w₃ * relu(w₂ * relu(w₁ * y))`, trained on the ACS of this scan alone.

    The three layers without biases are RAKI (Akçakaya et al., MRM 2019, 81:439), the linear way around them
    that of residual RAKI (Zhang et al., NeuroImage 2022, 256:119248): a network alone, started from random
    numbers on two dozen lines, does not find even the linear relation. `w` are GRAPPA's weights, and the
    network learns what they leave of the ACS. One for each neighbourhood of a missing line, for all coils at
    once; the neighbouring lines are channels, the kernels reach along the read-out.

    Attributes:
        strengths: λ of the linear weights; one, for every choice would be a training.
        width: of the linear kernel along the read-out, odd.
        widths: of the network's kernels along the read-out, odd.
        features: of its two hidden layers.
        steps: of Adam, its rate falling to zero as a cosine.
        rate: first learning rate.
    """

    name: str = "raki"
    strengths: tuple[float, ...] = (1e-3,)
    widths: tuple[int, int, int] = (5, 1, 3)
    features: tuple[int, int] = (32, 8)
    steps: int = 100
    rate: float = 2e-3
    evenly_spaced: ClassVar[bool] = True

    def _learn(self, sources: Tensor, targets: Tensor, strength: float) -> Predictor:
        """Fits the weights, then trains a network on what they leave."""
        linear = super()._learn(sources, targets, strength)
        left = targets - linear(sources)
        # Both in units of their own: the network starts with an error of 1, and makes it smaller.
        units = [lines.abs().square().mean().sqrt().clamp_min(1e-30) for lines in (sources, left)]
        inputs, goals = _channels(sources / units[0]), _channels(left / units[1])
        kernels = self._kernels(inputs.shape[1], goals.shape[1])
        optimiser = torch.optim.Adam(kernels, self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        with torch.enable_grad():
            for _ in range(self.steps):
                optimiser.zero_grad()
                error = (_network(inputs, kernels) - goals).square().mean()
                error.backward()  # type: ignore[no-untyped-call] # PyTorch leaves its type out
                optimiser.step()
                schedule.step()
        trained = [kernel.detach() for kernel in kernels]
        return lambda beside: (
            linear(beside) + units[1] * _complex(_network(_channels(beside / units[0]), trained))
        )

    def _kernels(self, inputs: int, outputs: int) -> list[Tensor]:
        """First weights, the same for every scan; the last layer starts at zero, from GRAPPA itself."""
        generator = Key(0, "", "raki").torch()
        kernels = []
        for (before, after), width in zip(
            pairwise((inputs, *self.features, outputs)), self.widths, strict=True
        ):
            deviation = (2 / (before * width)) ** 0.5
            kernels.append(deviation * torch.randn(after, before, width, generator=generator))
        kernels[-1].zero_()
        return [kernel.requires_grad_() for kernel in kernels]


def _network(lines: Tensor, kernels: list[Tensor]) -> Tensor:
    for index, kernel in enumerate(kernels):
        lines = torch.nn.functional.conv1d(lines.relu() if index else lines, kernel, padding="same")
    return lines


def _channels(lines: Tensor) -> Tensor:
    """Complex `(lines, …, kx)` to real `(lines, channels, kx)`."""
    return torch.view_as_real(lines).movedim(-1, 1).flatten(1, -2)


def _complex(channels: Tensor) -> Tensor:
    """Real `(lines, 2·coils, kx)` to complex `(lines, coils, kx)`, as `_channels` orders them."""
    real, imaginary = channels.chunk(2, 1)
    return torch.complex(real, imaginary)
