"""Where the samples of a file lie that were not taken on the Cartesian grid."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noref.errors import NorefError
from noref.formats import bart
from noref.formats.base import Slices, damaged
from noref.sampling.spokes import radial
from noref.scan import Scan

MADE = ("radial", "golden")
"""Trajectories that are made, not read: full spokes, evenly spaced over 360° or by the golden angle."""


def read_trajectory(path: Path) -> Tensor:
    """A trajectory from a file.

    Args:
        path: a BART cfl of `(3, samples, read-outs)`, x first, as `bart traj` writes it; or a `.npy` of
            `(read-outs, samples, 2)`, y first. In cycles per field of view.

    Returns:
        float32 `(read-outs, samples, 2)`, y first.

    Raises:
        NorefError: if the file is missing, damaged, or of another shape.
    """
    if bart.header_of(path) or path.suffix in (".cfl", ".hdr"):
        array = bart.read_cfl(path.with_suffix(".cfl"))
        places = array.real.reshape(*array.shape[:3], -1)
        if places.shape[0] != 3 or places.ndim != 4 or places.shape[3] != 1:
            raise NorefError(f"{path}: {array.shape} is no trajectory; expected (3, samples, read-outs)")
        if places[2].any():
            raise NorefError(f"{path}: a trajectory through three dimensions; noref reconstructs slices")
        found = np.stack((places[1, ..., 0].T, places[0, ..., 0].T), -1)
    else:
        try:
            with path.open("rb") as file:
                found = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise damaged(path, error) from error
        if found.ndim != 3 or found.shape[-1] != 2:
            raise NorefError(f"{path}: {found.shape} is no trajectory; expected (read-outs, samples, 2)")
    trajectory = torch.from_numpy(np.array(found, np.float32))
    if not bool(trajectory.isfinite().all()):
        raise NorefError(f"{path}: holds NaN or infinity; export the trajectory again")
    return trajectory


def matrix_of(trajectory: Tensor) -> tuple[int, int]:
    """The smallest even `(y, x)` whose grid reaches as far as a trajectory; square, as fields of view are."""
    reach = float(trajectory.abs().max())
    size = max(2 * math.ceil(reach - 1e-3), 2)
    return size, size


class OffGrid(Slices):
    """The slices of a file, with where their samples were taken.

    Args:
        slices: as read.
        given: a file, or a name in `MADE`.
        matrix: of the image along either axis; as far as the trajectory reaches if None.
        oversampling: of the read-out, for those that are made.

    Raises:
        NorefError: as `read_trajectory` does.
    """

    def __init__(self, slices: Slices, given: str, matrix: int | None, oversampling: float) -> None:
        super().__init__(slices.path, slices.ids, slices.role)
        self.slices, self.given, self.matrix = slices, given, matrix
        self.oversampling = oversampling
        self.format = f"{slices.format}, trajectory {given}"
        self.known = None if given in MADE else read_trajectory(Path(given).expanduser())

    def off_grid(self, index: int) -> bool:  # noqa: ARG002 - all of them
        """Whether a slice was sampled off the Cartesian grid."""
        return True

    def _read(self, index: int) -> Scan:
        scan = self.slices[index]
        places = self.known
        if places is None:
            places = radial(*scan.shape, golden=self.given == "golden", spacing=1 / self.oversampling)
        if places.shape[:2] != scan.shape:
            raise NorefError(
                f"{scan.id}: {scan.shape[0]} read-outs of {scan.shape[1]} samples, and {self.given} is of "
                f"{places.shape[0]} × {places.shape[1]}; give the trajectory of this scan, or axes=…"
            )
        matrix = matrix_of(places) if self.matrix is None else (self.matrix, self.matrix)
        return replace(scan, padding=None, trajectory=places, header=replace(scan.header, matrix=matrix))
