"""The images that a server sends: what was reconstructed, where and when it was measured."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor

from noref.formats.mrd_images import (
    COMMENT,
    MrdImage,
    as_xml,
    attributes_of,
    image,
    parse_attributes,
    place,
    view_of,
)
from noref.scan import Scan

Kind = Literal["magnitude", "complex"]
"""What of an image is sent."""

COPIED = (
    "measurement_uid",
    "position",
    "read_dir",
    "phase_dir",
    "slice_dir",
    "patient_table_position",
    "acquisition_time_stamp",
    "physiology_time_stamp",
    "user_int",
    "user_float",
)
"""Fields that an image has from its first read-out."""

COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")


def image_of(values: Tensor, scan: Scan, head: NDArray[Any], kind: Kind, made: str) -> MrdImage:
    """An image to send; its series is the number of its encoding space.

    Its directions are those of its own pixels, where they are known, and not copies of the read-outs'.

    Args:
        values: complex64 `(y, x)`.
        scan: that it was made of, whose pixels it has.
        head: header of the first read-out of the scan.
        kind: the magnitude as float32, or complex64.
        made: what reconstructed it.
    """
    array = (values if kind == "complex" else values.abs()).resolve_conj().numpy()
    sent = image(array, view_of(array.shape, scan.header), as_xml(attributes_of(scan.header, made)))
    for name in COPIED:
        sent.head[name] = head[name]
    for name in COUNTERS:
        sent.head[name] = head["idx"][name]
    place(sent.head, scan.header)
    sent.head["image_series_index"] = head["encoding_space_ref"]
    return sent


def made_by(sent: MrdImage) -> str:
    """What an image says of how it was made, or ""."""
    return next(iter(parse_attributes(sent.attributes).get(COMMENT, ())), "")
