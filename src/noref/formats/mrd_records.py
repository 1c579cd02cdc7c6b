"""The records of MRD version 1 as the format's own package defines them, in files as on the wire."""

from __future__ import annotations

import warnings
from typing import Any

import h5py
import numpy as np

GROUP = "dataset"
"""The group of a file that tools look for."""

DATA_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<u2"),
    2: np.dtype("<i2"),
    3: np.dtype("<u4"),
    4: np.dtype("<i4"),
    5: np.dtype("<f4"),
    6: np.dtype("<f8"),
    7: np.dtype("<c8"),
    8: np.dtype("<c16"),
}
"""What images are made of, by the format's numbers."""

FLOAT, COMPLEX = 5, 7
"""Those of them that noref writes."""

MAGNITUDE_IMAGE, COMPLEX_IMAGE = 1, 5
"""The format's numbers of what images show."""


def readout_type() -> np.dtype[Any]:
    """A read-out in a file: `head`, `traj`, `data`."""
    # The package tells all of Python to show warnings when it is imported.
    with warnings.catch_warnings():
        from ismrmrd.hdf5 import acquisition_dtype
    made: np.dtype[Any] = np.dtype(acquisition_dtype)
    return made


def readout_head_type() -> np.dtype[Any]:
    """The header of a read-out, 340 bytes."""
    with warnings.catch_warnings():
        from ismrmrd.hdf5 import acquisition_header_dtype
    made: np.dtype[Any] = np.dtype(acquisition_header_dtype)
    return made


def image_head_type() -> np.dtype[Any]:
    """The header of an image, 198 bytes."""
    with warnings.catch_warnings():
        from ismrmrd.hdf5 import image_header_dtype
    made: np.dtype[Any] = np.dtype(image_header_dtype)
    return made


def put_xml(group: h5py.Group, text: bytes) -> None:
    """Writes the header of a measurement."""
    # Not marked as UTF-8, which the format's C library refuses to read.
    group.create_dataset("xml", data=[text], dtype=h5py.string_dtype("ascii"))
