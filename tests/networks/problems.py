"""Small networks, scans for them to reconstruct, and what their gradients come to."""

from __future__ import annotations

from typing import Any

import torch
from synthetic import image, maps
from torch import Tensor

from noref.networks import NETWORKS, Network
from noref.physics import CartesianEncoding, cartesian

SMALL: dict[str, dict[str, Any]] = {
    "admmcsnet": {"stages": 2, "features": 4, "kernel": 3, "knots": 11},
    "istanet": {"phases": 2, "features": 4, "start": "sense"},
    "kikinet": {"iterations": 2, "layers": 3, "features": 4},
    "modl": {"unrolls": 2, "layers": 3, "features": 4},
    "ssdunet": {"unrolls": 2, "blocks": 1, "features": 4},
    "unet": {"features": 4, "pools": 2},
    "varnet": {"cascades": 2, "features": 4, "pools": 2},
    "vsharp": {"steps": 2, "gradient_steps": 2, "features": 4, "pools": 2},
}
"""A small size of every network."""


def small(name: str, seed: int = 0, **arguments: Any) -> Network:
    """A small network; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return NETWORKS[name](**{**SMALL[name], **arguments})


def problem(
    shape: tuple[int, int] = (14, 11), coils: int = 2, sets: int = 1, batch: int = 2
) -> tuple[Tensor, CartesianEncoding]:
    """k-space of random lines, and its encoding; one coil has maps of one."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(batch, shape[0], 1, generator=generator) < 0.6).expand(batch, *shape).clone()
    seen = torch.ones(batch, sets, 1, *shape, dtype=torch.complex64)
    if coils > 1:
        seen = torch.stack([maps(shape, coils, sets, seed=i) for i in range(batch)])
    encoding = cartesian(mask, seen)
    return encoding.forward(torch.stack([image(shape, sets, seed=i) for i in range(batch)])), encoding


def gradients(net: Network, kspace: Tensor, encoding: CartesianEncoding) -> dict[str, Tensor]:
    """Of the last image, of those of unrolled steps, and of the penalty."""
    net.zero_grad()
    estimate = net(kspace, encoding)
    graded = sum(x.abs().square().sum() for x in (estimate.image, *estimate.steps))
    (graded if estimate.penalty is None else graded + estimate.penalty.sum()).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
