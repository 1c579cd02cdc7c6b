"""The ISMRMRD XML header: what noref needs from it, and one that says no more than a scan knows.

Real headers break their schema, so any field may be missing, wrong, or the whole text unreadable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from noref.formats.mrd_header import calibration_lines

NAMESPACE = "http://www.ismrm.org/ISMRMRD"


@dataclass(frozen=True)
class Geometry:
    """What a header says about k-space `(ky, kx)`.

    Attributes:
        sampled_lines: first phase-encode line that the scanner could sample, and one past the last.
        crop: clinical matrix `(rows, columns)`, clamped to k-space; None where there is nothing to crop.
        spacing: millimetres between pixels along y and x, and between slices; None if not all are known.
        protocol: the name of the protocol, or "".
        acceleration: of the phase-encode lines by parallel imaging: above 1, a full k-space was filled in.
        repetition_time: milliseconds; the first of several, as all that follow.
        echo_time: milliseconds.
        inversion_time: milliseconds.
        flip_angle: degrees.
        field_strength: teslas.
        calibration_lines: embedded in the image; None if not told, and not written.
    """

    sampled_lines: tuple[int, int]
    crop: tuple[int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    protocol: str = ""
    acceleration: float = 1.0
    repetition_time: float | None = None
    echo_time: float | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    field_strength: float | None = None
    calibration_lines: int | None = None


SEQUENCE = {
    "TR": "repetition_time",
    "TE": "echo_time",
    "TI": "inversion_time",
    "flipAngle_deg": "flip_angle",
}
"""Elements of `sequenceParameters` in the order of the schema, and the names of `Geometry` for them."""


def parse(text: bytes | str, shape: tuple[int, int]) -> Geometry:
    """Reads the first encoding of a header, leniently.

    `left = enc_y // 2 − center` and `right = left + maximum + 1` bound the sampled lines; they are believed
    only where the encoded matrix has as many lines as k-space and the centre is one of those sampled.

    Args:
        text: the XML.
        shape: of k-space, `(ky, kx)`.
    """
    lines, readout = shape
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, TypeError):
        return Geometry((0, lines))

    def number(path: str, parent: str = "encoding") -> float | None:
        found = root.findtext("/".join(f"{{*}}{tag}" for tag in f"{parent}/{path}".split("/")))
        try:
            value = float(found or "")
        except ValueError:
            return None
        return value if 0 <= value < math.inf else None

    sampled = (0, lines)
    centre = number("encodingLimits/kspace_encoding_step_1/center")
    last = number("encodingLimits/kspace_encoding_step_1/maximum")
    if centre is not None and last is not None and number("encodedSpace/matrixSize/y") == lines:
        left = lines // 2 - int(centre)
        if left <= lines // 2 <= left + int(last):
            sampled = (max(left, 0), min(left + int(last) + 1, lines))

    matrix = {axis: number(f"reconSpace/matrixSize/{axis}") for axis in "xyz"}
    view = {axis: number(f"reconSpace/fieldOfView_mm/{axis}") for axis in "xyz"}
    crop = (min(int(matrix["y"] or lines), lines), min(int(matrix["x"] or readout), readout))
    y, x, z = ((view[axis] or 0) / (matrix[axis] or 1) for axis in "yxz")
    return Geometry(
        sampled_lines=sampled,
        crop=None if crop == shape else crop,
        spacing=(y, x, z) if y > 0 and x > 0 and z > 0 else None,
        protocol=root.findtext("{*}measurementInformation/{*}protocolName") or "",
        acceleration=number("parallelImaging/accelerationFactor/kspace_encoding_step_1") or 1.0,
        field_strength=number("systemFieldStrength_T", "acquisitionSystemInformation"),
        calibration_lines=calibration_lines(root),
        **{name: number(tag, "sequenceParameters") for tag, name in SEQUENCE.items()},
    )


def build(shape: tuple[int, int], geometry: Geometry) -> str:
    """A header that `parse` reads back and the ISMRMRD schema accepts; lengths not known are 0.

    Args:
        shape: of k-space, `(ky, kx)`.
        geometry: what to say.
    """
    spacing = geometry.spacing or (0.0, 0.0, 0.0)
    left, right = geometry.sampled_lines
    parallel = (
        f"<parallelImaging><accelerationFactor><kspace_encoding_step_1>{geometry.acceleration:.0f}"
        "</kspace_encoding_step_1><kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>"
        "</parallelImaging>"
    )

    field = geometry.field_strength
    system = "" if field is None else f"<systemFieldStrength_T>{field}</systemFieldStrength_T>"

    timing = {tag: getattr(geometry, name) for tag, name in SEQUENCE.items()}
    sequence = "".join(f"<{tag}>{value}</{tag}>" for tag, value in timing.items() if value is not None)

    def space(matrix: tuple[int, int]) -> str:
        (y, x), (step_y, step_x, step_z) = matrix, spacing
        return (
            f"<matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize><fieldOfView_mm>"
            f"<x>{x * step_x}</x><y>{y * step_y}</y><z>{step_z}</z></fieldOfView_mm>"
        )

    return (
        f'<?xml version="1.0" encoding="utf-8"?><ismrmrdHeader xmlns="{NAMESPACE}">'
        f"<measurementInformation><patientPosition>HFS</patientPosition>"
        f"<protocolName>{escape(geometry.protocol)}</protocolName></measurementInformation>"
        f"<acquisitionSystemInformation>{system}</acquisitionSystemInformation>"
        f"<experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding><encodedSpace>{space(shape)}</encodedSpace>"
        f"<reconSpace>{space(geometry.crop or shape)}</reconSpace>"
        f"<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{right - left - 1}</maximum>"
        f"<center>{shape[0] // 2 - left}</center></kspace_encoding_step_1></encodingLimits>"
        f"<trajectory>cartesian</trajectory>{parallel if geometry.acceleration > 1 else ''}</encoding>"
        f"{f'<sequenceParameters>{sequence}</sequenceParameters>' if sequence else ''}"
        "</ismrmrdHeader>"
    )
