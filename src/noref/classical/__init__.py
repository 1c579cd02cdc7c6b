"""Classical reconstructions, fitted per scan: what a network must beat."""

from noref.classical.cg_sense import CGSense
from noref.classical.grappa import GRAPPA
from noref.classical.raki import RAKI
from noref.classical.selection import Choice, Classical, choose, fit, reconstruct
from noref.classical.tv import TotalVariation
from noref.classical.wavelet import Wavelet
from noref.classical.zero_filled import ZeroFilled

CLASSICAL: dict[str, Classical] = {
    method.name: method for method in (ZeroFilled(), CGSense(), TotalVariation(), Wavelet(), GRAPPA(), RAKI())
}
"""Every classical method by its name, with its default settings."""

ANY_SAMPLING = tuple(name for name, method in CLASSICAL.items() if not method.evenly_spaced)
"""The methods that refuse no scan."""

__all__ = [
    "ANY_SAMPLING",
    "CLASSICAL",
    "GRAPPA",
    "RAKI",
    "CGSense",
    "Choice",
    "Classical",
    "TotalVariation",
    "Wavelet",
    "ZeroFilled",
    "choose",
    "fit",
    "reconstruct",
]
