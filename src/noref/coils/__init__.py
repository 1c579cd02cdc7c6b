"""Coil sensitivity maps and what they are made of."""

from noref.coils.calibration import acs_box, calibration

__all__ = ["acs_box", "calibration"]
