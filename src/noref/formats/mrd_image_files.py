"""Images that an MRD version 1 file holds: what a scanner, or another reconstruction, made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.formats.base import as_complex64, numeric, opened
from noref.formats.geometry import Vector, vector
from noref.scan import Header


def holds_images(path: Path) -> bool:
    """Whether an HDF5 file holds series of images as MRD has them, `image_N`."""
    if not h5py.is_hdf5(path):
        return False
    with opened(path) as file:
        return next(_series(file), None) is not None


def read_images(path: Path) -> list[tuple[NDArray[np.float32], Header]]:
    """The magnitudes `(y, x)` of all slices of all series, each with where it lies.

    Several channels are combined by their root sum of squares.

    Raises:
        NorefError: if the file is damaged, or images and headers do not fit.
    """
    found = []
    with opened(path) as file:
        for name, group in _series(file):
            heads, data = np.ravel(group["header"][()]), group["data"][()]
            if data.ndim != 5 or len(heads) != len(data) or data.shape[2] != 1 or not numeric(data.dtype):
                raise NorefError(
                    f"{path}: {name} holds no single slices (image, channel, 1, y, x); export those"
                )
            magnitudes = np.sqrt((np.abs(as_complex64(data)) ** 2).sum(1))[:, 0]
            found += [(one, _header(head, one)) for one, head in zip(magnitudes, heads, strict=True)]
    return found


def _series(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Name and group of every series, in the order of their names."""
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and "header" in item and "data" in item:
            kind = item["header"].dtype.names or ()
            names.extend([name] * ("matrix_size" in kind and "field_of_view" in kind))

    file.visititems(visit)
    yield from ((name, file[name]) for name in sorted(names))


def _header(head: Any, image: NDArray[np.float32]) -> Header:
    across, down, thick = (float(size) for size in head["field_of_view"])
    if not (across > 0 and down > 0):
        return Header()
    spacing = (down / image.shape[0], across / image.shape[1], thick)
    axes: tuple[Vector, ...] = tuple(vector(head[name]) for name in ("read_dir", "phase_dir", "slice_dir"))
    if not np.allclose([np.linalg.norm(axis) for axis in axes], 1, atol=1e-2):
        return Header(spacing=spacing)
    return Header(spacing=spacing, position=vector(head["position"]), directions=axes)
