"""Raw data of Siemens scanners, twix `.dat` of all software versions, by twixtools, the extra `siemens`.

https://github.com/pehses/twixtools. Measurement data blocks become the table of read-outs that ISMRMRD files
have, and the protocol their header, as converters make them: from there on both are read alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from noref.errors import NorefError
from noref.formats.base import damaged
from noref.formats.mrd_frames import frames
from noref.formats.mrd_measurement import Measurement, with_noise
from noref.formats.mrd_readouts import Values
from noref.formats.mrd_scans import Averages, MeasuredSlices, imaging
from noref.formats.twix_blocks import (
    Blocks,
    Part,
    TwixValues,
    blocks_of,
    centre_of,
    is_twix,
    parts_of,
    table_of,
)
from noref.formats.twix_protocol import Protocol, header_of, refuse
from noref.scan import Role

ADJUSTMENTS = {"AdjCoilSens": 5.0, "AdjQuietCoilSens": 4.0}
"""Measurements of the scanner's own, and microseconds between two samples of the noise scans in them."""

__all__ = ["TwixSlices", "is_twix"]


@dataclass(frozen=True)
class _Part:
    """A measurement, as it lies in the file and as it is read."""

    measurement: Measurement
    blocks: Blocks
    protocol: Protocol


class TwixSlices(MeasuredSlices):
    """The slices of one measurement in a file, with the noise scans of it or of one before it.

    Nothing that identifies the patient is kept: the subject is a number made of the patient's ID, or the
    file's name where the ID was removed. What the scanner acquired is in these files, and nothing that it
    computed: every line counts as measured.

    Args:
        path: of the file.
        role: what the scans are to the training.
        averages: see `MeasuredSlices`.
        measurement: the name of the protocol that it ran; the last measurement with an image if None.
        calibrating: see `MeasuredSlices`.

    Raises:
        NorefError: if twixtools is not installed, the file is damaged, holds no image or no measurement of
            that name, its parts contradict each other, or it is of a kind that noref does not read.
    """

    format = "Siemens twix"

    def __init__(
        self,
        path: Path,
        *,
        role: Role = Role.TARGET,
        averages: Averages = "mean",
        measurement: str | None = None,
        calibrating: bool = False,
    ) -> None:
        found = _parts(path)
        numbers = _with_image(found)
        if calibrating and not any(measurement in (None, found[i].measurement.group) for i in numbers):
            found = [
                one if i in numbers else replace(one, measurement=imaging(one.measurement))
                for i, one in enumerate(found)
            ]
            numbers = _with_image(found)
        if not numbers:
            raise NorefError(f"{path}: holds no image data, no read-outs that are lines of an image")
        names = [found[i].measurement.group for i in numbers]
        if measurement is not None and measurement not in names:
            there = ", ".join(dict.fromkeys(names))
            raise NorefError(f"{path}: holds no measurement {measurement} with an image; it has {there}")
        number = max(i for i, name in zip(numbers, names, strict=True) if measurement in (None, name))
        chosen = found[number]
        refuse(path, chosen.protocol)
        self._blocks = chosen.blocks
        if len(names) > 1:
            self.format += f", measurement {chosen.measurement.group} of {', '.join(dict.fromkeys(names))}"
        noisy = [one.measurement for one in found[: number + 1] if one.measurement.noise is not None]
        noise = noisy[-1] if noisy else None
        super().__init__(path, [(chosen.measurement, noise)], role, averages, "all")

    @contextmanager
    def _values(self, one: Measurement) -> Iterator[Values]:  # noqa: ARG002 - there is only one
        try:
            with self.path.open("rb") as file:
                yield TwixValues(self.path, file, self._blocks)
        except OSError as error:
            raise damaged(self.path, error) from error


def measurements_of(path: Path) -> list[Measurement]:
    """All measurements in a file, with the covariances of their noise scans.

    Raises:
        NorefError: if twixtools is not installed, or the file is damaged.
    """
    return [part.measurement for part in _parts(path)]


def _parts(path: Path) -> list[_Part]:
    _check_installed(path)
    with path.open("rb") as file:
        return [_read(path, file, part) for part in parts_of(path, file)]


def _with_image(found: list[_Part]) -> list[int]:
    measurements = [part.measurement for part in found]
    return [i for i, one in enumerate(measurements) if frames(one.table, one.header)]


def _check_installed(path: Path) -> None:
    try:
        import twixtools  # noqa: F401 - here only to learn whether it is there
    except ImportError as error:
        raise NorefError(
            f"{path}: raw data of a Siemens scanner, for which {error.name} is not installed; "
            "pip install noref[siemens]"
        ) from error


def _read(path: Path, file: BinaryIO, part: Part) -> _Part:
    file.seek(part.start)
    protocol = Protocol(path, file)
    blocks = blocks_of(path, file, part)
    name = part.name or protocol.text("tProtocolName")
    dwell = protocol.number("sRXSPEC", "alDwellTime", 0) / 1000
    table = table_of(blocks, dwell, ADJUSTMENTS.get(name))
    header = header_of(protocol, table, centre_of(blocks))
    one = with_noise(path, TwixValues(path, file, blocks), Measurement(name, header, table, None, 0.0))
    return _Part(one, blocks, protocol)
