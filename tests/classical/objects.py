"""A piecewise smooth object behind several coils, undersampled in lines as a scanner would."""

from __future__ import annotations

import torch
from synthetic import maps
from torch import Tensor

from noref.physics import cartesian
from noref.sampling.holdout import hold_out
from noref.sampling.lines import random_lines
from noref.scan import Scan
from noref.seeding import Key


def ellipses(shape: tuple[int, int]) -> Tensor:
    """Ellipses with a gentle gradient and a smooth phase, complex `(1, y, x)`, about 1 at most."""
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    y, x = y[:, None], x[None]
    bodies = [(0.0, 0.0, 0.9, 0.7, 0.6), (0.1, 0.0, 0.8, 0.6, -0.3), (0.2, -0.25, 0.3, 0.15, 0.3)]
    bodies += [(0.2, 0.25, 0.35, 0.2, -0.2), (-0.4, 0.0, 0.2, 0.25, 0.4), (-0.1, 0.1, 0.04, 0.05, 0.3)]
    image = torch.zeros(shape)
    for cy, cx, ry, rx, brightness in bodies:
        image += brightness * (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)
    image = image * (1 + 0.2 * y)
    return torch.polar(image.clamp_min(0), torch.broadcast_to(y + x**2, shape))[None]


def acquired(
    image: Tensor, coils: int = 8, *, noise: float = 0.01, seed: int = 0, acceleration: float = 4
) -> Scan:
    """Random lines with an ACS of a twelfth of them, a tenth of the others held out.

    Args:
        image: complex `(sets, y, x)`, which becomes the reference.
        coils: number of coils.
        noise: standard deviation per complex sample.
        seed: of mask, noise, Γ and coils.
        acceleration: `R`.
    """
    shape = (image.shape[-2], image.shape[-1])
    key = Key(seed, "ellipses", "test")
    mask = random_lines(shape, acceleration, shape[0] // 12, key.fold("mask"))
    coil_maps = maps(shape, coils, len(image), seed) / len(image) ** 0.5
    kspace = cartesian(mask[None], coil_maps[None]).full().forward(image[None])[0]
    kspace = kspace + noise * torch.randn(kspace.shape, dtype=kspace.dtype, generator=key.torch())
    scan = Scan("ellipses", kspace, torch.ones_like(mask), mask, maps=coil_maps, reference=image)
    return hold_out(scan, 0.1, seed)


def psnr(image: Tensor, reference: Tensor) -> float:
    """Decibels below the reference's maximum, of magnitudes."""
    error = (image.abs() - reference.abs()).square().mean()
    return float(10 * torch.log10(reference.abs().max() ** 2 / error))
