"""CMRxRecon's `.mat` files: k-space `(nx, ny, coils, slices, frames)` in MATLAB's order, and its mask files.

Both kinds of MATLAB files; the names of variables are not trusted. nx is the read-out. Trailing axes of one
entry are missing, as MATLAB drops them. Every frame of every slice is a slice of the scan, the frames of one
slice next to each other. The subject is the folder `P001`, with the centre and scanner above it where those
are folders too.

Masks are other files, `(nx, ny)` or `(nx, ny, frames)`: `cine_sax_mask.mat` beside `cine_sax.mat`, or
`cine_sax_mask_Uniform4.mat` in a folder `Mask…` for `cine_sax_kus_Uniform4.mat` in `UnderSample…`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from noref.errors import NorefError
from noref.formats.arrays import Hdf5, Mat5, Source
from noref.formats.base import Slices, damaged, sampled, scan_id, to_kspace
from noref.formats.geometry import header_of_frame
from noref.scan import Role, Scan

LAYOUT = "cmrxrecon"
"""What to say for `axes` where the content does not tell."""

CENTRE = 16
"""Central lines, or lines and columns of a block, that are always sampled; they do not count in R."""

AXES = 5


class CmrxreconSlices(Slices):
    """The frames of all slices of one file."""

    def __init__(self, source: Source, key: str, mask: Path | None, role: Role) -> None:
        shape = source.shapes()[key]
        self.source, self.key, self.mask, self.axes = source, key, mask, len(shape)
        self.readout, self.lines, self.coils, self.slices, self.frames = (*shape, *[1] * (AXES - len(shape)))
        subject, stem = subject_of(source.path), source.path.stem
        super().__init__(
            source.path, [scan_id(subject, stem, i) for i in range(self.slices * self.frames)], role
        )
        self.format = f"CMRxRecon, {source.format}, {self.slices} slices of {self.frames} frames"
        if mask is not None:
            shown = read_mask(mask, (self.lines, self.readout), self.frames)[0]
            self.format += f", mask {mask.name} (R = {nominal_acceleration(shown):.2f} without its centre)"

    def _read(self, index: int) -> Scan:
        position, frame = divmod(index, self.frames)
        where = f"{self.path}: {self.key}, slice {position}, frame {frame}"
        at = (slice(None), slice(None), slice(None), position, frame)
        # Axes that MATLAB dropped are put back.
        part = self.source.take(self.key, at[: self.axes]).reshape(self.readout, self.lines, self.coils)
        kspace = to_kspace(np.ascontiguousarray(part.transpose(2, 1, 0)), where)
        measured = mask = sampled(kspace)
        if self.mask is not None:
            shown = read_mask(self.mask, (self.lines, self.readout), self.frames)[frame]
            mask = shown | (centre_of(shown) & measured)
            measured = measured | mask
        header = header_of_frame(frame, self.frames)
        return Scan(self.ids[index], kspace, measured, mask, role=self.role, header=header)


def read(
    source: Hdf5 | Mat5, *, key: str | None = None, role: Role = Role.TARGET, mask: Path | None = None
) -> CmrxreconSlices:
    """The frames of all slices of a file, whatever its variable is called.

    Args:
        source: the file.
        key: the variable, if there are several.
        role: what the scans are to the training.
        mask: the file with Ω; the one that belongs to the file by its name, if there is one, where None.

    Raises:
        NorefError: if k-space is not one array of 2 to 5 axes, or the mask does not fit it.
    """
    shapes = source.shapes()
    arrays = {
        name: shape for name, shape in shapes.items() if 2 <= len(shape) <= AXES and math.prod(shape) > 1
    }
    if key is None and len(arrays) == 1:
        key = next(iter(arrays))
    if key is None or key not in arrays:
        held = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no array"
        raise NorefError(f"{source.path}: say with key which array is k-space, of 2 to 5 axes; it has {held}")
    return CmrxreconSlices(source, key, mask_of(source.path) if mask is None else mask, role)


def recognised(source: Hdf5 | Mat5) -> str | None:
    """The only array of a file if it is like CMRxRecon's: of 5 axes, or of 4 and called k-space."""
    shapes = source.shapes()
    if len(shapes) != 1:
        return None
    ((name, shape),) = shapes.items()
    named = len(shape) == AXES - 1 and re.match(r"kspace|kus", name, re.IGNORECASE)
    return name if len(shape) == AXES or named else None


def mask_of(path: Path) -> Path | None:
    """The mask file that belongs to a file of k-space by its name, if it is there."""
    name = path.name.replace("_kus", "_mask") if "_kus" in path.name else f"{path.stem}_mask{path.suffix}"
    folder = Path(*(re.sub("^UnderSample", "Mask", part) for part in path.parts)).parent
    places = (path.parent / name, folder / name)
    return next((place for place in places if place != path and place.is_file()), None)


def read_mask(path: Path, shape: tuple[int, int], frames: int) -> Tensor:
    """The masks of all frames, bool `(frames, ky, kx)`, of a file of `(nx, ny)` or `(nx, ny, frames)`.

    Args:
        path: of the file.
        shape: of k-space, `(ky, kx)`.
        frames: of k-space.

    Raises:
        NorefError: if the file cannot be read, or its mask does not fit.
    """
    source = source_of(path)
    arrays = {name: found for name, found in source.shapes().items() if len(found) in (2, 3)}
    if len(arrays) != 1:
        raise NorefError(f"{path}: {len(arrays)} arrays could be the mask; give a file with one of (nx, ny)")
    ((name, found),) = arrays.items()
    planes = source.take(name, (slice(None),) * len(found)) != 0
    planes = planes.reshape(*found, *[1] * (3 - len(found))).transpose(2, 1, 0)
    if planes.shape[1:] != shape or planes.shape[0] not in (1, frames):
        raise NorefError(
            f"{path}: the mask {found} does not fit k-space, which is {shape[::-1]} with {frames} frames"
        )
    return torch.from_numpy(np.ascontiguousarray(planes)).expand(frames, *shape)


def centre_of(mask: Tensor) -> Tensor:
    """The 16 central lines of a mask of lines, or 16×16 central points of one of points, bool `(ky, kx)`."""
    ky, kx = mask.shape
    centre = torch.zeros_like(mask)
    lines = slice(max(ky // 2 - CENTRE // 2, 0), ky // 2 + CENTRE // 2)
    columns = slice(max(kx // 2 - CENTRE // 2, 0), kx // 2 + CENTRE // 2)
    centre[lines, slice(None) if torch.equal(mask, mask[:, :1].expand_as(mask)) else columns] = True
    return centre


def nominal_acceleration(mask: Tensor) -> float:
    """R as CMRxRecon counts it: positions over samples, both outside the centre that is always sampled."""
    outside = ~centre_of(mask)
    return int(outside.sum()) / max(int((mask & outside).sum()), 1)


def source_of(path: Path) -> Hdf5 | Mat5:
    """A MATLAB file of either kind.

    Raises:
        NorefError: if it is not there, or none.
    """
    if not path.is_file():
        raise NorefError(f"{path}: not found; check the path")
    if h5py.is_hdf5(path):
        return Hdf5(path, matlab=True)
    with path.open("rb") as file:
        if not file.read(8).startswith(b"MATLAB 5"):
            raise damaged(path, ValueError("no MATLAB file"))
    return Mat5(path)


def subject_of(path: Path) -> str:
    """`P001`, or `Center001-Scanner-P001` below a centre's folder; the file's name where there are none."""
    folders = path.absolute().parts[:-1]
    if not folders or not re.fullmatch(r"P\d+", folders[-1]):
        return path.stem
    centres = [i for i, folder in enumerate(folders) if re.fullmatch(r"Center\d+", folder)]
    return "-".join(folders[centres[-1] if centres else -1 :])
