"""Images as a stream of MRD version 2, by mrd-python, the extra `mrd2`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.files import whole
from noref.formats.mrd2 import module
from noref.scan import Header

SUFFIX = ".mrd2"
"""Of files that are to be one: `.mrd` is version 1, the version that most tools read."""


def write_images(path: Path, images: NDArray[Any], header: Header) -> None:
    """Writes images `(slices, y, x)`, complex or magnitudes, as one series.

    Args:
        path: of the file.
        images: complex64, or real.
        header: of the first slice; the others follow along the slice normal.

    Raises:
        NorefError: if mrd-python is not installed, or the file system refuses.
    """
    mrd = module(path)
    # The package closes the files that it opens itself alone.
    with whole(path) as temporary, temporary.open("wb") as file, mrd.BinaryMrdWriter(file) as writer:
        writer.write_header(_header(mrd, images.shape, header))
        writer.write_data(_image(mrd, number, values, header) for number, values in enumerate(images))


def _view(shape: tuple[int, ...], header: Header) -> tuple[float, float, float]:
    """Millimetres along x, y and z; 0 where not known."""
    z, y, x = header.spacing[2:] + header.spacing[:2] if header.spacing else (0.0, 0.0, 0.0)
    return shape[-1] * x, shape[-2] * y, z


def _header(mrd: ModuleType, shape: tuple[int, ...], header: Header) -> Any:
    wide, high, deep = _view(shape, header)
    space = mrd.EncodingSpaceType(
        matrix_size=mrd.MatrixSizeType(x=shape[-1], y=shape[-2], z=1),
        field_of_view_mm=mrd.FieldOfViewMm(x=wide, y=high, z=deep),
    )
    limits = mrd.EncodingLimitsType(slice=mrd.LimitType(maximum=shape[0] - 1))
    return mrd.Header(
        measurement_information=mrd.MeasurementInformationType(
            patient_position=mrd.PatientPosition.H_FS, protocol_name=header.protocol
        ),
        encoding=[mrd.EncodingType(encoded_space=space, recon_space=space, encoding_limits=limits)],
    )


def _image(mrd: ModuleType, number: int, values: NDArray[Any], header: Header) -> Any:
    cplx = np.iscomplexobj(values)
    head = mrd.ImageHeader(
        image_type=mrd.ImageType.COMPLEX if cplx else mrd.ImageType.MAGNITUDE,
        field_of_view=np.array(_view(values.shape, header), np.float32),
        slice=number,
        image_index=number,
        image_series_index=0,
    )
    if header.position is not None and header.directions is not None:
        head.col_dir, head.line_dir, head.slice_dir = np.array(header.directions, np.float32)
        step = (header.spacing or (0.0, 0.0, 0.0))[2] * number
        head.position = np.array(header.position, np.float32) + np.float32(step) * head.slice_dir
    data = np.ascontiguousarray(values[None, None], np.complex64 if cplx else np.float32)
    kind = mrd.StreamItem.ImageComplexFloat if cplx else mrd.StreamItem.ImageFloat
    return kind(mrd.Image(head=head, data=data))
