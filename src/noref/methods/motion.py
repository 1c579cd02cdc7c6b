"""Motions of an image grid onto itself: anatomy so moved is still anatomy."""

from __future__ import annotations

import torch
from torch import Tensor

from noref.seeding import Key


def moved(shape: tuple[int, int], key: Key) -> Tensor:
    """A random motion of the grid onto itself: where each pixel's value is taken from, as a flat index.

    Args:
        shape: grid `(y, x)`.
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


def move(image: Tensor, taken: Tensor) -> Tensor:
    """`T x`: the image whose pixels are taken from where `moved` says.

    Args:
        image: `(…, sets, y, x)`.
        taken: int64 `(…, y, x)`, a motion of each image, all its sets alike.
    """
    places = taken.flatten(-2).unsqueeze(-2).expand(*image.shape[:-2], -1)
    return image.flatten(-2).gather(-1, places).view_as(image)
