"""Which files say themselves what their axes are."""

from __future__ import annotations

from pathlib import Path

import h5py

from noref.errors import NorefError
from noref.formats import bart, dicom_images, ismrmrd, mrd2, nifti, twix
from noref.formats.base import opened


def describes_itself(path: Path) -> bool:
    """Whether a file is read without being told axes, key or domain: all formats but those of plain arrays.

    These are `.mat`, `.npy`, `.npz` and HDF5 that is neither fastMRI's nor ISMRMRD's. False for what cannot
    be read, of which reading says why.
    """
    try:
        if path.is_dir() or path.suffix == ".cfl" or bart.header_of(path):
            return True
        if any(judge(path) for judge in (dicom_images.is_dicom, nifti.is_nifti, mrd2.is_mrd2, twix.is_twix)):
            return True
        return h5py.is_hdf5(path) and (ismrmrd.is_ismrmrd(path) or _is_fastmri(path))
    except (NorefError, OSError):
        return False


def _is_fastmri(path: Path) -> bool:
    with opened(path) as file:
        return "kspace" in file and "ismrmrd_header" in file
