"""What a server says of its work: a line of JSON for every event, on stderr."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

_ONE_AT_A_TIME = threading.Lock()


class Log:
    """Writes events.

    Args:
        file: to write to; None for stderr.
        shared: what every line of this log tells, such as the number of a connection.
    """

    def __init__(self, file: TextIO | None = None, **shared: object) -> None:
        self._file, self._shared = file, shared

    def of(self, **shared: object) -> Log:
        """The same log, whose lines tell more."""
        return Log(self._file, **self._shared, **shared)

    def __call__(self, event: str, **told: object) -> None:
        """Writes a line: time (UTC), event, and what is told of it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **self._shared, **told}, ensure_ascii=False)
        # A log that cannot be written must not end a scan.
        with _ONE_AT_A_TIME, suppress(OSError):
            print(line, file=self._file or sys.stderr, flush=True)
