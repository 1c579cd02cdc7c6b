"""What a scan's sampling tells of how it was acquired: partial echo, partial Fourier, padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noref.scan import Scan, padding_of

_LEAST = 1 / 16
"""Share of an axis that has to be missing on one side for more than a gap between lines."""


def recognised(scan: Scan) -> list[str]:
    """Which of `partial echo`, `partial Fourier` and `padding` a scan shows; none off the Cartesian grid.

    Echo and Fourier are partial where k-space inside the padding ends on one side, more than a sixteenth of
    the axis before the end, and farther from it than twice the widest gap and the other side's distance.
    """
    if scan.trajectory is not None:
        return []
    padding = padding_of(scan)
    found = []
    for name, axis in (("partial echo", 0), ("partial Fourier", 1)):
        inside = ~padding.all(axis).numpy()
        if _one_sided(scan.measured.any(axis).numpy()[inside]):
            found.append(name)
    if bool(padding.any()):
        found.append("padding")
    return found


def _one_sided(sampled: NDArray[np.bool_]) -> bool:
    """Whether positions `(n,)` are not sampled up to one end, and more than gaps between them explain."""
    at = np.flatnonzero(sampled)
    if len(at) == 0:
        return False
    gaps = np.diff(at).max(initial=1) - 1
    ends = sorted((int(at[0]), len(sampled) - 1 - int(at[-1])))
    return bool(ends[1] > max(_LEAST * len(sampled), 2 * max(gaps, ends[0])))
