"""Where a store lies, as stores see it: small named objects, and volumes of records.

`noref.data.folder` is the one of files, `noref.data.zarr` that of Zarr arrays, in a folder or on object
storage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from noref.data.record import ALIGNED
from noref.errors import NorefError
from noref.scan import Scan

Place = tuple[int, int, int]
"""Of a record: its volume's number, where in the volume it begins, and its length in bytes."""

MANIFEST, INDEX, UNFINISHED, PARTS = "store.json", "index.npz", "preparing.json", "parts"
"""Objects of a store: of a finished one, and what stands in the place of `MANIFEST` before, and below which
lies what is known of each volume's scans."""

OBJECTS = ("scans", PARTS, INDEX, "zarr.json", MANIFEST, UNFINISHED)
"""All there are, in the order in which a store is cleared away: until the last it is an unfinished one."""

Put = Callable[[Scan], Place]
"""Writes one scan of a volume, after those before it."""


class Storage(ABC):
    """A place for one store.

    Every method raises `NorefError` where the place refuses; those that read raise what Python's own reading
    does (`OSError`, `ValueError`, `KeyError`) where something is missing or damaged.

    Args:
        path: as people name it.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is an object of this name."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """An object's content."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Writes an object: afterwards it is whole, or what it was."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Writes an object unless there is one: of several processes that try at once, one succeeds."""

    @abstractmethod
    def listed(self, name: str) -> list[str]:
        """Names of what lies directly below a name, without it; none if there is nothing."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes an object, or all whose names begin with `name/`; does nothing if there are none."""

    @abstractmethod
    def check_free(self) -> None:
        """Refuses a place that holds anything, but for what processes are about to begin a store with.

        Raises:
            NorefError: naming it.
        """

    @abstractmethod
    def sweep(self) -> None:
        """Removes what killed processes left of what they were writing, and nothing of those that live."""

    @abstractmethod
    def clear(self) -> None:
        """Removes a store, finished or not, and its folder if nothing else is in it."""

    @abstractmethod
    def volume_name(self, number: int) -> str:
        """The object that is a volume, or below which it lies."""

    @abstractmethod
    def has_volume(self, number: int, stamp: str) -> bool:
        """Whether a volume is there, whole.

        Raises:
            NorefError: if it is another store's.
        """

    @abstractmethod
    def volume(self, number: int, stamp: str) -> AbstractContextManager[Put]:
        """Writes a volume, scan by scan; it is there, whole, when the block is left without an error."""

    @abstractmethod
    def record(self, place: Place, stamp: str) -> NDArray[np.uint8]:
        """A record, from its first byte on; what is written to it stays in this process.

        Raises:
            NorefError: if the volume is another store's.
        """

    def checked(self, number: int, begin: bytes, stamp: str) -> None:
        """Refuses a volume, or a part of one, that does not begin with the stamp of the store.

        Raises:
            NorefError: naming it.
        """
        if begin[:ALIGNED] != stamp.encode():
            raise NorefError(
                f"{self.path}/{self.volume_name(number)}: not of the store that was opened; it was written "
                "anew since, or holds files of several: open it again, or prepare the scans again"
            )
