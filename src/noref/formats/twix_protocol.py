"""The protocol of Siemens raw files, as the header that ISMRMRD files have."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from noref.errors import NorefError
from noref.formats.base import damaged, pseudonym
from noref.formats.mrd_geometry import SIEMENS
from noref.formats.mrd_header import EncodingSpace, Limits, MrdHeader, Space, Trapezoid
from noref.formats.mrd_readouts import NO_IMAGE, Flag, Table, flagged

CALIBRATION = {
    0: "",
    1: "other",
    2: "embedded",
    16: "interleaved",
    32: "interleaved",
    64: "interleaved",
    128: "embedded",
}
"""How calibration lines are acquired, by `ucRefScanMode`; all others are scans of their own."""

TRAJECTORIES = {2: "radial", 4: "spiral", 8: "propeller"}
"""Those that are not Cartesian, by `ucTrajectory`."""

TRAPEZOIDAL = 2
"""`alRegridMode` where samples lie on straight ramps of a gradient; on others it is larger, on none 1."""

NOISE_BANDWIDTH = 0.793
"""Mean of the receiver's noise power over the bandwidth, over that at its centre."""

INVERSIONS = (1, 2)
"""Values of `ucInversion` with which there is an inversion; the protocol holds its time in any case."""


class Protocol:
    """What a measurement's header says; what is missing or no number is 0 or "".

    Args:
        path: of the file.
        file: open for reading, at the first byte of the measurement.

    Raises:
        NorefError: if the header is damaged.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        from twixtools.twixprot import parse_twix_hdr

        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                self._buffers: Mapping[str, Any] = parse_twix_hdr(file)
        except Exception as error:  # the parser raises all sorts of things on damaged headers
            raise damaged(path, error) from error
        if "MeasYaps" not in self._buffers or said.getvalue():
            raise damaged(path, ValueError("the protocol of a measurement in it cannot be read"))

    def number(self, *keys: str | int) -> float:
        """A value of the protocol (`MeasYaps`), by the names and numbers on the way to it."""
        found: Any = self._buffers["MeasYaps"]
        for key in keys:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                return 0.0
        return _number(found)

    def derived(self, name: str) -> float:
        """A value that the scanner's computer made of the protocol."""
        for buffer in ("Meas", "Dicom", "Config"):
            found = self._buffers.get(buffer, {}).get(name)
            if isinstance(found, list):
                found = found[0] if found else None
            if value := _number(found):
                return value
        return 0.0

    def text(self, name: str) -> str:
        """A text of the protocol, or of what belongs to it."""
        for buffer in ("MeasYaps", "Meas", "Config", "Dicom"):
            found = self._buffers.get(buffer, {}).get(name)
            if isinstance(found, str) and found:
                return found
        return ""


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, str | int | float) else 0.0
    except ValueError:
        return 0.0


def refuse(path: Path, protocol: Protocol) -> None:
    """Refuses what a table of Cartesian lines cannot tell.

    Raises:
        NorefError: if samples lie off the grid, or several slices were excited at once.
    """
    if other := TRAJECTORIES.get(int(protocol.number("sKSpace", "ucTrajectory"))):
        raise NorefError(
            f"{path}: a {other} scan, and twix files do not hold where its samples lie; convert it to "
            "ISMRMRD with its trajectory"
        )
    mode, ramp = protocol.derived("alRegridMode"), protocol.derived("alRegridRampupTime")
    if mode > TRAPEZOIDAL or (mode == TRAPEZOIDAL and not ramp):
        raise NorefError(
            f"{path}: sampled while the read-out gradient changes, and not on straight ramps of known "
            "length; regrid it and convert it to ISMRMRD"
        )
    if (slices := protocol.number("sSliceAcceleration", "lMultiBandFactor")) > 1:
        raise NorefError(
            f"{path}: {slices:.0f} slices were excited at once, and noref reads one at a time; separate them "
            "first"
        )


def header_of(protocol: Protocol, table: Table, centre: tuple[int, int]) -> MrdHeader:
    """What a protocol says, as ISMRMRD headers say it.

    Sequences from outside the scanner's own (Pulseq) may acquire other lines than the protocol tells. Where
    none tells the centre of k-space, or samples do not fit, the matrix is that of the lines, and pixels along
    the read-out keep the size that the protocol tells.

    Args:
        protocol: of the measurement.
        table: its read-outs.
        centre: the line and the partition at the centre of k-space; 0 if not told.
    """
    lines = table[~flagged(table, NO_IMAGE | Flag.NOISE)]
    base, over = protocol.number("sKSpace", "lBaseResolution"), protocol.derived("flReadoutOSFactor") or 2.0
    columns = int(base * over) or int(protocol.derived("iRoFTLength"))
    rows = int(protocol.derived("iPEFTLength") or protocol.number("sKSpace", "lPhaseEncodingLines"))
    last = int(lines["kspace_encode_step_1"].max(initial=0))
    if centre[0] == 0:
        rows = max(rows, last + 1)
    place = ("sSliceArray", "asSlice", 0)
    wide, high, deep = (protocol.number(*place, name) for name in ("dReadoutFOV", "dPhaseFOV", "dThickness"))
    more = 1 + protocol.number("sKSpace", "dPhaseOversamplingForDialog")
    gradient = _gradient(protocol, lines)
    needed = _width(lines)
    if gradient is None and 0 < columns < needed:
        over, columns = over * needed / columns, needed
    told = int(protocol.derived("iNoOfFourierLines")) - 1
    partitions, deeper, limits = _partitions(protocol, lines, centre[1])
    space = EncodingSpace(
        encoded=Space((columns, rows, partitions), (wide * over, high * more, deep * deeper)),
        recon=Space(
            (round(columns / over), round(rows / more), round(partitions / deeper)), (wide, high, deep)
        ),
        lines=Limits(0, max(last, told), centre[0]) if centre[0] else None,
        trajectory="cartesian",
        calibration=CALIBRATION.get(int(protocol.number("sPat", "ucRefScanMode")), "separate"),
        acceleration=protocol.number("sPat", "lAccelFactPE") or 1.0,
        across=protocol.number("sPat", "lAccelFact3D") or 1.0,
        partitions=limits,
        gradient=gradient,
    )
    patient = protocol.text("PatientID")
    inverted = protocol.number("sPrepPulses", "ucInversion") in INVERSIONS
    contrasts = int(lines["contrast"].max(initial=0)) + 1
    echoes = tuple(protocol.number("alTE", echo) / 1000 for echo in range(contrasts))
    return MrdHeader(
        spaces=[space],
        # Files are made anonymous by writing x for every letter.
        subject=pseudonym(patient) if patient.strip("xX ") else "",
        protocol=protocol.text("tProtocolName"),
        noise_bandwidth=NOISE_BANDWIDTH,
        field_strength=protocol.derived("flMagneticFieldStrength") or None,
        repetition_time=protocol.number("alTR", 0) / 1000 or None,
        echo_times=echoes if all(echoes) else (),
        inversion_time=protocol.number("alTI", 0) / 1000 or None if inverted else None,
        flip_angle=protocol.number("adFlipAngleDegree", 0) or None,
        vendor=SIEMENS,
    )


def _partitions(protocol: Protocol, lines: Table, centre: int) -> tuple[int, float, Limits | None]:
    """Partitions of the matrix, 1 of a slice, the factor by which they are oversampled, and their limits."""
    last = int(lines["kspace_encode_step_2"].max(initial=0))
    if len(np.unique(lines["kspace_encode_step_2"])) < 2:
        return 1, 1.0, None
    matrix = int(protocol.derived("i3DFTLength") or protocol.number("sKSpace", "lPartitions"))
    told = int(protocol.derived("iNoOfFourierPartitions")) - 1
    more = 1 + protocol.number("sKSpace", "dSliceOversamplingForDialog")
    return max(matrix, last + 1), more, Limits(0, max(last, told), centre) if centre else None


def _gradient(protocol: Protocol, lines: Table) -> Trapezoid | None:
    """The read-out gradient, if it is sampled while it changes."""
    if protocol.derived("alRegridMode") != TRAPEZOIDAL or not len(lines):
        return None
    samples = int(lines["number_of_samples"].max())
    times = ("RampupTime", "FlattopTime", "RampdownTime", "DelaySamplesTime")
    rise, flat, fall, delay = (protocol.derived(f"alRegrid{name}") for name in times)
    dwell = protocol.derived("aflRegridADCDuration") / max(samples, 1)
    return Trapezoid(rise, flat, fall, delay, dwell, samples)


def _width(lines: Table) -> int:
    """Columns that the longest read-outs need around the centre of k-space."""
    if not len(lines):
        return 0
    samples = lines["number_of_samples"]
    centre = np.where(lines["center_sample"] > 0, lines["center_sample"], samples // 2)
    before, after = int(centre.max()), int((samples - centre).max())
    return max(2 * before, 2 * after - 1)
