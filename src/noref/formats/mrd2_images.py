"""Images as a stream of MRD version 2, by mrd-python, the extra `mrd2`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.files import whole
from noref.formats.geometry import COUNTERS, Images, alike, slices_of
from noref.formats.mrd2 import module
from noref.formats.mrd_header import EncodingSpace
from noref.formats.mrd_images import attributes_of, measurement_of, view_of
from noref.scan import Header

SUFFIX = ".mrd2"
"""Of files that are to be one: `.mrd` is version 1, the version that most tools read."""


def write_images(path: Path, images: Images, headers: Sequence[Header], made: str = "") -> None:
    """Writes images, complex or magnitudes, those of each size as a series.

    Args:
        path: of the file.
        images: complex64, or real.
        headers: of every image.
        made: what reconstructed them.

    Raises:
        NorefError: if mrd-python is not installed, or the file system refuses.
    """
    mrd = module(path)
    # The package closes the files that it opens itself alone.
    with whole(path) as temporary, temporary.open("wb") as file, mrd.BinaryMrdWriter(file) as writer:
        writer.write_header(_header(mrd, images, headers))
        writer.write_data(_images(mrd, images, headers, made))


def _header(mrd: ModuleType, images: Images, headers: Sequence[Header]) -> Any:
    told = measurement_of(images, headers)
    return mrd.Header(
        measurement_information=mrd.MeasurementInformationType(
            patient_position=mrd.PatientPosition.H_FS, protocol_name=told.protocol
        ),
        sequence_parameters=mrd.SequenceParametersType(
            t_r=[told.repetition_time] if told.repetition_time is not None else [],
            t_e=list(told.echo_times),
            t_i=[told.inversion_time] if told.inversion_time is not None else [],
            flip_angle_deg=[told.flip_angle] if told.flip_angle is not None else [],
        ),
        encoding=[_encoding(mrd, space) for space in told.spaces],
    )


def _encoding(mrd: ModuleType, told: EncodingSpace) -> Any:
    (x, y, z), (wide, high, deep) = told.encoded.matrix, told.encoded.view
    space = mrd.EncodingSpaceType(
        matrix_size=mrd.MatrixSizeType(x=x, y=y, z=z),
        field_of_view_mm=mrd.FieldOfViewMm(x=wide, y=high, z=deep),
    )
    limits = {name: mrd.LimitType(maximum=last) for name, last in told.last.items()}
    return mrd.EncodingType(
        encoded_space=space, recon_space=space, encoding_limits=mrd.EncodingLimitsType(**limits)
    )


def _images(mrd: ModuleType, images: Images, headers: Sequence[Header], made: str) -> Iterator[Any]:
    """One after another, series by series."""
    for series, indices in enumerate(alike(images)):
        own = [headers[index] for index in indices]
        for number, (index, slice_) in enumerate(zip(indices, slices_of(own), strict=True)):
            one = _image(mrd, number, slice_, images[index], headers[index], made)
            one.value.head.image_series_index = series
            yield one


def _image(mrd: ModuleType, index: int, slice_: int, values: NDArray[Any], header: Header, made: str) -> Any:
    cplx = np.iscomplexobj(values)
    head = mrd.ImageHeader(
        image_type=mrd.ImageType.COMPLEX if cplx else mrd.ImageType.MAGNITUDE,
        field_of_view=np.array(view_of(values.shape, header), np.float32),
        slice=slice_,
        image_index=index,
        **{name: getattr(header, name) for name in COUNTERS},
    )
    if header.position is not None and header.directions is not None:
        head.col_dir, head.line_dir, head.slice_dir = np.array(header.directions, np.float32)
        head.position = np.array(header.position, np.float32)
    told = attributes_of(header, made)
    meta = {name: [mrd.ImageMetaValue.String(value) for value in texts] for name, texts in told.items()}
    data = np.ascontiguousarray(values[None, None], np.complex64 if cplx else np.float32)
    kind = mrd.StreamItem.ImageComplexFloat if cplx else mrd.StreamItem.ImageFloat
    return kind(mrd.Image(head=head, data=data, meta=meta))
