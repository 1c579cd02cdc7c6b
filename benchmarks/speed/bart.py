"""Calls BART, which reads and writes files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from .row import Array


def write(name: Path, array: Array) -> None:
    """Writes complex k-space or maps `(coils, y, x)`, with the read-out as BART's first axis."""
    coils, y, x = array.shape
    name.with_suffix(".hdr").write_text(f"# Dimensions\n{x} {y} 1 {coils}\n")
    array.astype(np.complex64).tofile(name.with_suffix(".cfl"))


def read(name: Path) -> Array:
    """Reads an array, its axes in the order of this code: the last is BART's first."""
    sizes = [int(size) for size in name.with_suffix(".hdr").read_text().splitlines()[1].split()]
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return np.fromfile(name.with_suffix(".cfl"), np.complex64).reshape(sizes[::-1])


def call(*words: str | Path) -> None:
    """One command."""
    subprocess.run(["bart", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
