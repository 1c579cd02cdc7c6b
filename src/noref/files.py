"""Writing files so that they are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noref.errors import NorefError

_UNFINISHED = ".part-"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; renames it to `path` once all is written and flushed.

    Raises:
        NorefError: if the file system refuses, as when it is full; what `path` held before is still there.
    """
    # The suffix stays last: some writers choose their format by it.
    temporary = path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None


def append(path: Path, text: str) -> int:
    """Adds text to the end of a file; returns the file's length in bytes.

    Raises:
        NorefError: if the file system refuses; the file may then end in a part of the text.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            return file.tell()
    except OSError as error:
        raise _unwritable(path, error) from None


def flush(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sweep(folder: Path) -> None:
    """Removes what killed processes left of files that they were writing, in a folder and below."""
    for path in folder.rglob(f"{_UNFINISHED}*"):
        path.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> NorefError:
    reason = error.strerror or str(error)
    return NorefError(f"{path}: cannot be written ({reason}); free some space or choose another folder")
