"""KIKI-Net (Eo et al., MRM 2018, 80:2188), for complex, multi-coil scans."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from noref.errors import NorefError
from noref.networks.kspace import KSpaceNetwork
from noref.networks.start import Start
from noref.physics import Encoding


def _stack(layers: int, features: int, channels: int) -> nn.Sequential:
    """3×3 convolutions with ReLU between them, `channels` in and out."""
    widths = [channels, *[features] * (layers - 1), channels]
    stack = nn.Sequential()
    for i in range(layers):
        last = i == layers - 1
        convolution = nn.Conv2d(widths[i], widths[i + 1], 3, padding=1)
        # He's scale: with PyTorch's own, 25 layers would leave nothing of their input.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear" if last else "relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type] # there is a bias
        stack.append(convolution)
        if not last:
            stack.append(nn.ReLU())
    return stack


class Iteration(nn.Module):
    """One K, one I, each followed by data consistency.

    `k = M y + (1 − M) K(k)`,  `x = Sᴴ Fᴴ k`,  `x = x + I(x)`,  `k = M y + (1 − M) F S x`.

    Args:
        layers: convolutions of K, and of I.
        features: channels between them.
        channels: of the image, 2·sets.
    """

    def __init__(self, layers: int, features: int, channels: int) -> None:
        super().__init__()
        self.kspace = _stack(layers, features, 2)
        self.image = _stack(layers, features, channels)

    def forward(self, kspace: Tensor, measured: Tensor, mask: Tensor, full: Encoding) -> Tensor:
        """The next k-space; see `KSpaceNetwork`."""
        # Pairs that stand last are already what convolutions work in, channels last.
        coils = kspace.flatten(0, 1).permute(0, 3, 1, 2)
        predicted = self.kspace(coils).permute(0, 2, 3, 1).reshape(kspace.shape)
        image = full.adjoint_pairs(torch.where(mask, measured, predicted))
        image = image + self.image(image.contiguous(memory_format=torch.channels_last)).contiguous()
        return torch.where(mask, measured, full.forward_pairs(image))


class KIKINet(KSpaceNetwork):
    """KIKI-Net: convolutions in k-space and in the image in turn, each followed by data consistency.

    Published for one coil, each network trained after the one before; here all at once. The coils are a batch
    to K, and what I gets is their combination, which needs their maps. K predicts samples, I a correction.
    Measured samples are kept exactly in the k-space that the last step leaves; the image is its combination,
    `Sᴴ Fᴴ (M y + (1 − M) F S x)`, so that one coil's image has exactly the measured samples.

    Args:
        iterations: pairs of K and I: 2 as published.
        layers: convolutions of each network: 25 as published.
        features: channels between them: 64 as published.
        channels: 2·sets.
        start: k-space that the first K gets: `adjoint`, the published measured samples and zeros, or `sense`,
            measured samples and those of a CG-SENSE image. One coil says no more than its samples.
        checkpointing: recompute each iteration in the backward pass instead of keeping its activations.
    """

    keeps_samples = True

    def __init__(
        self,
        iterations: int = 2,
        layers: int = 25,
        features: int = 64,
        channels: int = 2,
        start: Start = "adjoint",
        checkpointing: bool = False,
    ) -> None:
        super().__init__(channels, start)
        if layers < 2:
            raise NorefError(f"KIKINet: layers is {layers}; give 2 or more")
        self.checkpointing = checkpointing
        self.iterations = nn.ModuleList(Iteration(layers, features, channels) for _ in range(iterations))

    def blocks(self) -> Iterable[nn.Module]:
        """The iterations; all of one shape, so that one compilation serves them all."""
        return self.iterations
