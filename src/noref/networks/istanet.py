"""ISTA-Net+ (Zhang & Ghanem, CVPR 2018), for complex, multi-coil scans."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noref.errors import NorefError
from noref.networks.base import Estimate, Network
from noref.networks.start import Start, adjoint_image, first_image
from noref.physics import Encoding, to_complex


def _kernel(outputs: int, inputs: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(outputs, inputs, 3, 3)))


class Phase(nn.Module):
    """One phase: a gradient step on the data, then a shrinkage in a learned transform domain.

    `r = x − ρ (AᴴA x − Aᴴy)`,  `x = r + G(F̃(soft(F(D r), θ)))`, `F = F₂·ReLU·F₁`, `F̃ = F̃₂·ReLU·F̃₁`.

    Args:
        features: channels of the transform domain.
        channels: of the image: 2·sets for complex images, 1 for real ones.
        step: first value of ρ.
        symmetry: whether to compute the symmetry loss; zero otherwise.
    """

    def __init__(self, features: int, channels: int, step: float, symmetry: bool) -> None:
        super().__init__()
        self.symmetry = symmetry
        # In the published order, so that published weights can be loaded one after the other.
        self.step = nn.Parameter(torch.tensor([step]))
        self.threshold = nn.Parameter(torch.tensor([0.01]))
        self.extract = _kernel(features, channels)
        self.forward1 = _kernel(features, features)
        self.forward2 = _kernel(features, features)
        self.backward1 = _kernel(features, features)
        self.backward2 = _kernel(features, features)
        self.gather = _kernel(channels, features)

    def forward(self, image: Tensor, adjoint: Tensor, encoding: Encoding) -> tuple[Tensor, Tensor]:
        """The next image `(batch, channels, y, x)`, and the phase's symmetry loss `(batch,)`."""
        gradient = _normal(image, encoding) - adjoint
        image = image - self.step * gradient
        # Channels last is what convolutions work in; otherwise each of them reorders its input on CPUs.
        channels_last = image.contiguous(memory_format=torch.channels_last)
        extracted = F.conv2d(channels_last, self.extract, padding=1)
        transformed = self._pair(extracted, self.forward1, self.forward2)
        restored = self._pair(_soft(transformed, self.threshold), self.backward1, self.backward2)
        image = image + F.conv2d(restored, self.gather, padding=1).contiguous()
        return image, self._symmetry(transformed, extracted) if self.symmetry else image.new_zeros(len(image))

    def _symmetry(self, transformed: Tensor, extracted: Tensor) -> Tensor:
        difference = self._pair(transformed, self.backward1, self.backward2) - extracted
        return difference.float().square().mean((1, 2, 3))

    @staticmethod
    def _pair(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return F.conv2d(F.relu_(F.conv2d(x, first, padding=1)), second, padding=1)


def _soft(x: Tensor, threshold: Tensor) -> Tensor:
    """Soft shrinkage `sign(x)·max(|x| − θ, 0)`; a negative θ lengthens instead, `x − θ·clip(x/|θ|, ±1)`."""
    threshold = threshold.to(x.dtype)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        shrunk: Tensor = _Shrinkage.apply(x, threshold)  # type: ignore[no-untyped-call]
        return shrunk
    return F.relu_(x - threshold) - F.relu_(-x - threshold)


class _Shrinkage(torch.autograd.Function):
    """Soft shrinkage in six passes over the memory instead of fourteen: on CPUs it was a third of a step.

    Elsewhere the threshold as a number would wait for the device, and a compiler fuses the passes anyway.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, threshold: Tensor) -> Tensor:
        context.save_for_backward(x, threshold)
        number = float(threshold)
        clipped = x.clamp(-abs(number), abs(number))
        return torch.sub(x, clipped, alpha=1 if number > 0 else -1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, threshold = context.saved_tensors
        number = float(threshold)
        # Of the values beyond the threshold: they follow x, and −sign(x) times the threshold.
        beyond = torch.ops.aten.softshrink_backward(gradient, x, abs(number))
        slope = torch.sign(x).mul_(beyond).sum().neg_()
        of_image = beyond if number > 0 else 2 * gradient - beyond
        return of_image, slope.reshape(threshold.shape)


def _normal(image: Tensor, encoding: Encoding) -> Tensor:
    if image.shape[1] == 1:
        real = encoding.normal_pairs(torch.cat((image, torch.zeros_like(image)), 1))
        return real[:, :1]
    return encoding.normal_pairs(image)


class ISTANet(Network):
    """ISTA-Net+: the iterative shrinkage-thresholding algorithm, unrolled, every phase with own weights.

    Published (`channels=1`) it is a network for real images, `x₀ = Re(Aᴴy)` and the real part after each
    gradient step; scanner data need `channels=2`, or 2·sets. The penalty is its symmetry loss
    `Σ_k mean((F̃(F(D r_k)) − D r_k)²)`.

    Args:
        phases: number of unrolled iterations.
        features: channels of the transform domain.
        channels: 2·sets for complex images, 1 for real ones.
        start: image that the first phase gets: `adjoint`, the published `Aᴴy`, or `sense`, 30 iterations of
            conjugate gradients towards `(AᴴA + λ)⁻¹ Aᴴy`, λ = 0.001: with several coils much of what the data
            say by themselves, which the phases need not learn. One coil says no more than the adjoint.
        step: what every ρ is before training: 0.5 as published; 1 fits one coil's samples in one step.
        symmetry: compute the symmetry loss, a third of all convolutions; without it there is no penalty.
        checkpointing: recompute each phase in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        phases: int = 9,
        features: int = 32,
        channels: int = 2,
        start: Start = "adjoint",
        step: float = 0.5,
        symmetry: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if phases < 0 or features < 1:
            raise NorefError(f"ISTANet: {phases} phases of {features} features; give at least 1 of each")
        if channels < 1 or (channels > 1 and channels % 2):
            raise NorefError(f"ISTANet: channels is {channels}; give 1 (real images) or 2·sets")
        self.channels, self.start, self.checkpointing = channels, start, checkpointing
        self.symmetry = symmetry
        self.phases = nn.ModuleList(Phase(features, channels, step, symmetry) for _ in range(phases))

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        """Reconstructs k-space `(batch, coils, ky, kx)`; see `Network`."""
        adjoint = adjoint_image("ISTANet", self.channels, kspace, encoding)
        image = first_image(kspace, adjoint, encoding, self.start)
        image, adjoint = image[:, : self.channels], adjoint[:, : self.channels]
        penalty = kspace.real.new_zeros(kspace.shape[0])
        for phase in self.phases:
            image, symmetry = self.run(phase, image, adjoint, encoding)
            penalty = penalty + symmetry
        if self.channels == 1:
            image = torch.cat((image, torch.zeros_like(image)), 1)
        return Estimate(to_complex(image), encoding, penalty=penalty if self.symmetry else None)

    def blocks(self) -> Iterable[nn.Module]:
        """The phases; all of one shape, so that one compilation serves them all."""
        return self.phases

    def load_published(self, path: Path) -> None:
        """Loads weights saved by the authors' code, whose parameters stand in the same order.

        Raises:
            NorefError: if the file cannot be read, or holds other shapes.
        """
        ours = self.state_dict()
        try:
            theirs = list(torch.load(path, map_location="cpu", weights_only=True).values())
            fit = [t.shape for t in theirs] == [t.shape for t in ours.values()]
        except (OSError, RuntimeError, AttributeError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise NorefError(
                f"{path}: no weights ({reason}); give a file saved by the authors' code"
            ) from None
        if not fit:
            raise NorefError(f"{path}: no ISTA-Net+ weights of this size; check phases and features")
        self.load_state_dict(dict(zip(ours, theirs, strict=True)))
