"""Writing files so that they are whole or not there."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noref.errors import NorefError

_UNFINISHED = ".part-"

_OF_A_PROCESS = re.compile(r"\.part-(\d+)\.\d+@([^@]*)@")

_TEMPORARY = re.compile(r"^\.part-\d+\.\d+@[^@]*@")
"""What a temporary name has before the one that it stands for."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
"""What more space may help against; of errors without a number nobody knows."""

_ABANDONED = 3600.0
"""Seconds after which nobody goes on with a file of a process that cannot be asked after."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; renames it to `path` once all is written and flushed.

    Raises:
        NorefError: if the file system refuses, as when it is full; what `path` held before is still there.
    """
    temporary = beside(path)
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
    temporary = beside(path)
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


def created(path: Path, content: bytes) -> bool:
    """Writes a file unless there is one: of several processes that try at once, one succeeds.

    Raises:
        NorefError: if the file system refuses.
    """
    temporary = beside(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            flush(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            # Where there are no hard links, others may for a moment see a part of the content.
            except OSError:
                try:
                    with path.open("xb") as file:
                        file.write(content)
                except FileExistsError:
                    return False
        finally:
            temporary.unlink(missing_ok=True)
    return True


def check_free(folder: Path, *, begun: bool = False) -> None:
    """Refuses to write a folder where there is anything but an empty one, or where nothing may be written.

    Args:
        folder: that is to be written.
        begun: allow files under temporary names, of other processes that are about to write there too.

    Raises:
        NorefError: naming it.
    """
    _check_reachable(folder, folder.absolute())
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return
    except NotADirectoryError:
        names = [folder.name]
    if any(not (begun and is_temporary(name)) for name in names):
        raise NorefError(f"{folder}: already holds files; name a new folder, or empty this one")


def check_writable(path: Path) -> None:
    """Refuses a file that cannot be written, before there is anything to write in it.

    Raises:
        NorefError: if it is a folder, or nothing may be written beside it.
    """
    if path.is_dir():
        raise NorefError(f"{path}: is a folder; name a file")
    _check_reachable(path, path.absolute().parent)


def _check_reachable(path: Path, folder: Path) -> None:
    """Refuses a path where nothing may be written in the folder, or in the one that it is to be made in."""
    while not os.access(folder, os.F_OK):
        folder = folder.parent
    if folder != path.absolute() and not folder.is_dir():
        raise NorefError(f"{path}: cannot be written ({folder} is no folder); choose another folder")
    if not os.access(folder, os.W_OK):
        raise NorefError(f"{path}: cannot be written (permission denied); choose another folder")


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
    """Removes what processes that are gone left of what they were writing, in a folder and below.

    What processes of this machine that live are writing stays, and what those of other machines have touched
    within the hour.
    """
    for path in list(folder.rglob(f"{_UNFINISHED}*")):
        if not _is_written(path):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that is not finished."""
    return name.startswith(_UNFINISHED)


def beside(path: Path) -> Path:
    """The temporary name beside a path that belongs to this thread of this process."""
    # The suffix stays last: some writers choose their format by it.
    return path.with_name(f"{_UNFINISHED}{os.getpid()}.{threading.get_ident()}@{_machine()}@{path.name}")


def _machine() -> str:
    return re.sub(r"[^\w.-]", "_", platform.node())


def _is_written(path: Path) -> bool:
    """Whether the process that a temporary name tells may still be writing there."""
    told = _OF_A_PROCESS.match(path.name)
    if told is None:
        return False
    # Windows has no signal that only asks.
    if told[2] == _machine() and os.name != "nt":
        try:
            os.kill(int(told[1]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    return is_recent(path)


def is_recent(path: Path) -> bool:
    """Whether a file or folder was written to within the hour."""
    try:
        return time.time() - path.stat().st_mtime < _ABANDONED
    except FileNotFoundError:
        return False


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in one line what the file system refuses inside the block.

    Raises:
        NorefError: naming the path as it is to be, with no temporary name in it.
    """
    try:
        yield
    except OSError as error:
        named = Path(*(_TEMPORARY.sub("", part) for part in path.parts))
        reason = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
        advice = "free some space or choose" if error.errno in _NO_ROOM else "choose"
        raise NorefError(f"{named}: cannot be written ({reason}); {advice} another folder") from None
