"""Coil sensitivity maps and what they are made of."""

from noref.coils.calibration import acs_box, calibration
from noref.coils.compression import compressed
from noref.coils.espirit import espirit
from noref.coils.maps import SUSPECT, acs_maps, estimate_maps, folded
from noref.coils.whitening import whitened

__all__ = [
    "SUSPECT",
    "acs_box",
    "acs_maps",
    "calibration",
    "compressed",
    "espirit",
    "estimate_maps",
    "folded",
    "whitened",
]
