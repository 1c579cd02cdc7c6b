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
from noref.formats.mrd_header import MrdHeader, parse
from noref.formats.mrd_images import MrdImage, header_of
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
            measured = _measured(group.parent)
            images = map(MrdImage, heads, _attributes(group, len(heads)), data)
            headers = [header_of(image, measured) for image in images]
            found += list(zip(magnitudes, headers, strict=True))
    return found


def _measured(group: Any) -> MrdHeader:
    """The header of the measurement that a series is of; one that says nothing where there is none."""
    texts = np.ravel(group["xml"][()]).tolist() if "xml" in group else []
    return (parse(bytes(texts[0])) if texts else None) or MrdHeader()


def _attributes(group: Any, number: int) -> list[str]:
    texts = np.ravel(group["attributes"][()]).tolist() if "attributes" in group else []
    return [bytes(text).decode(errors="replace") for text in texts] if len(texts) == number else [""] * number


def _series(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Name and group of every series, in the order of their names."""
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and "header" in item and "data" in item:
            kind = item["header"].dtype.names or ()
            names.extend([name] * ("matrix_size" in kind and "field_of_view" in kind))

    file.visititems(visit)
    yield from ((name, file[name]) for name in sorted(names))
