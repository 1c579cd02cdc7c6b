"""Files in and out. `read` chooses the reader by what is in the file, `write` the writer by the suffix."""

from __future__ import annotations

from noref.formats.arrays import Domain
from noref.formats.base import Slices, name_of, pseudonym
from noref.formats.beside import Companions, with_calibration
from noref.formats.filled import Acquired
from noref.formats.kinds import describes_itself
from noref.formats.mrd_scans import Averages
from noref.formats.reader import calibration_beside, noise_beside, read, read_as
from noref.formats.reading import Beside, Reading
from noref.formats.writer import ANY_SIZE, SUFFIXES, check_size, write

__all__ = [
    "ANY_SIZE",
    "SUFFIXES",
    "Acquired",
    "Averages",
    "Beside",
    "Companions",
    "Domain",
    "Reading",
    "Slices",
    "calibration_beside",
    "check_size",
    "describes_itself",
    "name_of",
    "noise_beside",
    "pseudonym",
    "read",
    "read_as",
    "with_calibration",
    "write",
]
