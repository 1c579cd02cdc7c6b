"""Undersampling full scans as others were undersampled."""

from __future__ import annotations

from statistics import median

from torch import Tensor

from noref.coils.calibration import acs_box
from noref.data.dataset import Dataset
from noref.sampling.draw import sampled_in_lines
from noref.sampling.masks import MASKS
from noref.sampling.offsets import shifted_offsets


def sampled_as(targets: Dataset) -> dict[str, str | float]:
    """`mask`, `acceleration`, `acs`, … of a preparation that make full scans look acquired as targets were.

    Those of the targets' own preparation where that undersamples them; else what their masks Ω show: whole
    lines, evenly spaced or not, or points; the median R, and as many calibration lines, whatever the matrix.
    """
    if targets.how.mask in MASKS:
        how = targets.how
        asked: dict[str, str | float] = {
            "mask": how.mask,
            "acceleration": how.acceleration,
            "acs": how.acs,
        }
        return asked if how.partial_fourier == 1 else asked | {"partial_fourier": how.partial_fourier}
    rates, calibrated, masks = list[float](), list[int](), list[Tensor]()
    for mask, padding in targets.acquired:
        rates.append(int((~padding).sum()) / int(mask.sum()))
        rows, _ = acs_box(mask)
        calibrated.append(rows.stop - rows.start)
        masks.append(mask)
    kind = "random2d"
    if all(map(sampled_in_lines, masks)):
        kind = "equispaced" if all(shifted_offsets([mask]) for mask in masks) else "lines"
    return {"mask": kind, "acceleration": round(median(rates), 2), "acs": int(median(calibrated))}
