"""The SIAT head scans of the standing experiments: 6 scans of 30 combined complex T2 slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noref.errors import NorefError

SCANS = range(1, 7)


def slices(data: Path, scan: int) -> Tensor:
    """The 30 slices of a scan, complex64 `(slices, 256, 256)`, scaled to a maximum of 1.

    Raises:
        NorefError: if the scan is not there.
    """
    files = sorted((data / "brain_siat").glob(f"siat_scan{scan}_*.npy"))
    if len(files) != 1:
        raise NorefError(
            f"{data / 'brain_siat'}: there must be one siat_scan{scan}_*.npy; give --data the folder that "
            "holds the scans of the standing experiments"
        )
    found = torch.from_numpy(np.load(files[0], allow_pickle=False)[:, 7:263])
    return found / found.abs().max()
