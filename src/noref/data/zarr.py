"""A store as Zarr (version 3), in a folder or on object storage: reading a scan is reading one chunk.

The arrays are `scans/NNNNNN`, one for each volume: uint8 `(slices, bytes)`, a chunk for each slice, of the
store's stamp, the slice's record (`noref.data.record`), and zeros up to the longest. An array bears the stamp
as an attribute once all of its chunks are written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from noref.data.folder import Folder
from noref.data.record import ALIGNED, put
from noref.data.storage import OBJECTS, Place, Put, Storage
from noref.errors import NorefError
from noref.files import beside, flush, is_recent, writing
from noref.scan import Scan

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store as ZarrStore

SUFFIX = ".zarr"
"""Of folders that are to be a Zarr."""

_OPEN = 1024
"""Arrays whose metadata a process remembers."""


class ZarrVolumes(Storage):
    """Volumes as Zarr arrays; what is left open is where.

    Args:
        path: as people name it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._process = 0
        self._arrays: dict[int, zarr.Array[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_process": 0, "_arrays": {}}

    @abstractmethod
    def _zarr(self) -> ZarrStore:
        """The Zarr store, opened by this process."""

    def _finish(self, name: str) -> None:
        """Waits until what was written of an array is where it is to be."""

    def volume_name(self, number: int) -> str:
        """The array of a volume."""
        return f"scans/{number:06d}"

    def has_volume(self, number: int, stamp: str) -> bool:
        """Whether there is an array, and it bears a stamp."""
        found = self._stamp(self.volume_name(number))
        if found is not None:
            self.checked(number, found.encode(), stamp)
        return found is not None

    def _stamp(self, name: str) -> str | None:
        """The stamp of an array that is whole."""
        array = self._begun(name, "r")
        return None if array is None or "stamp" not in array.attrs else str(array.attrs["stamp"])

    @contextmanager
    def volume(self, number: int, stamp: str) -> Iterator[Put]:
        """Writes a volume's array."""
        # All chunks of an array are as long as its longest record, which is known at the end.
        with writing(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
            ends = [0]

            def add(scan: Scan) -> Place:
                file.write(stamp.encode())
                put(file, scan)
                ends.append(file.tell())
                return number, len(ends) - 2, ends[-1] - ends[-2] - ALIGNED

            yield add
            self._write(self.volume_name(number), stamp, file, ends)

    def _write(self, name: str, stamp: str, file: BinaryIO, ends: list[int]) -> None:
        """Writes the records of a file, one ending at each of `ends`, as an array."""
        shape = len(ends) - 1, max(end - start for start, end in pairwise(ends))
        module, store = _module(), self._zarr()
        for group in ("", "scans"):
            # Another process may make it at the same moment.
            with suppress(module.errors.ContainsGroupError):
                module.open_group(store, path=group, mode="a")
        # Another process may be writing the same bytes to it.
        array = self._begun(name, "r+")
        if array is None or array.shape != shape:
            self.remove(name)
            array = self._new(name, shape)
        file.seek(0)
        for row, (start, end) in enumerate(pairwise(ends)):
            content = np.frombuffer(file.read(end - start), np.uint8)
            array[row] = np.pad(content, (0, shape[1] - len(content)))
        self._finish(name)
        array.attrs["stamp"] = stamp
        self._finish(name)

    def _begun(self, name: str, mode: Literal["r", "r+"]) -> zarr.Array[Any] | None:
        """An array of which at least the metadata are there."""
        try:
            return _module().open_array(self._zarr(), path=name, mode=mode)  # type: ignore[no-any-return]
        # Of an array in whose place there is nothing, or a half of its metadata.
        except (FileNotFoundError, ValueError):
            return None

    def _new(self, name: str, shape: tuple[int, int]) -> zarr.Array[Any]:
        module = _module()
        return module.create_array(  # type: ignore[no-any-return]
            self._zarr(),
            name=name,
            shape=shape,
            chunks=(1, shape[1]),
            dtype="uint8",
            fill_value=0,
            # Undersampled k-space is mostly zeros; of the rest, the bytes of exponents are alike.
            compressors=(
                module.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4),
                # Decompressing believes the length in a chunk's head, and reads on past the end of a cut one.
                module.codecs.Crc32cCodec(),
            ),
            dimension_names=("slice", "byte"),
        )

    def record(self, place: Place, stamp: str) -> NDArray[np.uint8]:
        """A chunk of a volume's array."""
        number, row, length = place
        array = self._array(number)
        # As well aligned as a mapped file: some sums differ in their last bits with the alignment.
        chunk = torch.empty(array.shape[1:], dtype=torch.uint8).numpy()
        array.get_basic_selection(row, out=_module().buffer.cpu.NDBuffer.from_numpy_array(chunk))
        if not chunk[:ALIGNED].any():
            raise FileNotFoundError(f"chunk {row} is missing")
        self.checked(number, chunk[:ALIGNED].tobytes(), stamp)
        return chunk[ALIGNED : ALIGNED + length]

    def _array(self, number: int) -> zarr.Array[Any]:
        if self._process != os.getpid():
            # Connections, and the threads that keep them, do not outlive a fork.
            self._process, self._arrays = os.getpid(), {}
        if number not in self._arrays:
            if len(self._arrays) == _OPEN:
                del self._arrays[next(iter(self._arrays))]
            self._arrays[number] = _module().open_array(self._zarr(), path=self.volume_name(number), mode="r")
        return self._arrays[number]


class ZarrFolder(ZarrVolumes, Folder):
    """A Zarr in a folder.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.folder = path

    def check_free(self) -> None:
        """Refuses a folder that holds anything."""
        # Before anything is prepared that could not be written.
        _module()
        super().check_free()

    def sweep(self) -> None:
        """Removes files under temporary names; of Zarr's, which name no process, those that are old."""
        super().sweep()
        for folder in (self.folder, self.folder / "scans"):
            for path in folder.glob("*.partial"):
                if not is_recent(path):
                    path.unlink(missing_ok=True)

    def _zarr(self) -> ZarrStore:
        return _module().storage.LocalStore(self.folder)  # type: ignore[no-any-return]

    def _write(self, name: str, stamp: str, file: BinaryIO, ends: list[int]) -> None:
        """Writes an array under a temporary name: those of two processes never mix."""
        path = self.folder / name
        temporary = beside(path)
        with writing(path):
            try:
                super()._write(f"scans/{temporary.name}", stamp, file, ends)
                # One that has its stamp is another process's, of the same scans.
                if self._stamp(name) is None:
                    self.remove(name)
                    try:
                        temporary.replace(path)
                    except OSError:
                        if self._stamp(name) is None:
                            raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _finish(self, name: str) -> None:
        for path in (self.folder / name).rglob("*"):
            if path.is_file():
                flush(path)


class ZarrObjects(ZarrVolumes):
    """A Zarr on object storage, or wherever else fsspec reaches.

    Args:
        path: a URL, such as `s3://bucket/name`; endpoint and credentials are the environment's.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path.rstrip("/"))

    def _zarr(self) -> ZarrStore:
        with self._reached():
            return _module().storage.FsspecStore.from_url(self.path)  # type: ignore[no-any-return]

    def _fs(self, name: str = "") -> tuple[Any, str]:
        """The file system of this process, and how it calls an object."""
        _module()
        import fsspec

        fs, root = fsspec.url_to_fs(self.path)
        # Others write there too.
        fs.invalidate_cache()
        return fs, f"{root}/{name}".rstrip("/")

    def has(self, name: str) -> bool:
        """Whether there is such an object."""
        with self._reached():
            fs, path = self._fs(name)
            return bool(fs.exists(path))

    def read(self, name: str) -> bytes:
        """An object's content."""
        with self._reached(FileNotFoundError):
            fs, path = self._fs(name)
            return bytes(fs.cat_file(path))

    def write(self, name: str, content: bytes) -> None:
        """Puts an object, which is whole once it is there."""
        with self._reached():
            fs, path = self._fs(name)
            fs.pipe_file(path, content)

    def create(self, name: str, content: bytes) -> bool:
        """Puts an object unless there is one."""
        with self._reached(FileExistsError):
            fs, path = self._fs(name)
            try:
                fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
        return True

    def listed(self, name: str) -> list[str]:
        """The last parts of names below one."""
        with self._reached(), suppress(FileNotFoundError):
            fs, path = self._fs(name)
            return sorted(found.rstrip("/").rpartition("/")[2] for found in fs.ls(path, detail=False))
        return []

    def remove(self, name: str) -> None:
        """Removes an object, and all below it."""
        with self._reached(), suppress(FileNotFoundError):
            fs, path = self._fs(name)
            fs.rm(path, recursive=True)

    def check_free(self) -> None:
        """Refuses a URL below which there is anything."""
        found: list[str] = []
        with self._reached(), suppress(FileNotFoundError):
            fs, path = self._fs()
            found = fs.ls(path, detail=False)
        if found:
            raise NorefError(f"{self.path}: already holds objects; name a new place, or empty this one")

    def sweep(self) -> None:
        """Does nothing: objects are whole or not there."""

    def clear(self) -> None:
        """Removes the objects of a store."""
        for name in OBJECTS:
            self.remove(name)

    def has_volume(self, number: int, stamp: str) -> bool:
        """Whether there is an array, and it bears a stamp."""
        with self._reached():
            return super().has_volume(number, stamp)

    def _write(self, name: str, stamp: str, file: BinaryIO, ends: list[int]) -> None:
        with self._reached():
            super()._write(name, stamp, file, ends)

    def record(self, place: Place, stamp: str) -> NDArray[np.uint8]:
        """A chunk of a volume's array."""
        with self._reached(FileNotFoundError, ValueError, KeyError, TypeError):
            return super().record(place, stamp)

    @contextmanager
    def _reached(self, *told: type[Exception]) -> Iterator[None]:
        """Says in one line what went wrong on the way; errors that are `told` of objects pass."""
        passed: tuple[type[Exception], ...] = (NorefError, *told)
        try:
            yield
        except passed:
            raise
        # Every protocol has errors of its own, which have nothing else in common.
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise NorefError(
                f"{self.path}: cannot be reached ({reason}); check the URL, the network, and the credentials "
                "and endpoint in the environment"
            ) from error


def _module() -> ModuleType:
    """Zarr, with fsspec behind it; imported when it is needed.

    Raises:
        NorefError: if it is not installed.
    """
    try:
        import fsspec  # noqa: F401
        import zarr
        import zarr.buffer.cpu
        import zarr.codecs
        import zarr.errors
        import zarr.storage
    except ImportError:
        raise NorefError(
            "zarr: not installed, and needed for prepared scans in a Zarr; pip install noref[zarr]"
        ) from None
    return zarr
