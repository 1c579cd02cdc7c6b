"""Networks whose passes can be followed by hand, a scan for them, and what grades them."""

from __future__ import annotations

import torch
from synthetic import scan, undersampled
from torch import Tensor, nn

from noref.losses import Objective
from noref.networks import Estimate, Network
from noref.physics import Encoding
from noref.scan import Scan
from noref.seeding import Key

SHAPE = (24, 20)

PLAIN = Objective(kspace={"nmse": 1.0}, weighting="none", penalty=0)

DUAL = Objective(
    kspace={"l1": 2.0, "nmse": 2.0},
    image={"l1": 2.0, "ssim": 2.0, "hfen1": 1.0, "hfen2": 1.0},
    dual=True,
    weighting="none",
)
"""As JSSL was published."""


class ZeroFilled(Network):
    """`a·Aᴴy`."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        return Estimate(self.gain * encoding.adjoint(kspace), encoding)


class Oracle(Network):
    """The same images, those of unrolled steps first, and maps if it has some, whatever it is shown."""

    def __init__(self, *images: Tensor, maps: Tensor | None = None) -> None:
        super().__init__()
        self.images, self.maps = images, maps

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        *steps, last = (one.expand(len(kspace), *one.shape) for one in self.images)
        if self.maps is not None:
            encoding = encoding.with_maps(self.maps.expand(len(kspace), *self.maps.shape))
        return Estimate(last, encoding, tuple(steps))


def target(seed: int = 0, coils: int = 1, noise: float = 0.0) -> Scan:
    """A scan of random points at 2×, as a method gets it."""
    return undersampled(scan(SHAPE, coils, seed, noise=noise), "random2d", 2, 6, seed).as_target()


def key(epoch: int = 0) -> Key:
    return Key(0, "s", "view", epoch)


def power(kspace: Tensor, mask: Tensor) -> float:
    """Energy of the samples in a mask."""
    return float(kspace[:, mask].abs().double().square().sum())
