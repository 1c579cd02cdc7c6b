"""Classical reconstructions, fitted per scan: what a network must beat."""

from noref.classical.cg_sense import CGSense
from noref.classical.selection import Choice, Classical, choose, fit, reconstruct
from noref.classical.tv import TotalVariation
from noref.classical.wavelet import Wavelet
from noref.classical.zero_filled import ZeroFilled

CLASSICAL: dict[str, Classical] = {
    method.name: method for method in (ZeroFilled(), CGSense(), TotalVariation(), Wavelet())
}
"""Every classical method by its name, with its default settings."""

__all__ = [
    "CLASSICAL",
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
