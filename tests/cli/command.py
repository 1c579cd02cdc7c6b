"""The command line, run in this process."""

from __future__ import annotations

import io
import shutil
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from noref.cli import main
from noref.data.store import Store
from noref.scan import Scan

TINY = ["network.phases=2", "network.features=4", "training.epochs=1", "training.device=cpu"]
"""A network and a training of a second."""


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


def noref(*arguments: str | Path) -> Result:
    """Runs `noref ARGUMENTS` as a user would."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["noref", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return Result(code, out.getvalue(), err.getvalue())


def done(*arguments: str | Path) -> Result:
    """Runs a command that has to succeed."""
    result = noref(*arguments)
    assert result.code == 0, result.err
    return result


def refused(*arguments: str | Path) -> str:
    """Runs a command that has to refuse its input; the one line that it says."""
    result = noref(*arguments)
    assert result.code == 2, result
    assert result.out == ""
    said = [line for line in result.err.splitlines() if not line.startswith("noref: warning: ")]
    # What is said of the work under way may stand before it.
    assert said[-1].startswith("noref: "), result.err
    assert "Traceback" not in result.err
    assert sum(line.startswith("noref: ") for line in said) == 1
    return said[-1]


def tree(folder: Path) -> list[str]:
    """All files and folders below one, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def same(one: Scan, other: Scan) -> bool:
    """Whether two scans agree in every bit."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in vars(one)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def many(folder: Path, scans: Path, number: int = 8) -> Path:
    """A folder of so many subjects."""
    folder.mkdir()
    (first, *_) = sorted(scans.glob("*.h5"))
    for index in range(number):
        shutil.copy(first, folder / f"subject-{index}.h5")
    return folder


def volumes(store: Path) -> dict[str, int]:
    """Those that are written, and when."""
    return {path.name: path.stat().st_mtime_ns for path in (store / "scans").glob("0*.bin")}


def same_stores(one: Path, other: Path) -> bool:
    """Whether two stores hold the same files and the same scans."""
    pairs = zip(Store(one), Store(other), strict=True)
    return tree(one) == tree(other) and all(same(a, b) for a, b in pairs)


def simulated(folder: Path, *settings: str, slices: int) -> Path:
    """The folder with three simulated subjects, the same ones whatever else is asked of them."""
    size = ["--scans", "3", "--slices", str(slices), "--coils", "4", "--matrix", "48", "--seed", "3"]
    done("simulate", folder, *size, *settings)
    return folder
