"""The U-Net (Ronneberger et al., MICCAI 2015) of the fastMRI baseline (Zbontar et al., arXiv 1811.08839)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noref.networks.base import Estimate, Network
from noref.networks.start import Start, adjoint_image, check_channels, first_image
from noref.physics import Encoding, to_complex

_SLOPE, _EPS = 0.2, 1e-5


class _Normalised(torch.autograd.Function):
    """Instance normalisation, then leaky ReLU, of `(batch, channels, y, x)` in any layout.

    PyTorch's own reorders features that lie channels last, there and back: on CPUs, and on a GPU a step of a
    U-Net took 3.6 ms with it, 2.9 ms with this. Batch normalisation takes them as they are, but sums plainly,
    thirty times the rounding error of this. Only the result is kept: the ReLU can be inverted.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """`leaky_relu((x − mean) / std)`."""
        x = x - _mean(x)
        scale = (_mean(x.square()) + _EPS).rsqrt()
        result = F.leaky_relu_(x.mul_(scale), _SLOPE)
        ctx.save_for_backward(result, scale)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """With n the normalised features and g the gradient there, `(g − mean g − n mean(g n)) / std`."""
        result, scale = ctx.saved_tensors
        gradient: Tensor = torch.ops.aten.leaky_relu_backward(gradients[0], result, _SLOPE, True)
        normalised = F.leaky_relu(result, 1 / _SLOPE)
        along = _mean(gradient * normalised)
        return gradient.sub_(_mean(gradient)).addcmul_(normalised, along, value=-1).mul_(scale)


def _mean(x: Tensor) -> Tensor:
    """Over every image of a batch, `(batch, channels, 1, 1)`: row by row, in the order of channels last.

    Of few channels that lie last, PyTorch's mean over both axes takes four times as long on CPUs.
    """
    return x.movedim(1, -1).mean(2).mean(1)[:, :, None, None]


def normalised(x: Tensor) -> Tensor:
    """Instance normalisation and leaky ReLU of features `(batch, channels, y, x)`."""
    result: Tensor = _Normalised.apply(x)  # type: ignore[no-untyped-call] # by PyTorch
    return result


class Convolutions(nn.Module):
    """Twice: 3×3 convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, y, x)` to `(batch, outputs, y, x)`."""
        return normalised(self.second(normalised(self.first(x))))


class UNet(nn.Module):
    """The plain U-Net: feature maps of any size in, feature maps of that size out, in the input's precision.

    Sizes are padded with zeros to a multiple of `2^pools`, at least two of them, since a single pixel has
    nothing to be normalised by; the result is cropped.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        features: channels of the finest level; each coarser one has twice as many.
        pools: how many times the size is halved.
    """

    def __init__(self, inputs: int, outputs: int, features: int = 32, pools: int = 4) -> None:
        super().__init__()
        self.pools = pools
        widths = [features * 2**level for level in range(pools + 1)]
        self.encoder = nn.ModuleList(
            Convolutions(a, b) for a, b in zip([inputs, *widths[:-1]], widths, strict=True)
        )
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2, bias=False) for width in reversed(widths[:-1])
        )
        self.decoder = nn.ModuleList(Convolutions(2 * width, width) for width in reversed(widths[:-1]))
        self.last = nn.Conv2d(features, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, y, x)` to `(batch, outputs, y, x)`."""
        precision, (height, width), cell = x.dtype, x.shape[-2:], 2**self.pools
        below, beside = (max(2, -(-size // cell)) * cell - size for size in (height, width))
        top, left = below // 2, beside // 2
        x = F.pad(x, (left, beside - left, top, below - top))
        skipped = []
        for level, convolutions in enumerate(self.encoder):
            x = convolutions(F.avg_pool2d(x, 2) if level else x)
            skipped.append(x)
        skipped.pop()
        for upsample, convolutions in zip(self.upsample, self.decoder, strict=True):
            x = convolutions(torch.cat((normalised(upsample(x)), skipped.pop()), 1))
        outputs: Tensor = self.last(x)[..., top : top + height, left : left + width].to(precision)
        return outputs


class NormUNet(nn.Module):
    """A U-Net of pairs in units of their own: `σ·U((x − μ)/σ) + μ`, so that scale does not matter.

    μ and σ are the mean and standard deviation over an image, of real and imaginary parts each (Sriram et
    al., MICCAI 2020). With as many outputs as inputs; the arguments are those of `UNet`.
    """

    def __init__(self, channels: int, features: int = 32, pools: int = 4) -> None:
        super().__init__()
        self.unet = UNet(channels, channels, features, pools)

    def forward(self, pairs: Tensor) -> Tensor:
        """Pairs `(batch, 2·sets, y, x)` in and out."""
        parts = pairs.view(pairs.shape[0], -1, 2, *pairs.shape[2:])
        variance, mean = torch.var_mean(parts, (1, 3, 4), keepdim=True)
        # An empty image has no deviation, and no gradient through it.
        deviation = variance.clamp_min(torch.finfo(pairs.dtype).tiny).sqrt()
        normalised: Tensor = self.unet(((parts - mean) / deviation).flatten(1, 2))
        return (normalised.view_as(parts) * deviation + mean).flatten(1, 2)


class ImageUNet(Network):
    """U-Net: the zero-filled image in, the image out, no data consistency.

    Args:
        features: channels of the finest level; each coarser one has twice as many.
        pools: how many times the size is halved.
        channels: 2·sets.
        start: image that is improved: `adjoint`, the published `Aᴴy`, or `sense`, CG-SENSE's.
        checkpointing: recompute the network in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        features: int = 32,
        pools: int = 4,
        channels: int = 2,
        start: Start = "adjoint",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_channels("ImageUNet", channels)
        self.channels, self.checkpointing = channels, checkpointing
        self.start: Start = start
        self.unet = NormUNet(channels, features, pools)

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        """Reconstructs k-space `(batch, coils, ky, kx)`; see `Network`."""
        adjoint = adjoint_image("ImageUNet", self.channels, kspace, encoding)
        image = first_image(kspace, adjoint, encoding, self.start)
        return Estimate(to_complex(self.run(self.unet, image)), encoding)

    def blocks(self) -> Iterable[nn.Module]:
        """The U-Net."""
        return [self.unet]
