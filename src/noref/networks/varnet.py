"""The end-to-end variational network (Sriram et al., MICCAI 2020, arXiv 2004.06688), with given maps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from noref.networks.kspace import KSpaceNetwork
from noref.networks.start import Start
from noref.networks.unet import NormUNet
from noref.physics import Encoding


class Cascade(nn.Module):
    """One refinement of k-space: `k − η M (k − y) + F S U(Sᴴ Fᴴ k)`, η learned, U a normalised U-Net."""

    def __init__(self, features: int, pools: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.unet = NormUNet(channels, features, pools)

    def forward(self, kspace: Tensor, measured: Tensor, mask: Tensor, full: Encoding) -> Tensor:
        """The next k-space; see `KSpaceNetwork`."""
        correction = full.forward_pairs(self.unet(full.adjoint_pairs(kspace)))
        return torch.lerp(kspace, measured, self.weight * mask) + correction


class VarNet(KSpaceNetwork):
    """E2E VarNet: every cascade corrects the k-space of all coils by what a U-Net makes of their image.

    Data consistency is soft: samples are drawn towards the measured ones, by learned weights. The published
    network also learns the maps, 0.5 of its 29.9 million parameters; here they are given. The image is the
    combination `Sᴴ Fᴴ k` of the last k-space.

    Args:
        cascades: refinements: 12 as published.
        features: channels of the U-Nets' finest level: 18 as published.
        pools: how many times the U-Nets halve the size: 4 as published.
        channels: 2·sets.
        start: k-space that the first cascade gets: `adjoint`, the published measured samples and zeros, or
            `sense`, measured samples and those of a CG-SENSE image. One coil says no more than its samples.
        deep_supervision: give the images of all cascades to be graded.
        checkpointing: recompute each cascade in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        cascades: int = 12,
        features: int = 18,
        pools: int = 4,
        channels: int = 2,
        start: Start = "adjoint",
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(channels, start)
        self.deep_supervision, self.checkpointing = deep_supervision, checkpointing
        self.cascades = nn.ModuleList(Cascade(features, pools, channels) for _ in range(cascades))

    def blocks(self) -> Iterable[nn.Module]:
        """The cascades; all of one shape, so that one compilation serves them all."""
        return self.cascades
