"""What unrolled networks begin with: the channels that fit the map sets, and the first image."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.physics import Encoding

Start: TypeAlias = Literal["adjoint", "sense"]
"""The first image: `adjoint`, `Aᴴy`, or `sense`, conjugate gradients towards `(AᴴA + λ)⁻¹ Aᴴy`."""

_DAMPING, _ITERATIONS = 0.001, 30


def check_channels(network: str, channels: int) -> None:
    """Raises `NorefError` unless the channels are 2·sets."""
    if channels < 2 or channels % 2:
        raise NorefError(f"{network}: channels is {channels}; give 2·sets")


def adjoint_image(network: str, channels: int, kspace: Tensor, encoding: Encoding) -> Tensor:
    """`Aᴴy` as pairs `(batch, 2·sets, y, x)` of complex k-space `(batch, coils, ky, kx)`, without guesses.

    A network of one channel, for real images, fits one set.

    Raises:
        NorefError: if the encoding has other map sets than the network has channels for.
    """
    if 2 * encoding.sets != max(channels, 2):
        raise NorefError(
            f"{network}: {encoding.sets} map sets do not fit a network of {channels} channels;"
            f" train it with network.channels={2 * encoding.sets}"
        )
    return encoding.adjoint_pairs(torch.view_as_real(kspace))


def first_image(kspace: Tensor, adjoint: Tensor, encoding: Encoding, start: Start) -> Tensor:
    """The first image, pairs `(batch, 2·sets, y, x)`, of all that is shown, guesses included.

    Args:
        kspace: complex `(batch, coils, ky, kx)`.
        adjoint: its `adjoint_image`.
        encoding: of what is shown, and of what data consistency holds on.
        start: how; one coil says no more than the adjoint.
    """
    if encoding.shown is not None:
        encoding = encoding.beginning()
        adjoint = encoding.adjoint_pairs(torch.view_as_real(kspace))
    if start == "sense" and encoding.coils > 1:
        return encoding.solve_pairs(adjoint, _DAMPING, iterations=_ITERATIONS, tolerance=0)
    return adjoint
