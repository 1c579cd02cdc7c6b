"""What all readers share: lazy slices, ids, and checks of k-space."""

from __future__ import annotations

import hashlib
import io
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.files import whole
from noref.scan import Role, Scan

STRAY_ZEROS = 0.01
"""Largest share of exact zeros inside fully sampled k-space that are taken for measured values."""


_UNSIGNED = np.uint64(0x7FFFFFFF7FFFFFFF)
"""Bits of a complex64 but for the signs of its parts."""

PSEUDONYM = re.compile("patient-[0-9a-f]{8}")
"""What stands for a patient whose ID a file tells."""

COMPOUNDS = (("r", "i"), ("real", "imag"))
"""How HDF5 files write complex numbers: h5py and fastMRI, MATLAB."""


class OnDemand(Sequence[Scan], ABC):
    """Scans that are read each time they are asked for.

    Attributes:
        ids: `subject/scan/slice` of every slice, known without reading k-space.
    """

    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Scan: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scan]: ...
    def __getitem__(self, index: int | slice) -> Scan | list[Scan]:
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} slices, not slice {index}")
        return self._read(index % len(self))

    @abstractmethod
    def _read(self, index: int) -> Scan:
        """The scan at `0 ≤ index < len(self)`."""


class Slices(OnDemand):
    """The slices of one file.

    No file stays open between two reads, so the object can be pickled and shared with forked workers.

    Attributes:
        path: of the file.
        format: its name, for people.
        role: what the scans are to the training.
    """

    format: str

    def __init__(self, path: Path, ids: Sequence[str], role: Role) -> None:
        self.path = path
        self.ids = tuple(ids)
        self.role = role

    def off_grid(self, index: int) -> bool:  # noqa: ARG002 - of most formats no slice is
        """Whether a slice was sampled off the Cartesian grid, as far as it is known without reading it."""
        return False

    def pixels(self, index: int) -> tuple[int, int] | None:  # noqa: ARG002 - most formats hold one array
        """Rows and columns of a slice's image, without reading it; None where all of the file have the same.

        Raises:
            NorefError: if the file contradicts itself.
        """
        return None


def scan_id(subject: str, scan: str, index: int) -> str:
    """`subject/scan/slice`, the slice counted from 000; a slash inside a name becomes an underscore."""
    return f"{subject.replace('/', '_')}/{scan.replace('/', '_')}/{index:03d}"


def pseudonym(patient: str) -> str:
    """A subject made of a patient's ID, so that all scans of a patient stay together and no name is told.

    That of a pseudonym is the pseudonym: files that were written with one are read back alike.
    """
    if PSEUDONYM.fullmatch(patient):
        return patient
    return f"patient-{hashlib.blake2b(patient.encode(), digest_size=4).hexdigest()}"


def name_of(path: Path) -> str:
    """The name of a file without its suffix, `.nii.gz` being one; of a folder all of it but for `.dcm`."""
    if path.is_dir():
        return path.resolve().name.removesuffix(".dcm")
    return Path(path.name.removesuffix(".gz")).stem if path.name.endswith(".nii.gz") else path.stem


def damaged(path: Path | str, error: Exception) -> NorefError:
    """What to raise when a file has the signature of its format but cannot be read."""
    if isinstance(error, PermissionError):
        return NorefError(f"{path}: cannot be read (permission denied); ask its owner for leave to read it")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return NorefError(f"{path}: damaged or incomplete ({reason}); copy or export it again")


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading inside the block.

    Raises:
        NorefError: if it cannot be opened, or read inside the block.
    """
    try:
        with h5py.File(path) as file:
            yield file
    # What h5py raises where a part of a file is damaged.
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise damaged(path, error) from error


class _Closable:
    """A file for HDF5 to write, which can be closed after a write has failed.

    The library ends the process where closing fails too. So from then on all is taken for written.

    Attributes:
        error: why the first write failed, or None.
        closing: whether nothing is left but to close: then no failure is told.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.error: OSError | None = None
        self.closing = False
        self.seek, self.tell, self.readinto, self.read = file.seek, file.tell, file.readinto, file.read

    def write(self, content: memoryview) -> int:
        """All of it, however little the file system takes at a time."""
        self._attempt(lambda: self._write(content))
        return len(content)

    def truncate(self, size: int) -> int:
        """Cuts the file, or goes on with zeros."""
        self._attempt(lambda: self._file.truncate(size))
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def _write(self, content: memoryview) -> None:
        written = 0
        while written < len(content):
            written += self._file.write(content[written:])

    def _attempt(self, act: Callable[[], object]) -> None:
        if self.error is not None:
            return
        try:
            act()
        except OSError as error:
            self.error = error
            if not self.closing:
                raise


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to write inside the block, whole or not there, see `noref.files.whole`.

    Raises:
        NorefError: if the file system refuses.
    """
    with whole(path) as temporary, temporary.open("w+b", buffering=0) as raw:
        target = _Closable(raw)
        try:
            with h5py.File(target, "w") as file:
                try:
                    yield file
                finally:
                    target.closing = True
        except Exception:
            if target.error is None:
                raise
        if target.error is not None:
            raise target.error


def numeric(dtype: np.dtype[Any]) -> bool:
    """Whether an array of this type holds real or complex numbers."""
    return dtype.kind in "biufc" or dtype.names in COMPOUNDS


def as_complex64(array: NDArray[Any]) -> NDArray[np.complex64]:
    """Real, complex and compound `(r, i)` or `(real, imag)` arrays of any precision as complex64."""
    if array.dtype.names is not None:
        real, imag = array.dtype.names
        array = array[real] + 1j * array[imag]
    return np.array(array, np.complex64, order="C")


def to_kspace(array: NDArray[Any], where: str, what: str = "k-space") -> Tensor:
    """k-space as complex64, or the image that it is made of, refused where nobody could learn from it.

    Args:
        array: real, complex or compound.
        where: the file and slice, for complaints.
        what: it is.

    Raises:
        NorefError: if it holds NaN or infinity, or nothing but zeros.
    """
    kspace = torch.from_numpy(as_complex64(array))
    values = torch.view_as_real(kspace)
    # A sum is finite and not zero only of values that are; the rest is looked at one by one.
    total = float(values.sum())
    if not math.isfinite(total) and not torch.isfinite(values).all():
        raise NorefError(f"{where}: {what} holds NaN or infinity; leave this slice out or export it again")
    if total == 0 and not kspace.any():
        raise NorefError(f"{where}: {what} is all zeros; leave this slice out or export it again")
    return kspace


def sampled(kspace: Tensor) -> Tensor:
    """Which samples of k-space `(coils, ky, kx)` were measured, bool `(ky, kx)`, judged by exact zeros.

    A sample is measured where any coil is nonzero. If that is all but a few per thousand of what lies outside
    whole lines of zeros, the few are values that happen to be zero, and only the lines were left out.
    """
    # Its bits but for the signs are zero in all coils, or one of them is not; NumPy's booleans are faster.
    bits = np.bitwise_or.reduce(kspace.numpy().view(np.uint64), axis=-3)
    nonzero = (bits & _UNSIGNED) != 0
    lines = nonzero.any(-1, keepdims=True) & nonzero.any(-2, keepdims=True)
    stray = np.count_nonzero(lines & ~nonzero)
    return torch.from_numpy(lines if stray <= STRAY_ZEROS * np.count_nonzero(lines) else nonzero)
