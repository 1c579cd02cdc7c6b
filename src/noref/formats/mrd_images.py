"""Images of MRD version 1: what one is, in a file as on the wire, and how series of them are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from noref.files import whole
from noref.formats.mrd_header import EncodingSpace, MrdHeader, Space, build
from noref.formats.mrd_records import (
    COMPLEX,
    COMPLEX_IMAGE,
    DATA_TYPES,
    FLOAT,
    GROUP,
    MAGNITUDE_IMAGE,
    image_head_type,
    put_xml,
)
from noref.scan import Header

NO_ATTRIBUTES = "<ismrmrdMeta></ismrmrdMeta>"


@dataclass(frozen=True)
class MrdImage:
    """One image.

    Attributes:
        head: its header, one record of `image_head_type`.
        attributes: what else is told of it, XML.
        data: `(channels, z, y, x)`, of the type that its header names.
    """

    head: NDArray[Any]
    attributes: str
    data: NDArray[Any]


def image(values: NDArray[Any], view: Sequence[float], attributes: str = NO_ATTRIBUTES) -> MrdImage:
    """An image of one slice, placed nowhere.

    Args:
        values: complex64 or float32 `(y, x)`.
        view: millimetres along x, y and z.
        attributes: XML.
    """
    kind, shows = (COMPLEX, COMPLEX_IMAGE) if np.iscomplexobj(values) else (FLOAT, MAGNITUDE_IMAGE)
    data = np.ascontiguousarray(values[None, None], DATA_TYPES[kind])
    head = np.zeros((), image_head_type())
    head["version"], head["data_type"], head["channels"], head["image_type"] = 1, kind, 1, shows
    head["matrix_size"], head["field_of_view"] = data.shape[:0:-1], view
    head["attribute_string_len"] = len(attributes.encode())
    return MrdImage(head, attributes, data)


def write_images(path: Path, images: NDArray[Any], header: Header) -> None:
    """Writes images `(slices, y, x)`, complex or magnitudes, as one series, `image_0`.

    Args:
        path: of the file.
        images: complex64, or real.
        header: of the first slice; the others follow along the slice normal.
    """
    _, y, x = images.shape
    steps = header.spacing or (0.0, 0.0, 0.0)
    view = (x * steps[1], y * steps[0], steps[2])
    series = []
    for number, values in enumerate(images):
        made = image(values, view)
        made.head["slice"] = made.head["image_index"] = number
        if header.position is not None and header.directions is not None:
            read, phase, normal = header.directions
            made.head["read_dir"], made.head["phase_dir"], made.head["slice_dir"] = read, phase, normal
            made.head["position"] = np.array(header.position) + number * steps[2] * np.array(normal)
        series.append(made)
    space = Space((x, y, 1), view)
    xml = build(MrdHeader([EncodingSpace(space, space)], protocol=header.protocol), 1)
    write_series(path, {0: series}, xml)


def write_series(path: Path, series: Mapping[int, Sequence[MrdImage]], xml: bytes) -> None:
    """Writes series of images as they are, `image_N` each.

    Args:
        path: of the file.
        series: by their numbers; the images of one are of one size and type.
        xml: header of the measurement.
    """
    with whole(path) as temporary, h5py.File(temporary, "w") as file:
        group = file.create_group(GROUP)
        put_xml(group, xml)
        for number, images in series.items():
            place = group.create_group(f"image_{number}")
            place["header"] = np.stack([one.head for one in images])
            place["data"] = _as_stored(np.stack([one.data for one in images]))
            texts = [one.attributes.encode("ascii", "xmlcharrefreplace") for one in images]
            place.create_dataset("attributes", data=texts, dtype=h5py.string_dtype("ascii"))


def _as_stored(data: NDArray[Any]) -> NDArray[Any]:
    """Complex numbers as the pairs that the format's tools know."""
    if not np.iscomplexobj(data):
        return data
    half = f"<f{data.dtype.itemsize // 2}"
    return data.view(np.dtype([("real", half), ("imag", half)]))
