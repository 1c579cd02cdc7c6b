"""NIfTI volumes, placed in the scanner's coordinates where the header knows them; images in, magnitudes out.

The axes of a volume are `(x, y, slice)`, and of several, `(x, y, slice, set)`: repetitions, as they are read.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.files import whole
from noref.formats.arrays import ArraySlices, Index, parse_axes
from noref.formats.base import damaged, name_of, numeric
from noref.formats.geometry import EVEN, centre_of, corner_of, headers_of, step_of, vector, volumes_of
from noref.scan import Header, Role, Scan

SCANNER = 1
"""NIfTI's code for coordinates of the scanner."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
MILLIMETRES = {"meter": 1000.0, "micron": 1e-3}
"""Of NIfTI's units; those not known are taken for millimetres."""
AXES = ("x", "y", "slice", "set")


def is_nifti(path: Path) -> bool:
    """Whether a file, compressed or not, begins as NIfTI-1 and NIfTI-2 files do."""
    with path.open("rb") as file:
        start = file.read(348)
        if start.startswith(b"\x1f\x8b"):
            try:
                file.seek(0)
                start = gzip.GzipFile(fileobj=file).read(348)
            except (OSError, EOFError, zlib.error):
                return path.name.endswith(".nii.gz")
    return start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0"


@dataclass(frozen=True)
class Nifti:
    """One volume, of which only the slices asked for are kept."""

    path: Path
    format: str = "NIfTI"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The only array is called after the file."""
        volume = self._volume()
        if not numeric(volume.get_data_dtype()):
            raise NorefError(f"{self.path}: holds {volume.get_data_dtype()}, not grey values; convert it")
        return {name_of(self.path): tuple(volume.shape)}

    def take(self, key: str, index: Index) -> NDArray[Any]:  # noqa: ARG002 - there is only one array
        """A part of the array, scaled as the header says."""
        try:
            return np.asarray(self._volume().dataobj[index])
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise damaged(self.path, error) from error

    def header(self, axes: tuple[str, ...], index: int) -> Header:
        """Where a slice lies.

        Args:
            axes: names of the array's axes.
            index: of the slice.
        """
        volume = self._volume()
        x, y, z = (axes.index(name) if name in axes else 2 for name in AXES[:3])
        millimetres = MILLIMETRES.get(volume.header.get_xyzt_units()[0], 1.0)
        columns = (LPS_TO_RAS @ volume.affine[:3, :3] * millimetres).T
        lengths = np.linalg.norm(columns, axis=1)
        if not (np.isfinite(columns).all() and (lengths > 0).all()):
            return Header()
        spacing = (float(lengths[y]), float(lengths[x]), float(lengths[z]))
        if not volume.header["sform_code"] and not volume.header["qform_code"]:
            return Header(spacing=spacing)
        corner = LPS_TO_RAS @ volume.affine[:3, 3] * millimetres + index * columns[z]
        shape = (volume.shape[y], volume.shape[x])
        return Header(
            spacing=spacing,
            position=centre_of(corner, columns[[x, y]], shape),
            directions=tuple(vector(columns[axis] / lengths[axis]) for axis in (x, y, z)),
        )

    def _volume(self) -> Any:
        try:
            return nibabel.load(self.path)
        except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError) as error:
            raise damaged(self.path, error) from error


class NiftiSlices(ArraySlices):
    """The slices of a volume, each with its place."""

    source: Nifti

    def _read(self, index: int) -> Scan:
        scan = super()._read(index)
        repetition, slice_ = divmod(index, self.sizes.get("slice", 1))
        return replace(scan, header=replace(self.source.header(self.axes, slice_), repetition=repetition))


def read(path: Path, *, axes: str | None = None, role: Role = Role.TARGET) -> NiftiSlices:
    """The slices of a volume; k-space is made of them.

    Args:
        path: of the file.
        axes: names of the array's axes if they are not `x,y,slice,set`, such as `slice,x,y`.
        role: what the scans are to the training.

    Raises:
        NorefError: if the file is damaged, or its axes are others.
    """
    source = Nifti(path)
    ((key, shape),) = source.shapes().items()
    if axes is None and 2 <= len(shape) <= len(AXES):
        axes = ",".join(AXES[: len(shape)])
    names = parse_axes(path, key, shape, axes, "image")
    return NiftiSlices(source, key, names, "image", role, None)


def affine_of(header: Header | Sequence[Header], shape: tuple[int, int, int]) -> NDArray[np.float64] | None:
    """The 4×4 matrix from voxel `(x, y, slice)` to millimetres RAS; None unless the header has the geometry.

    `diag(−1, −1, 1) · (p + D·diag(spacing)·(voxel − c))` with the directions as columns of `D`, the centre
    `c = ((x − 1)/2, (y − 1)/2, 0)` of the first slice, and its position `p`. Slices go on as their positions
    do; where these are not even, along the normal.

    Args:
        header: of the first slice, or of every slice.
        shape: of the volume, `(slices, y, x)`.
    """
    headers = headers_of(header, shape[0])
    first = headers[0]
    corner = corner_of(first, shape[1:])
    if first.spacing is None or first.directions is None or corner is None:
        return None
    along_x, along_y, normal = (np.array(direction) for direction in first.directions)
    step = step_of(headers)
    step = first.spacing[2] * normal if step is None else step
    affine = np.eye(4)
    columns = [first.spacing[1] * along_x, first.spacing[0] * along_y, step, corner]
    affine[:3] = LPS_TO_RAS @ np.stack(columns, axis=1)
    return affine


def write(
    path: Path,
    images: NDArray[Any],
    header: Header | Sequence[Header] | None = None,
    *,
    magnitude: bool = True,
    made: str = "",
) -> None:
    """Writes a volume, axes `(x, y, slice)`: float32 magnitudes, or complex64.

    Where all slices repeat, as echoes and repetitions do, there are volumes, `(x, y, slice, set)`. Slices
    that are evenly spaced in another order than they come in are sorted along their normal.

    Args:
        path: ends in `.nii` or `.nii.gz`.
        images: `(slices, y, x)`.
        header: of the first slice, or of every slice. Without position and directions the file claims no
            place in the scanner, without spacing the voxels have the edges of 1.
        magnitude: whether to drop the phase.
        made: what reconstructed the images, for the description.
    """
    headers = headers_of(header or Header(), len(images))
    found = volumes_of(headers)
    volumes = found or [list(range(len(headers)))]
    headers = [headers[index] for index in volumes[0]]
    first = headers[0]
    values = np.abs(images).astype(np.float32) if magnitude else images.astype(np.complex64)
    affine = affine_of(headers, (len(headers), *values.shape[1:]))
    stored = values[np.array(volumes)].transpose(3, 2, 1, 0)
    volume: Any = nibabel.Nifti1Image(stored if len(volumes) > 1 else stored[..., 0], affine)  # type: ignore[no-untyped-call] # nibabel's own
    if affine is not None:
        if step_of(headers) is None:
            lacking = _alike(headers) if found else "all there equally often"
            warnings.warn(
                f"{path}: its slices are not {lacking}, as NIfTI has them; only the first lies where it "
                "should, write .dcm to place all",
                stacklevel=2,
            )
        volume.set_sform(affine, SCANNER)
        volume.set_qform(affine, SCANNER)
    elif first.spacing is not None:
        y, x, z = first.spacing
        volume.header.set_zooms((x, y, z, 1.0)[: len(volume.shape)])
    if first.spacing is not None:
        volume.header.set_xyzt_units("mm")
    # What is cut off is the less important.
    described = ", ".join(filter(None, (made, first.protocol)))
    volume.header["descrip"] = described.encode("ascii", "replace")[:79]
    with whole(path) as temporary:
        nibabel.save(volume, temporary)


def _alike(headers: Sequence[Header]) -> str:
    """What slices that do not make a volume are not."""
    planes = np.array([header.directions for header in headers])
    return "evenly spaced" if np.allclose(planes, planes[0], atol=EVEN) else "oriented alike"
