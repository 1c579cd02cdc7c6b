"""Complex images as (real, imaginary) pairs of channels, the form that networks work on.

An image of `sets` map sets is complex `(batch, sets, y, x)` at every public boundary, and real
`(batch, 2·sets, y, x)` inside networks, ordered real₁, imaginary₁, real₂, ….
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_pairs(image: Tensor) -> Tensor:
    """Complex `(batch, sets, y, x)` to contiguous real `(batch, 2·sets, y, x)`."""
    stacked = torch.stack((image.real, image.imag), dim=2)
    return stacked.flatten(1, 2)


def to_complex(pairs: Tensor) -> Tensor:
    """Real `(batch, 2·sets, y, x)` to complex `(batch, sets, y, x)`."""
    split = pairs.view(pairs.shape[0], -1, 2, *pairs.shape[2:])
    return torch.complex(split[:, :, 0].contiguous(), split[:, :, 1].contiguous())
