"""A row of the table: one piece of work, and who does it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Setting:
    """Where and how large the work is done.

    Attributes:
        folder: for files, the same for all sides of a row.
        device: `cpu` or `cuda`.
        small: sizes for a test of the harness, whose figures mean nothing.
    """

    folder: Path
    device: str = "cpu"
    small: bool = False

    def size(self, full: int, small: int) -> int:
        """One of two sizes."""
        return small if self.small else full


@dataclass(frozen=True)
class Work:
    """What one side does over and over, ready to run.

    Attributes:
        run: one pass; its time is measured.
        output: what must agree with the other sides', if it can be compared.
        parameters: of the network, or None where there is none.
        note: what a reader must know, such as figures of the work itself.
        calls: whether a program does the work, whose memory is not known then.
    """

    run: Callable[[], object]
    output: Callable[[], Array] | None = None
    parameters: int | None = None
    note: str = ""
    calls: bool = False


def relative(ours: Array, theirs: Array) -> float:
    """`max |a − b| / max |a|`."""
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


GRAPH = ", CUDA graph"
"""What the side of the same work, replayed as one graph, has behind its name."""


@dataclass(frozen=True)
class Side:
    """Who does the work.

    Attributes:
        name: of the library, with what is special.
        build: makes the work in a process of its own, imports included.
        needs: modules and programs (`bart`) without which the side is skipped.
        versus: the side that it is compared with, on a GPU its CUDA graph; the first of the row if empty.
        tolerance: largest difference of outputs, or None where they differ by design.
        difference: of the outputs, ours first.
        devices: where it runs.
        why: what differs from ours, if anything.
        repeat: passes that are timed as one, for work of few milliseconds.
    """

    name: str
    build: Callable[[Setting], Work]
    needs: tuple[str, ...] = ()
    versus: str = ""
    tolerance: float | None = None
    difference: Callable[[Array, Array], float] = relative
    devices: tuple[str, ...] = ("cpu",)
    why: str = ""
    repeat: int = 1

    def missing(self) -> str:
        """Why the side cannot run here, or nothing."""
        for name in self.needs:
            if name == "bart":
                if shutil.which("bart") is None:
                    return "bart is not on the path"
                continue
            try:
                importlib.import_module(name)
            except Exception as error:  # a peer may fail in any way while it is imported
                return f"{name} cannot be imported: {error}".splitlines()[0]
        return ""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: for `--rows`.
        title: the work in words.
        sides: noref's first.
        target: CPU milliseconds of noref that are wanted, on the machine of the recorded figures, or None.
        aim: what is wanted beside or instead of the target, in words.
        recorded: CPU milliseconds of peers on that machine, whether or not they can be run here.
        memory_gb: that all sides need together.
        quick: whether `--quick` runs it.
    """

    name: str
    title: str
    sides: tuple[Side, ...]
    target: float | None = None
    aim: str = ""
    recorded: Mapping[str, float] = field(default_factory=dict)
    memory_gb: float = 2.0
    quick: bool = False
