"""BART's cfl/hdr pairs: a text header with up to 16 dimensions, and column-major complex64.

Dimensions 0-2 are read-out, phase 1 and phase 2; 3 coils; 4 map sets; 10 time; 13 slices. The transforms of
BART's `fft -u` and of noref are the same: centred, orthonormal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.files import whole
from noref.formats.arrays import ArraySlices, Domain, Index
from noref.formats.arrays import read as read_array
from noref.scan import Role, Scan

DIMENSIONS = 16
COILS, SLICE = 3, 13


def header_of(path: Path) -> Path | None:
    """The `.hdr` beside or behind a path with the name of a cfl file, if it is one of BART's."""
    header = (
        path.with_suffix(".hdr") if path.suffix in (".cfl", ".hdr") else path.with_name(path.name + ".hdr")
    )
    if not header.is_file():
        return None
    with header.open("rb") as file:
        return header if file.read(12) == b"# Dimensions" else None


@dataclass(frozen=True)
class Cfl:
    """One cfl file, mapped and not loaded; `path` is that of the `.cfl`."""

    path: Path
    format: str = "BART cfl"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The only array is called after the file."""
        return {self.path.stem: read_cfl(self.path).shape}

    def take(self, key: str, index: Index) -> NDArray[Any]:  # noqa: ARG002 - there is only one array
        """A part of the array."""
        return read_cfl(self.path)[index]


def read_cfl(path: Path) -> NDArray[np.complex64]:
    """The array of a pair, mapped read-only, without the singleton dimensions at its end.

    Raises:
        NorefError: if half of the pair is missing, the header has no dimensions, or the data are not as long.
    """
    header, data = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    for half in (header, data):
        if not half.is_file():
            raise NorefError(f"{half}: not found; a BART array needs both .cfl and .hdr")
    try:
        shape = [int(size) for size in header.read_text().splitlines()[1].split()]
    except (IndexError, ValueError) as error:
        raise NorefError(f"{header}: has no line of dimensions; write it again with BART") from error
    expected, found = 8 * math.prod(shape), data.stat().st_size
    if expected != found or not expected:
        raise NorefError(f"{data}: has {found} bytes where its header says {expected}; copy it again")
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    return np.memmap(data, np.dtype("<c8"), mode="r", shape=tuple(shape), order="F")


def write_cfl(path: Path, array: NDArray[Any], made: str = "") -> None:
    """Writes an array, axes in BART's order, as complex64 with its header; any suffix becomes theirs.

    Args:
        path: of either file.
        array: what to write.
        made: what reconstructed it, told as BART tells the command that made a file.
    """
    shape = [*array.shape, *[1] * (DIMENSIONS - array.ndim)]
    with whole(path.with_suffix(".hdr")) as header, whole(path.with_suffix(".cfl")) as data:
        command = f"# Command\nnoref: {' '.join(made.split())}\n" if made else ""
        header.write_text("# Dimensions\n" + " ".join(map(str, shape)) + "\n" + command, encoding="utf-8")
        # NumPy does not say why it could not write.
        data.write_bytes(np.asarray(array, "<c8").ravel(order="F").data)


def default_axes(path: Path, shape: tuple[int, ...], on_grid: bool = True) -> str:
    """The axes of k-space in BART's order; the read-out may be a singleton (2-D phase encoding).

    Off the Cartesian grid BART keeps `(1, samples, read-outs)`, some `(samples, read-outs)`.

    Raises:
        NorefError: if the array is no stack of 2-D slices.
    """
    long = {i for i, size in enumerate(shape) if size > 1} - {COILS, SLICE}
    if long == {0, 1}:
        plane = {0: "kx", 1: "ky"}
    elif long == {1, 2}:
        plane = {1: "ky", 2: "kx"} if on_grid else {1: "kx", 2: "ky"}
    else:
        raise NorefError(
            f"{path}: dimensions {shape} are no stack of 2-D slices; say with axes which is which, "
            "and transform the read-out of a 3-D scan first (bart fft -u -i 1)"
        )
    names = {**plane, COILS: "coils", SLICE: "slice"}
    return ",".join(names.get(i, "-") for i in range(len(shape)))


def read(
    path: Path,
    *,
    axes: str | None = None,
    domain: Domain = "kspace",
    role: Role = Role.TARGET,
    on_grid: bool = True,
) -> ArraySlices:
    """The slices of a pair; axes are BART's unless they are given.

    Raises:
        NorefError: if the pair is damaged, or its dimensions are not a stack of 2-D slices.
    """
    source = Cfl(path.with_suffix(".cfl"))
    if axes is None:
        (shape,) = source.shapes().values()
        axes = default_axes(path, shape, on_grid)
        if domain == "image":
            axes = axes.replace("k", "")
    return read_array(source, axes=axes, domain=domain, role=role)


def write(path: Path, scans: Sequence[Scan]) -> None:
    """k-space of slices of one shape as `(kx, ky, 1, coils, 1, …, slices)`; what was not measured is zero."""
    stack = np.stack([scan.kspace.numpy() * scan.scale for scan in scans])
    write_cfl(path, _with_slices(stack.transpose(3, 2, 1, 0)[:, :, None]))


def write_images(path: Path, images: NDArray[Any], made: str = "") -> None:
    """Images `(slices, y, x)` as `(x, y, 1, …, slices)`, with what reconstructed them."""
    write_cfl(path, _with_slices(images.transpose(2, 1, 0)[:, :, None, None]), made)


def _with_slices(array: NDArray[Any]) -> NDArray[Any]:
    """`(x, y, 1, coils, slices)` with the slices moved to their own dimension."""
    return array.reshape(*array.shape[:4], *[1] * (SLICE - 4), array.shape[4])
