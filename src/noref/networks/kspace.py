"""What networks share that correct the k-space of all coils, block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.networks.base import Estimate, Network
from noref.networks.start import Start, adjoint_image, check_channels, first_image
from noref.physics import Encoding, to_complex


class KSpaceNetwork(Network):
    """`k = B(k, y, M, F S)`, block by block; the image is the combination `Sᴴ Fᴴ k` of the last k-space.

    k and y are real, `(batch, coils, ky, kx, 2)`, the mask M is bool, `(batch, 1, ky, kx, 2)`.

    Args:
        channels: 2·sets.
        start: k-space that the first block gets: `adjoint`, samples and zeros, or `sense`, samples and
            those of a CG-SENSE image. One coil says no more than its samples.

    Attributes:
        deep_supervision: whether the images after all blocks are given to be graded.
    """

    deep_supervision: bool = False

    def __init__(self, channels: int, start: Start) -> None:
        super().__init__()
        check_channels(type(self).__name__, channels)
        self.channels = channels
        self.start: Start = start

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        """Reconstructs k-space `(batch, coils, ky, kx)`; see `Network`.

        Raises:
            NorefError: if the samples do not lie on the Cartesian grid.
        """
        if not encoding.on_grid:
            raise NorefError(
                f"{type(self).__name__}: fills in Cartesian k-space, and the scan was sampled off the grid; "
                "choose network.name=istanet, modl or another that works on images"
            )
        adjoint = adjoint_image(type(self).__name__, self.channels, kspace, encoding)
        measured, full = torch.view_as_real(kspace), encoding.full()
        # Written out for both parts: with a last axis that is broadcast CPUs take twice as long.
        mask = encoding.mask[:, None, :, :, None].expand(-1, -1, -1, -1, 2).contiguous()
        refined = [measured]
        if self.start == "sense" and encoding.coils > 1:
            image = first_image(kspace, adjoint, encoding, self.start)
            refined = [torch.where(mask, measured, full.forward_pairs(image))]
        for block in self.blocks():
            refined.append(self.run(block, refined[-1], measured, mask, full))
        steps = refined[1:-1] if self.deep_supervision else []
        *images, image = (to_complex(full.adjoint_pairs(k)) for k in (*steps, refined[-1]))
        return Estimate(image, encoding, tuple(images))
