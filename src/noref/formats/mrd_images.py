"""Images of MRD version 1: what one is, in a file as on the wire, and how series of them are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
from numpy.typing import NDArray

from noref.formats.base import new_hdf5
from noref.formats.geometry import COUNTERS, Images, Vector, alike, slices_of, vector, with_counters
from noref.formats.mrd_geometry import UNIT, directions_of
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

ROW, COLUMN = "ImageRowDir", "ImageColumnDir"
"""Attributes: directions in which an image's pixels go on along a row and along a column."""

ECHO_TIME, INVERSION_TIME, COMMENT = "EchoTime", "InversionTime", "ImageComment"
"""Attributes: milliseconds, and what made the image."""


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


def view_of(shape: tuple[int, ...], header: Header) -> tuple[float, float, float]:
    """Millimetres along x, y and z of an image `(y, x)`, along z its thickness; 0 where not known."""
    if header.spacing is None:
        return (0.0, 0.0, 0.0)
    y, x, z = header.spacing
    return shape[-1] * x, shape[-2] * y, z if header.thickness is None else header.thickness


def attributes_of(header: Header, made: str = "") -> dict[str, list[str]]:
    """What the attributes of an image tell beside its header.

    Args:
        header: its geometry and timing.
        made: what reconstructed it.
    """
    told = {"DataRole": ["Image"]}
    if made:
        told |= {COMMENT: [made], "ImageProcessingHistory": ["noref", made]}
    if header.directions is not None:
        told |= {
            name: [str(value) for value in direction]
            for name, direction in zip((ROW, COLUMN), header.directions, strict=False)
        }
    times = {ECHO_TIME: header.echo_time, INVERSION_TIME: header.inversion_time}
    return told | {name: [str(value)] for name, value in times.items() if value is not None}


def as_xml(attributes: Mapping[str, Sequence[str]]) -> str:
    """Attributes as the text in which the format has them."""
    root = ElementTree.Element("ismrmrdMeta")
    for name, values in attributes.items():
        meta = ElementTree.SubElement(root, "meta")
        ElementTree.SubElement(meta, "name").text = name
        for value in values:
            ElementTree.SubElement(meta, "value").text = value
    text: bytes = ElementTree.tostring(root, encoding="us-ascii")
    return text.decode()


def parse_attributes(text: str) -> dict[str, list[str]]:
    """The attributes in a text; none where it is no XML."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return {}
    return {
        meta.findtext("name") or "": [value.text or "" for value in meta.findall("value")]
        for meta in root.iter("meta")
    }


def place(head: NDArray[Any], header: Header) -> None:
    """Says in an image's header where its pixels lie; nothing where that is not known.

    `read_dir` and `phase_dir` are the directions of rows and columns of the image as it is, which are half a
    turn from those of the read-outs of Siemens scanners, see `directions_of`.
    """
    if header.position is not None and header.directions is not None:
        head["position"] = header.position
        head["read_dir"], head["phase_dir"], head["slice_dir"] = header.directions


def header_of(made: MrdImage, measured: MrdHeader) -> Header:
    """Geometry and timing of an image.

    Its rows and columns lie as its attributes `ImageRowDir` and `ImageColumnDir` say. Without them the
    directions in its header are copies of those of read-outs, and the image is one by the inverse transform,
    as Gadgetron and most others make it.

    Args:
        made: the image.
        measured: header of the measurement that it was made of.
    """
    head, attributes = made.head, parse_attributes(made.attributes)
    rows, columns = made.data.shape[-2:]
    wide, high, thick = (float(length) for length in head["field_of_view"])
    spacing = (high / rows, wide / columns, thick)
    directions = _pixels_along(attributes, head) or directions_of(measured, head)
    contrast, echoes = int(head["contrast"]), measured.echo_times
    told = Header(
        spacing=spacing if min(spacing) > 0 else None,
        thickness=thick if thick > 0 else None,
        position=None if directions is None else vector(head["position"]),
        directions=directions,
        protocol=measured.protocol,
        repetition_time=measured.repetition_time,
        echo_time=_number(attributes, ECHO_TIME) or (echoes[contrast] if contrast < len(echoes) else None),
        inversion_time=_number(attributes, INVERSION_TIME),
        flip_angle=measured.flip_angle,
        field_strength=measured.field_strength,
    )
    return with_counters(told, {name: head[name] for name in COUNTERS})


def _pixels_along(attributes: Mapping[str, Sequence[str]], head: NDArray[Any]) -> tuple[Vector, ...] | None:
    """Directions along x, y and the slice normal where the attributes tell the first two; else None."""
    try:
        along = [np.array(attributes.get(name, ()), float) for name in (ROW, COLUMN)]
    except ValueError:
        return None
    along.append(np.asarray(head["slice_dir"], float))
    if any(axis.shape != (3,) or abs(np.linalg.norm(axis) - 1) >= UNIT for axis in along):
        return None
    return tuple(vector(axis) for axis in along)


def _number(attributes: Mapping[str, Sequence[str]], name: str) -> float | None:
    try:
        return float(next(iter(attributes.get(name, ()))))
    except (StopIteration, ValueError):
        return None


def write_images(path: Path, images: Images, headers: Sequence[Header], made: str = "") -> None:
    """Writes images, complex or magnitudes, those of each size as a series, `image_0`, `image_1`, …

    Args:
        path: of the file.
        images: complex64, or real.
        headers: of every image.
        made: what reconstructed them.
    """
    series: dict[int, list[MrdImage]] = {}
    for number, indices in enumerate(alike(images)):
        own = [headers[index] for index in indices]
        series[number] = []
        for index, header, slice_ in zip(indices, own, slices_of(own), strict=True):
            values = images[index]
            one = image(values, view_of(values.shape, header), as_xml(attributes_of(header, made)))
            one.head["slice"], one.head["image_index"] = slice_, len(series[number])
            one.head["image_series_index"] = number
            for name in COUNTERS:
                one.head[name] = getattr(header, name)
            place(one.head, header)
            series[number].append(one)
    write_series(path, series, build(measurement_of(images, headers), 1))


def measurement_of(images: Images, headers: Sequence[Header]) -> MrdHeader:
    """The header of a measurement of images, with an encoding space for those of each size.

    Args:
        images: all of them.
        headers: of every image.
    """
    first, spaces = headers[0], []
    last = {name: max(getattr(header, name) for header in headers) for name in COUNTERS}
    for indices in alike(images):
        own, (y, x) = [headers[index] for index in indices], images[indices[0]].shape
        space = Space((x, y, 1), view_of((y, x), own[0]))
        most = {name: max(getattr(header, name) for header in own) for name in COUNTERS}
        spaces.append(EncodingSpace(space, space, last=most | {"slice": max(slices_of(own))}))
    echoes = {header.contrast: header.echo_time for header in headers}
    times = [time for _, time in sorted(echoes.items()) if time is not None]
    return MrdHeader(
        spaces,
        protocol=first.protocol,
        field_strength=first.field_strength,
        repetition_time=first.repetition_time,
        echo_times=tuple(times) if len(times) == last["contrast"] + 1 else (),
        inversion_time=first.inversion_time,
        flip_angle=first.flip_angle,
    )


def write_series(path: Path, series: Mapping[int, Sequence[MrdImage]], xml: bytes) -> None:
    """Writes series of images as they are, `image_N` each.

    Args:
        path: of the file.
        series: by their numbers; the images of one are of one size and type.
        xml: header of the measurement.
    """
    with new_hdf5(path) as file:
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
