"""Reading any file: the reader is chosen by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py

from noref.errors import NorefError
from noref.formats import arrays, bart, cmrxrecon, dicom_images, fastmri, ismrmrd, mrd2, nifti, twix
from noref.formats.arrays import Domain
from noref.formats.base import Slices, damaged
from noref.formats.beside import Accompanied, Companions
from noref.formats.filled import Acquired
from noref.formats.kinds import describes_itself
from noref.formats.mrd_measurement import Measurement
from noref.formats.mrd_scans import Averages
from noref.formats.noise_files import noise_of
from noref.formats.reading import Reading
from noref.formats.subject_folder import InSubjectFolder
from noref.formats.trajectory import OffGrid
from noref.scan import Role


def read(
    path: Path | str,
    *,
    axes: str | None = None,
    key: str | None = None,
    domain: Domain = "kspace",
    role: Role = Role.TARGET,
    mask_key: str | None = None,
    averages: Averages = "mean",
    trajectory: str | None = None,
    matrix: int | None = None,
    readout_oversampling: float = 2.0,
    acquired: Acquired = "header",
    noise: Path | str | Companions[Measurement] | None = None,
    calibration: Path | str | Companions[Slices] | None = None,
    subject_folder: int = 0,
) -> Slices:
    """The slices of a file, each read when it is asked for.

    fastMRI and ISMRMRD HDF5, MRD 2, Siemens twix, BART's cfl/hdr, DICOM and NIfTI say themselves what their
    axes are. Other arrays
    (`.npy`, `.npz`, `.mat` of any version, other HDF5) need `axes`, except plain matrices and what is like
    nothing but CMRxRecon's files; an HDF5 file is one of these if it is MATLAB's, or if `axes`, `key` or
    images are asked for. DICOM and NIfTI hold images, whose k-space is made and marked as not raw, whatever
    the domain.

    Args:
        path: of the file; for BART with or without a suffix; for DICOM also the folder of a series.
        axes: names of the array's axes, such as `"coils,kx,ky"` or `"slice,y,x"`: `coils`, `ky`, `kx` (`y`,
            `x` for images), `slice`, `frame`, `set`, and `-` for one whose first entry alone is wanted. In
            the order that NumPy shows, for `.mat` files the order that MATLAB shows. `"cmrxrecon"` for a
            `.mat` file of CMRxRecon.
        key: which array of the file; may be left out if only one has two axes or more. Of twix, which
            measurement; the last with an image if None.
        domain: "kspace", or "image" for images, whose k-space is then made and marked as not raw.
        role: what the scans are to the training.
        mask_key: the array that holds the mask, Ω; for CMRxRecon the file that does.
        averages: of ISMRMRD, MRD 2 and twix, "mean", or "apart" for averages as scans of their own.
        trajectory: where samples off the Cartesian grid were taken, each `ky` a read-out and `kx` its
            samples: a file (`formats.trajectory`), `radial` for full spokes evenly spaced over 360°, or
            `golden` for the golden angle.
        matrix: of the image of a trajectory, along either axis; as far as it reaches if None.
        readout_oversampling: of `radial` and `golden` spokes: samples per cycle per field of view.
        acquired: of fastMRI and ISMRMRD, "header", or "all" to take lines for measured that parallel imaging
            seems to have computed: no line is empty, and yet the header tells an acceleration.
        noise: a file of noise scans, or several, of which the one that belongs to the file is taken; instead
            of those in the file. Arrays have the axes of the image's.
        calibration: a file of calibration scans likewise.
        subject_folder: how many folders above the file the one is that is called like its subject; the
            patient of the file, or else the file's name, is the subject if 0.

    Raises:
        NorefError: if the file is missing, damaged or of no known format, or does not hold what was asked
            for.
    """
    path = Path(path)
    on_grid = trajectory is None
    if domain == "image" and not on_grid:
        raise NorefError(f"{path}: images have no trajectory; leave out trajectory or domain=image")
    slices = _read(path, axes, key, domain, role, mask_key, averages, acquired, on_grid=on_grid)
    if noise is not None or calibration is not None:
        slices = _accompanied(slices, noise, calibration, axes)
    if trajectory is not None:
        slices = OffGrid(slices, trajectory, matrix, readout_oversampling)
    return InSubjectFolder(slices, subject_folder) if subject_folder else slices


def read_as(
    path: Path | str,
    how: Reading,
    role: Role = Role.TARGET,
    noise: Companions[Measurement] | None = None,
    calibration: Companions[Slices] | None = None,
) -> Slices:
    """`read` with settings that are passed on as one.

    Args:
        path: of the file.
        how: all settings; of noise and calibration those below are taken.
        role: what the scans are to the training.
        noise: from `noise_beside`.
        calibration: from `calibration_beside`.

    Raises:
        NorefError: as `read` does.
    """
    settings = {name: getattr(how, name) for name in Reading.model_fields}
    return read(path, role=role, **{**settings, "noise": noise, "calibration": calibration})


def noise_beside(
    files: Sequence[Path],
    axes: str | None = None,
    key: str | None = None,
    *,
    image_axes: str | None = None,
) -> Companions[Measurement]:
    """Files of noise scans.

    Args:
        files: one for all images, or one for each.
        axes: of arrays, see `noise_files.noise_of`.
        key: of arrays and twix likewise.
        image_axes: of the images, which arrays have, too, if nothing else is said.
    """
    return Companions(
        "noise",
        files,
        lambda path: noise_of(path, axes or _axes_like(path, image_axes), key),
        lambda one: one.header.subject,
    )


def calibration_beside(
    files: Sequence[Path],
    axes: str | None = None,
    key: str | None = None,
    *,
    image_axes: str | None = None,
) -> Companions[Slices]:
    """Files of calibration scans, of whose lines all that are not empty count.

    Args:
        files: one for all images, or one for each.
        axes: of arrays, see `read`.
        key: of arrays and twix likewise.
        image_axes: of the images, which arrays have, too, if nothing else is said.
    """
    return Companions(
        "calibration",
        files,
        lambda path: _read_calibration(path, axes or _axes_like(path, image_axes), key),
        lambda one: one.ids[0].split("/", 1)[0],
    )


def _axes_like(path: Path, image_axes: str | None) -> str | None:
    return None if describes_itself(path) else image_axes


def _read_calibration(path: Path, axes: str | None, key: str | None) -> Slices:
    if path.is_file() and _begins(path, mrd2.is_mrd2):
        return mrd2.Mrd2Slices(path, acquired="all", calibrating=True)
    if h5py.is_hdf5(path) and not (axes or key) and ismrmrd.is_ismrmrd(path):
        return ismrmrd.IsmrmrdSlices(path, acquired="all", calibrating=True)
    if path.is_file() and not axes and _begins(path, twix.is_twix):
        return twix.TwixSlices(path, measurement=key, calibrating=True)
    return read(path, axes=axes, key=key, acquired="all")


def _accompanied(
    slices: Slices,
    noise: Path | str | Companions[Measurement] | None,
    calibration: Path | str | Companions[Slices] | None,
    axes: str | None,
) -> Slices:
    if isinstance(noise, Path | str):
        noise = noise_beside([Path(noise)], image_axes=axes)
    if isinstance(calibration, Path | str):
        calibration = calibration_beside([Path(calibration)], image_axes=axes)
    return Accompanied(
        slices,
        None if noise is None else noise.of(slices),
        None if calibration is None else calibration.of(slices)[1],
    )


def _read(
    path: Path,
    axes: str | None,
    key: str | None,
    domain: Domain,
    role: Role,
    mask_key: str | None,
    averages: Averages,
    acquired: Acquired,
    *,
    on_grid: bool,
) -> Slices:
    if bart.header_of(path) or path.suffix == ".cfl":
        return bart.read(path, axes=axes, domain=domain, role=role, on_grid=on_grid)
    if path.is_dir() and not dicom_images.is_series(path):
        raise NorefError(f"{path}: is a folder without DICOM images; name the files in it")
    if path.is_dir():
        return _read_dicom(path, role, axes or key or mask_key)
    if not path.is_file():
        raise NorefError(f"{path}: not found; check the path")
    if path.stat().st_size == 0:
        raise NorefError(f"{path}: is empty; copy or export it again")
    if _begins(path, dicom_images.is_dicom):
        return _read_dicom(path, role, axes or key or mask_key)
    if _begins(path, nifti.is_nifti):
        if key or mask_key:
            raise NorefError(f"{path}: a NIfTI volume has no {key or mask_key}; leave out key and mask_key")
        return nifti.read(path, axes=axes, role=role)
    if _begins(path, mrd2.is_mrd2):
        if axes or key or mask_key:
            raise NorefError(f"{path}: MRD 2 says itself what its axes are; leave out axes, key and mask_key")
        return mrd2.Mrd2Slices(path, role=role, averages=averages, acquired=acquired)
    if _begins(path, twix.is_twix):
        if axes or mask_key:
            raise NorefError(f"{path}: twix says itself what its axes are; leave out axes and mask_key")
        return twix.TwixSlices(path, role=role, averages=averages, measurement=key)
    source = arrays.source_of(path)
    if isinstance(source, arrays.Hdf5 | arrays.Mat5) and domain == "kspace":
        matlab = not isinstance(source, arrays.Hdf5) or source.matlab
        known = matlab and axes is None and key is None and cmrxrecon.recognised(source)
        if known or axes == cmrxrecon.LAYOUT:
            mask = None if mask_key is None else Path(mask_key)
            return cmrxrecon.read(source, key=known or key, role=role, mask=mask)
    if isinstance(source, arrays.Hdf5) and not source.matlab and not (axes or key or domain == "image"):
        if ismrmrd.is_ismrmrd(path):
            return ismrmrd.IsmrmrdSlices(path, role=role, averages=averages, acquired=acquired)
        return fastmri.FastmriSlices(path, role=role, mask_key=mask_key or "mask", acquired=acquired)
    return arrays.read(source, axes=axes, key=key, domain=domain, role=role, mask_key=mask_key)


def _begins(path: Path, judged: Callable[[Path], bool]) -> bool:
    """Whether a file is of a kind that its first bytes tell."""
    try:
        return judged(path)
    except OSError as error:
        raise damaged(path, error) from error


def _read_dicom(path: Path, role: Role, asked: str | None) -> Slices:
    if asked:
        raise NorefError(f"{path}: DICOM says itself what its axes are; leave out axes, key and mask_key")
    return dicom_images.read(path, role=role)
