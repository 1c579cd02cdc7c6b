"""Raw data as MRD version 2: a binary stream of read-outs behind a header, by mrd-python, the extra `mrd2`.

https://ismrmrd.github.io/mrd. Read-outs become the table that ISMRMRD files have, and the header theirs: from
there on both are read alike. A stream has no table of contents, so it is read once from end to end, and where
each read-out's samples lie in the file is remembered, not the samples.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.formats.base import damaged, pseudonym
from noref.formats.filled import Acquired
from noref.formats.mrd_header import COUNTERS as LIMITED
from noref.formats.mrd_header import EPI, EncodingSpace, Limits, MrdHeader, Space, Trapezoid, trapezoid
from noref.formats.mrd_measurement import Measurement, with_noise
from noref.formats.mrd_readouts import COUNTERS, FIELDS, Values
from noref.formats.mrd_scans import Averages, MeasuredSlices
from noref.scan import Role

MAGIC = b"yardl"
"""First bytes of every stream of the kind that MRD 2 is one of."""

OF_2_2 = b'"sampleTimeNs"'
"""What the description of MRD 2.2, with which its streams begin, has and those of 2.0 and 2.1 lack."""

PROTOCOL = b'"protocol":{"name":"Mrd",'
"""What the descriptions of all versions begin with."""

_DESCRIPTION, _NAME = 1 << 16, 64
"""Bytes within which a description ends, and its beginning."""

EMBEDDED = "EmbeddedRefLinesE1"
"""The parameter by which converters of Siemens files tell the calibration lines in the image."""

_VECTORS = ("position", "read_dir", "phase_dir", "slice_dir")
_NUMBERS = ("discard_pre", "discard_post", "center_sample", "encoding_space_ref")


def is_mrd2(path: Path) -> bool:
    """Whether a file begins like a stream of this format."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class Mrd2Slices(MeasuredSlices):
    """The slices of one stream: of all scans in it.

    Args:
        path: of the file.
        role: what the scans are to the training.
        averages: see `MeasuredSlices`.
        acquired: which lines count as measured, see `formats.filled`.
        calibrating: see `MeasuredSlices`.

    Raises:
        NorefError: if mrd-python is not installed or of another version, the stream is cut or damaged or
            holds no image, or its parts contradict each other.
    """

    format = "MRD 2 stream"

    def __init__(
        self,
        path: Path,
        *,
        role: Role = Role.TARGET,
        averages: Averages = "mean",
        acquired: Acquired = "header",
        calibrating: bool = False,
    ) -> None:
        one, self._readouts = _measured(path)
        super().__init__(path, [(one, one)], role, averages, acquired, calibrating=calibrating)

    @contextmanager
    def _values(self, one: Measurement) -> Iterator[Values]:  # noqa: ARG002 - there is only one
        yield _values(self.path, self._readouts)


class _Readout:
    """A read-out without its numbers.

    Attributes:
        head: its header, the values of `FIELDS`.
        samples: first byte and length of its samples in the file, complex64 `(coils, samples)`.
        positions: first byte and shape of its trajectory, float32 `(axes, samples)`.
    """

    __slots__ = ("head", "positions", "samples")

    def __init__(self, acquisition: Any, content: mmap.mmap, start: int) -> None:
        data = np.ascontiguousarray(acquisition.data, "<c8")
        trajectory = np.ascontiguousarray(acquisition.trajectory, "<f4")
        self.samples = _found(content, data, start), data.nbytes
        # Written after the samples.
        self.positions = _found(content, trajectory, sum(self.samples)), trajectory.shape
        self.head = _head(acquisition.head, data.shape, trajectory.shape)

    @property
    def end(self) -> int:
        """One past its last byte that is remembered."""
        start, shape = self.positions
        return start + 4 * int(np.prod(shape))


class _StreamValues:
    """The numbers of read-outs in a file, see `noref.formats.mrd_readouts.Values`."""

    def __init__(self, content: NDArray[np.uint8], readouts: Sequence[_Readout]) -> None:
        self._content, self._of = content, readouts

    def samples(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """See `Values`."""
        return [self._floats(*self._of[number].samples) for number in numbers]

    def positions(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """See `Values`; this format has the axes first."""
        found = []
        for number in numbers:
            start, shape = self._of[number].positions
            found.append(self._floats(start, 4 * int(np.prod(shape))).reshape(shape).T.ravel())
        return found

    def _floats(self, start: int, length: int) -> NDArray[Any]:
        return np.frombuffer(self._content[start : start + length].tobytes(), "<f4")


def measurement_of(path: Path) -> Measurement:
    """The measurement in a stream, with the covariance of its noise scans.

    Raises:
        NorefError: as `Mrd2Slices` does, but for streams without an image.
    """
    return _measured(path)[0]


def _measured(path: Path) -> tuple[Measurement, list[_Readout]]:
    mrd = module(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _check_version(path, content[:_DESCRIPTION], mrd)
            header, readouts = _readouts(mrd, file, content)
    except NorefError:
        raise
    # What decoding damaged bytes raises is any of a dozen errors.
    except Exception as error:
        raise damaged(path, error) from error
    table = np.array([one.head for one in readouts], FIELDS)
    return with_noise(path, _values(path, readouts), Measurement("", header, table, None, 0.0)), readouts


def _values(path: Path, readouts: Sequence[_Readout]) -> _StreamValues:
    try:
        content = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return _StreamValues(content, readouts)


def _readouts(mrd: ModuleType, file: Any, content: mmap.mmap) -> tuple[MrdHeader, list[_Readout]]:
    found, start = list[_Readout](), 0
    with mrd.BinaryMrdReader(file) as reader:
        header = reader.read_header()
        for item in reader.read_data():
            if isinstance(item, mrd.StreamItem.Acquisition):
                if getattr(item.value, "phase", None) is not None:
                    raise NorefError(
                        f"{file.name}: read-outs with phase offsets, which noref does not take off; "
                        "export it without them"
                    )
                found.append(_Readout(item.value, content, start))
                start = found[-1].end
    return MrdHeader() if header is None else _header(header), found


def _found(content: mmap.mmap, array: NDArray[Any], start: int) -> int:
    """Where in the file, from `start` on, the bytes of an array are."""
    # The package does not tell. Equal bytes that come earlier are as good.
    place = content.find(array.tobytes(), start)
    if place < 0:
        raise ValueError("its samples are not where they were read")
    return place


def _head(head: Any, data: tuple[int, ...], trajectory: tuple[int, ...]) -> tuple[Any, ...]:
    """The values of `FIELDS`; what a stream leaves out is zero."""
    values: dict[str, Any] = {name: getattr(head, name) or 0 for name in _NUMBERS}
    values |= {name: tuple(getattr(head, name)) for name in _VECTORS}
    values |= {name: getattr(head.idx, name) or 0 for name in COUNTERS}
    values["flags"], (values["active_channels"], values["number_of_samples"]) = int(head.flags), data
    values["trajectory_dimensions"] = trajectory[0]
    # Version 2.2 counts nanoseconds.
    nanoseconds = getattr(head, "sample_time_ns", None)
    values["sample_time_us"] = nanoseconds / 1000 if nanoseconds else getattr(head, "sample_time_us", 0) or 0
    return tuple(values[name] for name in FIELDS.names or ())


def _header(header: Any) -> MrdHeader:
    subject, measured, system, timing = (
        header.subject_information,
        header.measurement_information,
        header.acquisition_system_information,
        header.sequence_parameters,
    )
    return MrdHeader(
        spaces=[_space(encoding) for encoding in header.encoding],
        subject=pseudonym(subject.patient_id) if subject and subject.patient_id else "",
        protocol=(measured and measured.protocol_name) or "",
        noise_bandwidth=(system and system.relative_receiver_noise_bandwidth) or 1.0,
        field_strength=(system and system.system_field_strength_t) or None,
        vendor=((system and system.system_vendor) or "").upper(),
        repetition_time=timing.t_r[0] if timing and timing.t_r else None,
        echo_times=tuple(timing.t_e) if timing else (),
        flip_angle=timing.flip_angle_deg[0] if timing and timing.flip_angle_deg else None,
        calibration_lines=_calibration_lines(header.user_parameters),
    )


def _calibration_lines(parameters: Any) -> int | None:
    told = {one.name: one.value for one in parameters.user_parameter_long} if parameters else {}
    return told.get(EMBEDDED) or None


def _space(encoding: Any) -> EncodingSpace:
    limits, parallel = encoding.encoding_limits, encoding.parallel_imaging
    lines, partitions = (_limits(getattr(limits, f"kspace_encoding_step_{step}")) for step in (1, 2))
    last = {name: getattr(limits, name) for name in LIMITED}
    mode = parallel and parallel.calibration_mode
    return EncodingSpace(
        encoded=_matrix(encoding.encoded_space),
        recon=_matrix(encoding.recon_space),
        lines=lines,
        trajectory=encoding.trajectory.name.lower(),
        calibration="" if mode is None else mode.name.lower(),
        acceleration=float(parallel.acceleration_factor.kspace_encoding_step_1 or 1) if parallel else 1.0,
        last={name: limit.maximum for name, limit in last.items() if limit is not None},
        partitions=partitions,
        gradient=_gradient(encoding.trajectory_description),
        across=float(parallel.acceleration_factor.kspace_encoding_step_2 or 1) if parallel else 1.0,
    )


def _limits(told: Any) -> Limits | None:
    return told and Limits(told.minimum, told.maximum, told.center)


def _gradient(told: Any) -> Trapezoid | None:
    if told is None or told.identifier.lower() != EPI:
        return None
    return trapezoid(
        {one.name: one.value for one in (*told.user_parameter_long, *told.user_parameter_double)}
    )


def _matrix(space: Any) -> Space:
    size, view = space.matrix_size, space.field_of_view_mm
    return Space((size.x, size.y, size.z), (view.x, view.y, view.z))


def _check_version(path: Path, begin: bytes, mrd: ModuleType) -> None:
    """Refuses streams of another version than the package's, which reads its own alone.

    Raises:
        NorefError: naming the one to install.
    """
    own = mrd.BinaryMrdReader.schema.encode()
    if own in begin:
        return
    if len(begin) < (len(own) if PROTOCOL in begin else _NAME):
        raise NorefError(f"{path}: damaged or incomplete (its description is cut); copy or export it again")
    if PROTOCOL not in begin:
        raise NorefError(f"{path}: a yardl stream, and not one of MRD's images and raw data")
    asked = "2.2, which needs Python 3.12" if OF_2_2 in begin else "2.0 or 2.1"
    raise NorefError(
        f"{path}: of another version of MRD 2 than mrd-python {version('mrd-python')} reads; install "
        f"mrd-python {asked}"
    )


def module(path: Path) -> ModuleType:
    """mrd-python; imported when it is needed.

    Raises:
        NorefError: if it is not installed.
    """
    try:
        import mrd
    except ImportError:
        raise NorefError(
            f"{path}: MRD 2, for which mrd-python is not installed; pip install noref[mrd2]"
        ) from None
    return mrd  # type: ignore[no-any-return]
