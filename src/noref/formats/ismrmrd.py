"""Raw data as ISMRMRD (MRD version 1) HDF5: a table of read-outs and an XML header for each measurement.

Version 1.8 of the format, http://ismrmrd.github.io; Inati et al., ISMRM Raw data format, MRM 77 (2017).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from noref.formats.base import opened
from noref.formats.filled import Acquired
from noref.formats.mrd_header import MrdHeader, parse
from noref.formats.mrd_measurement import Measurement, with_noise
from noref.formats.mrd_readouts import FileValues, Values, is_data, read_table
from noref.formats.mrd_scans import Averages, MeasuredSlices
from noref.scan import Role


def is_ismrmrd(path: Path) -> bool:
    """Whether an HDF5 file holds a group of this format.

    Raises:
        NorefError: if it is damaged.
    """
    with opened(path) as file:
        return bool(_groups(file))


class IsmrmrdSlices(MeasuredSlices):
    """The slices of one file: of all measurements, scans and slices in it.

    Args:
        path: of the file.
        role: what the scans are to the training.
        averages: see `MeasuredSlices`.
        acquired: which lines count as measured, see `formats.filled`.
        calibrating: see `MeasuredSlices`.

    Raises:
        NorefError: if the file is damaged or holds no image, or its parts contradict each other.
    """

    format = "ISMRMRD HDF5"

    def __init__(
        self,
        path: Path,
        *,
        role: Role = Role.TARGET,
        averages: Averages = "mean",
        acquired: Acquired = "header",
        calibrating: bool = False,
    ) -> None:
        measurements = measurements_of(path)
        # Scanners keep noise scans in a measurement of their own.
        spare = next((m for m in measurements if m.noise is not None), None)
        pairs = [(one, one if one.noise is not None else spare) for one in measurements]
        super().__init__(path, pairs, role, averages, acquired, calibrating=calibrating)

    @contextmanager
    def _values(self, one: Measurement) -> Iterator[Values]:
        with opened(self.path) as file:
            yield FileValues(_data(file, one.group))


def measurements_of(path: Path) -> list[Measurement]:
    """All measurements in a file, with the covariances of their noise scans.

    Raises:
        NorefError: if it is damaged, or parts of it contradict each other.
    """
    with opened(path) as file:
        return [_measurement(path, file, name) for name in _groups(file) if _data(file, name)]


def _groups(file: h5py.File) -> list[str]:
    """Names of all groups with read-outs, or with a header and images instead."""
    found = set[str]()

    def visit(name: str, item: Any) -> None:
        group, _, last = name.rpartition("/")
        if (last == "data" and is_data(item)) or (last == "xml" and isinstance(item, h5py.Dataset)):
            found.add(group)

    file.visititems(visit)
    return sorted(found)


def _data(file: h5py.File, group: str) -> Any:
    """The read-outs of a group, or None."""
    item = file[group].get("data") if group else file.get("data")
    return item if is_data(item) else None


def _measurement(path: Path, file: h5py.File, group: str) -> Measurement:
    data = _data(file, group)
    table = read_table(path, data)
    place = file[group] if group else file
    texts = np.ravel(place["xml"][()]).tolist() if "xml" in place else []
    header = parse(bytes(texts[0])) if texts else MrdHeader()
    if header is None:
        warnings.warn(
            f"{path}: its header is no XML; matrix and centre are taken from the data", stacklevel=2
        )
        header = MrdHeader()
    return with_noise(path, FileValues(data), Measurement(group, header, table, None, 0.0))
