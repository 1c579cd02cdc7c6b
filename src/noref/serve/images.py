"""The images that a server sends: what was reconstructed, where and when it was measured."""

from __future__ import annotations

from typing import Any, Literal
from xml.etree import ElementTree

from numpy.typing import NDArray
from torch import Tensor

from noref.formats.geometry import vector
from noref.formats.mrd_geometry import directions_of
from noref.formats.mrd_header import MrdHeader
from noref.formats.mrd_images import MrdImage, image
from noref.scan import Header, Scan

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

COMMENT = "ImageComment"


def image_of(values: Tensor, scan: Scan, head: NDArray[Any], kind: Kind, made: str) -> MrdImage:
    """An image to send; its series is the number of its encoding space.

    Args:
        values: complex64 `(y, x)`.
        scan: that it was made of, whose pixels it has.
        head: header of the first read-out of the scan.
        kind: the magnitude as float32, or complex64.
        made: what reconstructed it.
    """
    array = (values if kind == "complex" else values.abs()).resolve_conj().numpy()
    y, x, z = scan.header.spacing or (0.0, 0.0, 0.0)
    view = (array.shape[1] * x, array.shape[0] * y, z)
    sent = image(array, view, _attributes(made))
    for name in COPIED:
        sent.head[name] = head[name]
    for name in COUNTERS:
        sent.head[name] = head["idx"][name]
    sent.head["image_series_index"] = head["encoding_space_ref"]
    return sent


def header_of(sent: MrdImage, header: MrdHeader) -> Header:
    """The geometry of an image that a server has sent.

    Args:
        sent: the image.
        header: of the measurement that it was made of.
    """
    head = sent.head
    x, y, z = (
        float(view) / max(int(size), 1)
        for view, size in zip(head["field_of_view"], head["matrix_size"], strict=True)
    )
    directions = directions_of(header, head)
    return Header(
        spacing=(y, x, z) if x and y and z else None,
        position=None if directions is None else vector(head["position"]),
        directions=directions,
        protocol=header.protocol,
    )


def made_by(sent: MrdImage) -> str:
    """What an image says of how it was made, or ""."""
    try:
        root = ElementTree.fromstring(sent.attributes)
    except ElementTree.ParseError:
        return ""
    for meta in root.iter("meta"):
        if meta.findtext("name") == COMMENT:
            value: str | None = meta.findtext("value")
            return value or ""
    return ""


def _attributes(made: str) -> str:
    root = ElementTree.Element("ismrmrdMeta")
    for name, values in (
        ("DataRole", ["Image"]),
        (COMMENT, [made]),
        ("ImageProcessingHistory", ["noref", made]),
    ):
        meta = ElementTree.SubElement(root, "meta")
        ElementTree.SubElement(meta, "name").text = name
        for value in values:
            ElementTree.SubElement(meta, "value").text = value
    text: bytes = ElementTree.tostring(root, encoding="us-ascii")
    return text.decode()
