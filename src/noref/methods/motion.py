"""Motions of an image grid onto itself: anatomy so moved is still anatomy, where pixels are square."""

from __future__ import annotations

import torch
from torch import Tensor

from noref.seeding import Key


def draw_motion(shape: tuple[int, int], key: Key) -> Tensor:
    """A random motion of the grid onto itself: where each pixel's value is taken from, as a flat index.

    Args:
        shape: grid `(y, x)`; only where it is square there are quarter turns.
        key: draws mirrors, quarter turns and shifts.

    Returns:
        int64 `(y, x)`, a permutation.
    """
    generator = key.numpy()
    places = torch.arange(shape[0] * shape[1]).view(shape)
    if shape[0] == shape[1]:
        places = torch.rot90(places, int(generator.integers(4)), (0, 1))
    places = places.flip([axis for axis in (0, 1) if generator.integers(2)])
    reach = [max(size // 10, 1) for size in shape]
    shifts = [int(generator.integers(-most, most + 1)) for most in reach]
    return places.roll(shifts, (0, 1)).contiguous()


def move(images: Tensor, motion: Tensor) -> Tensor:
    """`T x`: images whose pixels are taken from where `draw_motion` says.

    Args:
        images: `(…, y, x)`, or `(batch, …, y, x)`.
        motion: int64 `(y, x)` of all of them, or `(batch, y, x)`, one of each in the batch.
    """
    between = [1] * (images.ndim - motion.ndim)
    places = motion.reshape(*motion.shape[:-2], *between, -1).expand(*images.shape[:-2], -1)
    return images.flatten(-2).gather(-1, places).view_as(images)
