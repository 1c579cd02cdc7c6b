"""What a user sees while training: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn


def duration(seconds: float) -> str:
    """`1h02m`, `3m20s` or `45s`."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class TrainingProgress:
    """Shows stage, epoch, loss, Γ and the time left.

    Args:
        total: steps of the whole training.
        done: steps already taken.
        quiet: show nothing, as all ranks but the first do.
    """

    def __init__(self, total: int, done: int = 0, quiet: bool = False) -> None:
        self.total, self.done, self.quiet = total, done, quiet
        self._console = Console(stderr=True)
        self._started, self._first, self._printed = time.monotonic(), done, 0.0
        self._gamma = ""
        self._loss: float | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if not quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"),
                console=self._console,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def line(self, text: str) -> None:
        """A message above the bar."""
        if not self.quiet:
            if self._bar:
                self._bar.console.print(text, highlight=False, markup=False)
            else:
                print(text, file=sys.stderr, flush=True)

    def gamma(self, value: float) -> None:
        """Γ of the latest validation."""
        self._gamma = f"  Γ {value:.4f}"

    def step(self, done: int, stage: int, epoch: int, loss: float) -> None:
        """Called after every step."""
        self.done = done
        # A running mean, for the eye; the log holds each step's own loss.
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        if self.quiet:
            return
        rate = (done - self._first) / max(time.monotonic() - self._started, 1e-9)
        left = duration((self.total - done) / rate) if rate > 0 else "?"
        text = f"stage {stage} epoch {epoch}  loss {self._loss:.4f}{self._gamma}  {left} left"
        if self._bar:
            self._bar.update(self._task, total=self.total, completed=done, description=text)
        elif time.monotonic() - self._printed > 10 or done == self.total:
            self._printed = time.monotonic()
            self.line(f"step {done}/{self.total}  {text}")
