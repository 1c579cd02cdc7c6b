"""Writing files so that they are whole or not there."""

from __future__ import annotations

import os
import shutil
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
    temporary = _beside(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a new folder with a temporary name; renames it to `path` once its files are written and flushed.

    Raises:
        NorefError: if there is anything but an empty folder at `path`, or the file system refuses.
    """
    check_free(path)
    temporary = _beside(path)
    with writing(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    flush(file)
            # Replaces an empty folder, and no other.
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Refuses to write a folder where there is anything but an empty one, or where nothing may be written.

    Raises:
        NorefError: naming it.
    """
    path = folder.absolute()
    while not os.access(path, os.F_OK):
        path = path.parent
    if not os.access(path, os.W_OK):
        raise NorefError(f"{folder}: cannot be written (permission denied); choose another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NorefError(f"{folder}: already holds files; name a new folder, or empty this one")


def append(path: Path, text: str) -> int:
    """Adds text to the end of a file; returns the file's length in bytes.

    Raises:
        NorefError: if the file system refuses; the file may then end in a part of the text.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            return file.tell()


def flush(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sweep(folder: Path) -> None:
    """Removes what killed processes left of what they were writing, in a folder and below."""
    for path in list(folder.rglob(f"{_UNFINISHED}*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    # The suffix stays last: some writers choose their format by it.
    return path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in one line what the file system refuses inside the block.

    Raises:
        NorefError: naming the path.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise NorefError(
            f"{path}: cannot be written ({reason}); free some space or choose another folder"
        ) from None
