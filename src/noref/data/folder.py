"""A store in a folder: reading a scan is mapping one piece of a file."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noref.data.record import ALIGNED, put
from noref.data.storage import OBJECTS, Place, Put, Storage
from noref.files import check_free, created, sweep, whole
from noref.scan import Scan


class Folder(Storage):
    """Objects are files; a volume is one, of the store's stamp and its records end to end.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.folder = path

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / name).is_file()

    def read(self, name: str) -> bytes:
        """A file's content."""
        with (self.folder / name).open("rb") as file:
            return file.read()

    def write(self, name: str, content: bytes) -> None:
        """Writes a file."""
        with whole(self.folder / name) as temporary:
            temporary.write_bytes(content)

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file unless there is one."""
        return created(self.folder / name, content)

    def listed(self, name: str) -> list[str]:
        """Names in a folder."""
        try:
            return sorted(path.name for path in (self.folder / name).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self, name: str) -> None:
        """Removes a file, or a folder."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def check_free(self) -> None:
        """Refuses a folder that holds anything but files under temporary names."""
        check_free(self.folder, begun=True)

    def sweep(self) -> None:
        """Removes files under temporary names of processes that are gone."""
        sweep(self.folder)

    def clear(self) -> None:
        """Removes a store's files, and the folder if nothing else is in it."""
        for name in OBJECTS:
            self.remove(name)
        if not self.listed(""):
            with suppress(OSError):
                self.folder.rmdir()

    def volume_name(self, number: int) -> str:
        """The file of a volume."""
        return f"scans/{number:06d}.bin"

    def has_volume(self, number: int, stamp: str) -> bool:
        """Whether the file is there: it is renamed to its name when it is whole."""
        path = self.folder / self.volume_name(number)
        if not path.is_file():
            return False
        with path.open("rb") as file:
            self.checked(number, file.read(ALIGNED), stamp)
        return True

    @contextmanager
    def volume(self, number: int, stamp: str) -> Iterator[Put]:
        """Writes a volume's file."""
        with whole(self.folder / self.volume_name(number)) as temporary, temporary.open("wb") as file:
            file.write(stamp.encode())

            def add(scan: Scan) -> Place:
                start = file.tell()
                put(file, scan)
                return number, start, file.tell() - start

            yield add

    def record(self, place: Place, stamp: str) -> NDArray[np.uint8]:
        """A piece of a volume's file, mapped."""
        number, start, length = place
        page = start - start % mmap.ALLOCATIONGRANULARITY
        with (self.folder / self.volume_name(number)).open("rb", buffering=0) as file:
            self.checked(number, file.read(ALIGNED), stamp)
            # Private: what is written to a scan's tensors stays in this process.
            mapped = mmap.mmap(file.fileno(), start - page + length, offset=page, access=mmap.ACCESS_COPY)
        if hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_WILLNEED)
        return np.frombuffer(mapped, np.uint8)[start - page :]
