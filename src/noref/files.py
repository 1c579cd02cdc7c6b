"""Writing files so that they are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noref.errors import NorefError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; renames it to `path` once all is written and flushed.

    Raises:
        NorefError: if the file system refuses, as when it is full; what `path` held before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers choose their format by it.
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NorefError(
            f"{path}: cannot be written ({reason}); free some space or choose another folder"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
