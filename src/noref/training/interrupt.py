"""Ending a training in good order when the user wishes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""Windows has no SIGUSR1."""


class Interrupted(Exception):
    """The user stopped the training; it can go on from its checkpoint."""


@contextmanager
def interruptible(ask: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGUSR1 (SLURM's warning) call `ask` instead of ending the process at once."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        ask()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
