"""How an image becomes a scan."""

from typing import TypeAlias

from noref.physics.cartesian import CartesianEncoding, cartesian, constant_along_readout
from noref.physics.fourier import crop_centre, fft1c, fft2c, ifft1c, ifft2c, pad_centre
from noref.physics.pairs import to_complex, to_pairs
from noref.physics.solve import conjugate_gradients

Encoding: TypeAlias = CartesianEncoding
"""The interface of every encoding operator; the Cartesian one is the only kind so far."""

__all__ = [
    "CartesianEncoding",
    "Encoding",
    "cartesian",
    "conjugate_gradients",
    "constant_along_readout",
    "crop_centre",
    "fft1c",
    "fft2c",
    "ifft1c",
    "ifft2c",
    "pad_centre",
    "to_complex",
    "to_pairs",
]
