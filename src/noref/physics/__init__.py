"""How an image becomes a scan."""

from noref.physics.cartesian import CartesianEncoding, cartesian, constant_along_readout
from noref.physics.encoding import Encoding
from noref.physics.fourier import crop_centre, fft1c, fft2c, ifft1c, ifft2c, pad_centre
from noref.physics.noncartesian import NonCartesianEncoding, compensation, noncartesian
from noref.physics.nufft import nufft, nufft_adjoint
from noref.physics.pairs import to_complex, to_pairs
from noref.physics.solve import conjugate_gradients

__all__ = [
    "CartesianEncoding",
    "Encoding",
    "NonCartesianEncoding",
    "cartesian",
    "compensation",
    "conjugate_gradients",
    "constant_along_readout",
    "crop_centre",
    "fft1c",
    "fft2c",
    "ifft1c",
    "ifft2c",
    "noncartesian",
    "nufft",
    "nufft_adjoint",
    "pad_centre",
    "to_complex",
    "to_pairs",
]
