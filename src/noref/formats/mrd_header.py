"""The XML header of ISMRMRD files: encoding spaces, their limits, and what belongs to the whole measurement.

Real headers break their schema, so any field may be missing or wrong; what is missing is 0, "" or None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from noref.formats.base import pseudonym

NAMESPACE = "http://www.ismrm.org/ISMRMRD"

CARTESIAN = ("", "cartesian", "epi")
"""Trajectories whose samples lie on the grid."""

COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set", "segment")
"""Counters of a read-out beside its lines', in the order of the schema."""

EPI = "conventionalepi"
"""Identifier of the trajectory whose read-out gradient is described."""

TRAPEZOID = ("rampUpTime", "flatTopTime", "rampDownTime", "acqDelayTime", "dwellTime", "numSamples")
"""Its parameters, in the order of those of `Trapezoid`."""

SEPARATE = ("separate", "external")
"""Calibration modes whose calibration lines are not lines of the image."""


@dataclass(frozen=True)
class Space:
    """A matrix and its field of view.

    Attributes:
        matrix: samples along x (the read-out), y and z.
        view: millimetres along x, y and z.
    """

    matrix: tuple[int, int, int] = (0, 0, 0)
    view: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Limits:
    """Which values an encoding counter takes, and which of them is the centre of k-space."""

    minimum: int
    maximum: int
    centre: int


@dataclass(frozen=True)
class Trapezoid:
    """The read-out gradient of EPI, and when it is sampled, as `ConventionalEPI` tells it; 0 if it does not.

    Attributes:
        rise: microseconds until it has its height.
        flat: microseconds that it keeps it.
        fall: microseconds until it is zero again.
        delay: microseconds from its beginning to that of sampling.
        dwell: microseconds between two samples.
        samples: of a read-out.
    """

    rise: float = 0.0
    flat: float = 0.0
    fall: float = 0.0
    delay: float = 0.0
    dwell: float = 0.0
    samples: int = 0


@dataclass(frozen=True)
class EncodingSpace:
    """One of the encoding spaces of a measurement.

    Attributes:
        encoded: what is measured, read-out oversampling included.
        recon: what the scanner makes images of.
        lines: of `kspace_encode_step_1`.
        trajectory: `cartesian`, `epi`, `radial`, `spiral`, …
        calibration: `embedded`, `interleaved`, `separate`, `external` or `other`.
        acceleration: by parallel imaging along `kspace_encode_step_1`.
        last: the largest value of each of `COUNTERS` that is known.
        partitions: of `kspace_encode_step_2`.
        gradient: of a read-out of EPI.
        across: acceleration by parallel imaging along `kspace_encode_step_2`.
    """

    encoded: Space = Space()
    recon: Space = Space()
    lines: Limits | None = None
    trajectory: str = ""
    calibration: str = ""
    acceleration: float = 1.0
    last: Mapping[str, int] = field(default_factory=dict)
    partitions: Limits | None = None
    gradient: Trapezoid | None = None
    across: float = 1.0


@dataclass(frozen=True)
class MrdHeader:
    """What a header says.

    Attributes:
        spaces: by the number that read-outs give as theirs, `encoding_space_ref`.
        subject: the pseudonym of the patient's ID, or what a file that is written is to hold as one.
        protocol: its name.
        noise_bandwidth: mean of the receiver's noise power over the bandwidth, over that at its centre.
        calibration_lines: embedded in the image, along `kspace_encode_step_1`.
        field_strength: teslas.
        repetition_time: milliseconds.
        echo_times: milliseconds, by contrast.
        inversion_time: milliseconds.
        flip_angle: degrees.
        vendor: of the scanner, in capitals.
    """

    spaces: Sequence[EncodingSpace] = ()
    subject: str = ""
    protocol: str = ""
    noise_bandwidth: float = 1.0
    calibration_lines: int | None = None
    field_strength: float | None = None
    repetition_time: float | None = None
    echo_times: tuple[float, ...] = ()
    inversion_time: float | None = None
    flip_angle: float | None = None
    vendor: str = ""

    def space(self, number: int) -> EncodingSpace:
        """An encoding space; one that says nothing where the header has none of this number."""
        return self.spaces[number] if number < len(self.spaces) else EncodingSpace()


def parse(text: bytes) -> MrdHeader | None:
    """Reads a header, whatever namespace it has; None if it is no XML."""
    try:
        root = ElementTree.fromstring(text.decode("utf-8", "replace").strip("\ufeff \r\n\t"))
    except ElementTree.ParseError:
        return None
    bandwidth = _number(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth")
    patient = _text(root, "subjectInformation/patientID")
    echoes = [_value(element.text) for element in root.findall("{*}sequenceParameters/{*}TE")]
    return MrdHeader(
        spaces=[_encoding(element) for element in root.findall("{*}encoding")],
        subject=pseudonym(patient) if patient else "",
        protocol=_text(root, "measurementInformation/protocolName"),
        noise_bandwidth=bandwidth or 1.0,
        calibration_lines=calibration_lines(root),
        field_strength=_number(root, "acquisitionSystemInformation/systemFieldStrength_T") or None,
        repetition_time=_number(root, "sequenceParameters/TR"),
        echo_times=tuple(echo for echo in echoes if echo is not None),
        # TI is left alone: converters of Siemens files write it with and without an inversion.
        flip_angle=_number(root, "sequenceParameters/flipAngle_deg"),
        vendor=_text(root, "acquisitionSystemInformation/systemVendor").upper(),
    )


def calibration_lines(root: ElementTree.Element) -> int | None:
    """Calibration lines embedded in the image, as converters of Siemens files tell; None if untold."""
    for element in root.findall("{*}userParameters/{*}userParameterLong"):
        if _text(element, "name") == "EmbeddedRefLinesE1" and (count := _number(element, "value")):
            return int(count)
    return None


def _encoding(element: ElementTree.Element) -> EncodingSpace:
    factor = "parallelImaging/accelerationFactor/kspace_encoding_step_"
    last = {name: _number(element, f"encodingLimits/{name}/maximum") for name in COUNTERS}
    return EncodingSpace(
        encoded=_space(element, "encodedSpace"),
        recon=_space(element, "reconSpace"),
        lines=_limits(element, "encodingLimits/kspace_encoding_step_1"),
        trajectory=_text(element, "trajectory").lower(),
        calibration=_text(element, "parallelImaging/calibrationMode").lower(),
        acceleration=_number(element, f"{factor}1") or 1.0,
        last={name: int(value) for name, value in last.items() if value is not None},
        partitions=_limits(element, "encodingLimits/kspace_encoding_step_2"),
        gradient=_gradient(element),
        across=_number(element, f"{factor}2") or 1.0,
    )


def _gradient(element: ElementTree.Element) -> Trapezoid | None:
    if _text(element, "trajectoryDescription/identifier").lower() != EPI:
        return None
    kinds = ("Long", "Double")
    told = [
        one
        for kind in kinds
        for one in element.findall(f"{{*}}trajectoryDescription/{{*}}userParameter{kind}")
    ]
    return trapezoid({_text(one, "name"): _number(one, "value") or 0.0 for one in told})


def trapezoid(told: Mapping[str, float]) -> Trapezoid:
    """The gradient that the parameters of a trajectory `ConventionalEPI` tell."""
    rise, flat, fall, delay, dwell, samples = (told.get(name, 0.0) for name in TRAPEZOID)
    return Trapezoid(rise, flat, fall, delay, dwell, int(samples))


def _space(element: ElementTree.Element, name: str) -> Space:
    x, y, z = (_number(element, f"{name}/matrixSize/{axis}") or 0.0 for axis in "xyz")
    wide, high, deep = (_number(element, f"{name}/fieldOfView_mm/{axis}") or 0.0 for axis in "xyz")
    return Space((int(x), int(y), int(z)), (wide, high, deep))


def _limits(element: ElementTree.Element, path: str) -> Limits | None:
    minimum, maximum, centre = (
        _number(element, f"{path}/{name}") for name in ("minimum", "maximum", "center")
    )
    if maximum is None or centre is None:
        return None
    return Limits(int(minimum or 0), int(maximum), int(centre))


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext("/".join(f"{{*}}{tag}" for tag in path.split("/"))) or "").strip()


def _number(element: ElementTree.Element, path: str) -> float | None:
    return _value(_text(element, path))


def _value(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def build(header: MrdHeader, coils: int) -> bytes:
    """A header that `parse` reads back and the schema accepts; lengths that are not known are 0.

    Gradients are left out: samples that noref writes lie evenly.

    Args:
        header: what to say.
        coils: receiver channels.
    """
    root = ElementTree.Element("ismrmrdHeader", xmlns=NAMESPACE)
    if header.subject:
        _put(root, "subjectInformation/patientID", header.subject)
    measurement = _put(root, "measurementInformation")
    _put(measurement, "patientPosition", "HFS")
    _put(measurement, "protocolName", header.protocol)
    system = _put(root, "acquisitionSystemInformation")
    if header.vendor:
        _put(system, "systemVendor", header.vendor)
    if header.field_strength is not None:
        _put(system, "systemFieldStrength_T", header.field_strength)
    _put(system, "receiverChannels", coils)
    _put(system, "relativeReceiverNoiseBandwidth", header.noise_bandwidth)
    _put(root, "experimentalConditions/H1resonanceFrequency_Hz", 0)
    for space in header.spaces:
        encoding = _put(root, "encoding")
        for name, part in (("encodedSpace", space.encoded), ("reconSpace", space.recon)):
            element = _put(encoding, name)
            for size, values in (("matrixSize", part.matrix), ("fieldOfView_mm", part.view)):
                lengths = _put(element, size)
                for axis, value in zip("xyz", values, strict=True):
                    _put(lengths, axis, value)
        limits = _put(encoding, "encodingLimits")
        for step, told in ((1, space.lines), (2, space.partitions)):
            if told is not None:
                steps = _put(limits, f"kspace_encoding_step_{step}")
                _put(steps, "minimum", told.minimum)
                _put(steps, "maximum", told.maximum)
                _put(steps, "center", told.centre)
        for name in COUNTERS:
            if name in space.last:
                limit = _put(limits, name)
                _put(limit, "minimum", 0)
                _put(limit, "maximum", space.last[name])
                _put(limit, "center", 0)
        _put(encoding, "trajectory", space.trajectory or "cartesian")
        if max(space.acceleration, space.across) > 1 or space.calibration:
            parallel = _put(encoding, "parallelImaging")
            factor = _put(parallel, "accelerationFactor")
            # The schema knows whole numbers alone.
            _put(factor, "kspace_encoding_step_1", round(space.acceleration))
            _put(factor, "kspace_encoding_step_2", round(space.across))
            _put(parallel, "calibrationMode", space.calibration or "other")
    times = {
        "TR": [header.repetition_time],
        "TE": header.echo_times,
        "TI": [header.inversion_time],
        "flipAngle_deg": [header.flip_angle],
    }
    known = [(tag, value) for tag, values in times.items() for value in values if value is not None]
    sequence = _put(root, "sequenceParameters") if known else root
    for tag, value in known:
        _put(sequence, tag, value)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _put(parent: ElementTree.Element, path: str, value: object = "") -> ElementTree.Element:
    """Adds an element, with those on the path to it."""
    for tag in path.split("/"):
        parent = ElementTree.SubElement(parent, tag)
    parent.text = str(value)
    return parent
