"""Files in and out. `read` chooses the reader by what is in the file, `write` the writer by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.files import whole
from noref.formats import arrays, bart, fastmri, nifti, png
from noref.formats.arrays import Domain
from noref.formats.base import Slices, damaged
from noref.formats.trajectory import OffGrid
from noref.scan import Header, Role

SUFFIXES = (".h5", ".nii", ".nii.gz", ".npy", ".cfl", ".png")
"""What `write` can write."""

__all__ = ["SUFFIXES", "Domain", "Slices", "read", "write"]


def read(
    path: Path | str,
    *,
    axes: str | None = None,
    key: str | None = None,
    domain: Domain = "kspace",
    role: Role = Role.TARGET,
    mask_key: str | None = None,
    trajectory: str | None = None,
    matrix: int | None = None,
    oversampling: float = 2.0,
) -> Slices:
    """The slices of a file, each read when it is asked for.

    fastMRI HDF5 and BART's cfl/hdr say themselves what their axes are. Other arrays (`.npy`, `.npz`, `.mat`
    of any version, other HDF5) need `axes`, except plain matrices; an HDF5 file is one of these if it is
    MATLAB's, or if `axes`, `key` or images are asked for.

    Args:
        path: of the file; for BART with or without a suffix.
        axes: names of the array's axes, such as `"coils,kx,ky"` or `"slice,y,x"`: `coils`, `ky`, `kx` (`y`,
            `x` for images), `slice`, `set`, and `-` for one whose first entry alone is wanted. In the order
            that NumPy shows, for `.mat` files the order that MATLAB shows.
        key: which array of the file; may be left out if only one has two axes or more.
        domain: "kspace", or "image" for images, whose k-space is then made and marked as not raw.
        role: what the scans are to the training.
        mask_key: the array that holds the mask, Ω.
        trajectory: where samples off the Cartesian grid were taken, each `ky` a read-out and `kx` its
            samples: a file (`formats.trajectory`), `radial` for full spokes evenly spaced over 360°, or
            `golden` for the golden angle.
        matrix: of the image of a trajectory, along either axis; as far as it reaches if None.
        oversampling: of the read-out of `radial` and `golden` spokes: samples per cycle per field of view.

    Raises:
        NorefError: if the file is missing, damaged or of no known format, or does not hold what was asked
            for.
    """
    path = Path(path)
    if trajectory is not None:
        if domain == "image":
            raise NorefError(f"{path}: images have no trajectory; leave out trajectory or domain=image")
        read_out = _read(path, axes, key, domain, role, mask_key, on_grid=False)
        return OffGrid(read_out, trajectory, matrix, oversampling)
    return _read(path, axes, key, domain, role, mask_key, on_grid=True)


def _read(
    path: Path,
    axes: str | None,
    key: str | None,
    domain: Domain,
    role: Role,
    mask_key: str | None,
    *,
    on_grid: bool,
) -> Slices:
    if bart.header_of(path) or path.suffix == ".cfl":
        return bart.read(path, axes=axes, domain=domain, role=role, on_grid=on_grid)
    if path.is_dir():
        raise NorefError(f"{path}: is a folder; name the files in it")
    if not path.is_file():
        raise NorefError(f"{path}: not found; check the path")
    if path.stat().st_size == 0:
        raise NorefError(f"{path}: is empty; copy or export it again")
    source = _source(path)
    if isinstance(source, arrays.Hdf5) and not source.matlab and not (axes or key or domain == "image"):
        return fastmri.FastmriSlices(path, role=role, mask_key=mask_key or "mask")
    return arrays.read(source, axes=axes, key=key, domain=domain, role=role, mask_key=mask_key)


def _source(path: Path) -> arrays.Source:
    """The file as a source of arrays, judged by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(128)
    except OSError as error:
        raise damaged(path, error) from error
    if h5py.is_hdf5(path):
        return arrays.Hdf5(path, matlab=start.startswith(b"MATLAB 7"))
    if start.startswith(b"\x93NUMPY"):
        return arrays.Npy(path)
    if start.startswith(b"PK\x03\x04"):
        return arrays.Npz(path)
    if start.startswith(b"MATLAB 5"):
        return arrays.Mat5(path)
    raise NorefError(f"{path}: of no known format; noref reads fastMRI HDF5, BART cfl, .mat, .npy and .npz")


def write(path: Path | str, images: Tensor | NDArray[Any], header: Header | None = None) -> None:
    """Writes images in the format that the suffix names, all of the file or nothing.

    `.h5` (fastMRI's submission format), `.nii`, `.nii.gz` and `.png` hold magnitudes; `.npy` and `.cfl` keep
    the phase.

    Args:
        path: of the file; its folder is made if need be.
        images: `(slices, y, x)` or `(y, x)`.
        header: geometry of the first slice.

    Raises:
        NorefError: if the suffix is not known, the images are of another shape, or writing fails.
    """
    path = Path(path)
    array = images.detach().cpu().resolve_conj().numpy() if isinstance(images, Tensor) else images
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise NorefError(f"{path}: images of {array.shape} cannot be written; expected (slices, y, x)")
    header = header or Header()
    if path.name.endswith((".nii", ".nii.gz")):
        nifti.write(path, array, header)
    elif path.suffix == ".h5":
        fastmri.write_images(path, array, acquisition=header.protocol)
    elif path.suffix == ".png":
        png.write(path, array)
    elif path.suffix == ".cfl":
        bart.write_images(path, array)
    elif path.suffix == ".npy":
        with whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    else:
        raise NorefError(
            f"{path}: noref writes images as {', '.join(SUFFIXES)}; choose one of these suffixes"
        )
