"""Random encodings of odd and even sizes, on the grid and off it, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor

from noref.physics import CartesianEncoding, Encoding, NonCartesianEncoding, cartesian, noncartesian
from noref.sampling.spokes import radial

BATCH = 2
SHAPES = [(8, 8), (7, 5), (6, 9)]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def make_mask(kind: str, shape: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    width = 1 if kind == "lines" else shape[1]
    mask = torch.rand(BATCH, shape[0], width, generator=generator) < 0.6
    mask[:, shape[0] // 2] = True
    return mask.expand(BATCH, *shape).clone()


def make_maps(shape: tuple[int, int], coils: int, sets: int) -> Tensor:
    maps = draw(BATCH, sets, coils, *shape, seed=3)
    return maps / maps.abs().square().sum(2, keepdim=True).sqrt()


def make(shape: tuple[int, int], coils: int, sets: int, kind: str) -> Encoding:
    return encode(make_maps(shape, coils, sets), kind)


def encode(maps: Tensor, kind: str) -> Encoding:
    """Of lines or points on the grid, or of weighted spokes, two trajectories in a batch."""
    shape = (maps.shape[-2], maps.shape[-1])
    return make_spokes(maps) if kind == "spokes" else cartesian(make_mask(kind, shape), maps)


def make_cartesian(shape: tuple[int, int], coils: int, sets: int, kind: str) -> CartesianEncoding:
    return cartesian(make_mask(kind, shape), make_maps(shape, coils, sets))


def make_spokes(maps: Tensor) -> NonCartesianEncoding:
    samples = 2 * max(maps.shape[-2:])
    places = torch.stack([radial(5, samples, golden=golden) for golden in (False, True)])
    generator = torch.Generator().manual_seed(8)
    mask = torch.rand(BATCH, 5, samples, generator=generator) < 0.8
    weights = torch.rand(BATCH, 5, samples, generator=generator, dtype=torch.float64)
    return noncartesian(mask, maps, places, weights)
