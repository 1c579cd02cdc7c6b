"""Writing images in any format: the writer is chosen by the suffix."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.files import whole
from noref.formats import bart, dicom, fastmri, geometry, mrd2_images, mrd_images, nifti, png
from noref.scan import Header

SUFFIXES = (".h5", ".nii", ".nii.gz", ".npy", ".cfl", ".png", ".dcm", ".mrd", ".mrd2")
"""What `write` can write."""

Array = Tensor | NDArray[Any]

ANY_SIZE = (".mrd", ".mrd.h5", mrd2_images.SUFFIX, dicom.SUFFIX)
"""What holds images of several sizes: each is written with its own."""


def write(
    path: Path | str,
    images: Array | Sequence[Array],
    header: Header | Sequence[Header] | None = None,
    *,
    made: str = "",
    patient: dicom.Patient | None = None,
) -> None:
    """Writes images in the format that the suffix names, all of the file or nothing.

    `.h5` (fastMRI's submission format), `.nii`, `.nii.gz`, `.png` and `.dcm` hold magnitudes; `.npy`, `.cfl`,
    `.mrd` or `.mrd.h5` (ISMRMRD) and `.mrd2` (MRD 2) keep the phase. `.dcm` is a new folder with a file a
    slice.

    Args:
        path: of the file; its folder is made if need be.
        images: `(slices, y, x)` or `(y, x)`, or a list of `(y, x)`, which formats in `ANY_SIZE` hold even
            where they differ in size.
        header: geometry of the first slice, or of every slice.
        made: what reconstructed the images, and whether of k-space that is not raw; all but `.npy` say so.
        patient: from `dicom.patient_of`, to whom DICOM is to belong; else it belongs to nobody.

    Raises:
        NorefError: if the suffix is not known, the images are of another shape, or of several that the format
            has no place for, there are other slices than headers, or writing fails.
    """
    path = Path(path)
    slices = _as_slices(path, images)
    if not slices:
        raise NorefError(f"{path}: there is no slice to write")
    headers = geometry.headers_of(header or Header(), len(slices))
    if len(headers) != len(slices):
        raise NorefError(f"{path}: {len(headers)} headers for {len(slices)} slices; give one for each")
    if path.name.endswith((".mrd", ".mrd.h5")):
        mrd_images.write_images(path, slices, headers, made)
    elif path.suffix == mrd2_images.SUFFIX:
        mrd2_images.write_images(path, slices, headers, made)
    elif path.suffix == dicom.SUFFIX:
        dicom.write(path, slices, headers, made=made, patient=patient)
    else:
        check_size(path, [(values.shape[0], values.shape[1]) for values in slices])
        _write_stack(path, np.stack(slices), headers, made)


def check_size(path: Path, sizes: Iterable[tuple[int, int]], of: Path | None = None) -> None:
    """Refuses to write images of several sizes where the format has a place for one.

    Args:
        path: that is to be written.
        sizes: `(y, x)` of the images.
        of: the file that they are made of, for messages.

    Raises:
        NorefError: naming two of the sizes.
    """
    different = list(dict.fromkeys(sizes))
    if len(different) > 1 and not path.name.endswith(ANY_SIZE):
        one, other = (" × ".join(map(str, size)) for size in different[:2])
        whose = "" if of is None else f" of {of}"
        raise NorefError(
            f"{path}: slices{whose} differ in their matrix, {one} and {other}, and this format has one for "
            "all; write .mrd, .mrd2 or .dcm"
        )


def _as_slices(path: Path, images: Array | Sequence[Array]) -> list[NDArray[Any]]:
    """Arrays `(y, x)`."""
    if isinstance(images, Tensor | np.ndarray):
        one = _numpy(images)
        if one.ndim not in (2, 3):
            raise NorefError(f"{path}: images of {one.shape} cannot be written; expected (slices, y, x)")
        return list(one.reshape(-1, *one.shape[-2:]))
    found = [_numpy(image) for image in images]
    for image in found:
        if image.ndim != 2:
            raise NorefError(f"{path}: an image of {image.shape} cannot be written; expected (y, x)")
    return found


def _numpy(array: Array) -> NDArray[Any]:
    return array.detach().cpu().resolve_conj().numpy() if isinstance(array, Tensor) else array


def _write_stack(path: Path, array: NDArray[Any], headers: Sequence[Header], made: str) -> None:
    """Writes `(slices, y, x)` in a format that holds no other."""
    if path.name.endswith((".nii", ".nii.gz")):
        nifti.write(path, array, headers, made=made)
    elif path.suffix == ".h5":
        fastmri.write_images(path, array, acquisition=headers[0].protocol, made=made)
    elif path.suffix == ".png":
        png.write(path, array, made)
    elif path.suffix == ".cfl":
        bart.write_images(path, array, made)
    elif path.suffix == ".npy":
        # NumPy does not say why it could not write a file of its own.
        with whole(path) as temporary, io.BytesIO() as file:
            np.save(file, array)
            temporary.write_bytes(file.getvalue())
    else:
        raise NorefError(
            f"{path}: noref writes images as {', '.join(SUFFIXES)}; choose one of these suffixes"
        )
