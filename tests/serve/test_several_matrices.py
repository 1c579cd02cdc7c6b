"""What a server makes of a scan whose slices differ in their matrix is written slice by slice."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import mrd
import numpy as np
import pydicom
import pytest
from mrd_files import kspace, lines, space, write, xml
from served import serving

from noref import formats
from noref.errors import NorefError
from noref.serve import received


@pytest.mark.parametrize("header", ["two spaces", "none"])
def test_every_image_is_written(header: str, tmp_path: Path) -> None:
    """Without a header the server, which has seen one slice at a time, goes by the lines of each."""
    if header == "none":
        sizes, text, number = ((32, 24), (32, 24), (31, 24)), "no XML", "repetition"
    else:
        sizes, number = ((32, 24), (32, 24), (48, 24)), "encoding_space_ref"
        text = xml(*(space((x, y, 1), limits=(0, y - 1, y // 2)) for y, x in sizes[1:]))
    readouts = []
    for index, (y, x) in enumerate(sizes):
        told = {"slice": index} if index < 2 else {number: 1}
        readouts += lines(kspace(2, y, x, seed=index), **told)
    path = write(tmp_path / "scan.h5", readouts, text)
    with serving() as served, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = received(path, host="127.0.0.1", port=served.server.port)
    answer.write(tmp_path / "x.mrd")
    with h5py.File(tmp_path / "x.mrd") as file:
        shapes = [file[f"dataset/image_{number}/data"].shape for number in (0, 1)]
        told = [file[f"dataset/image_{number}/header"]["image_series_index"].tolist() for number in (0, 1)]
    assert told == [[0, 0], [1]]
    assert shapes == [(2, 1, 1, *sizes[0]), (1, 1, 1, *sizes[2])]
    images, headers, made = answer.slices(path)
    assert [image.shape for image in images] == list(sizes)
    formats.write(tmp_path / "x.mrd2", images, headers, made=made)
    with (tmp_path / "x.mrd2").open("rb") as stream, mrd.BinaryMrdReader(stream) as reader:
        reader.read_header()
        read = [item.value.data[0, 0] for item in reader.read_data()]
    for one, image in zip(read, images, strict=True):
        np.testing.assert_array_equal(one, image)
    with pytest.warns(UserWarning, match="made up"):
        formats.write(tmp_path / "x.dcm", images, headers, made=made)
    assert [pydicom.dcmread(one).Rows for one in sorted((tmp_path / "x.dcm").iterdir())] == [
        rows for rows, _ in sizes
    ]
    with pytest.raises(NorefError, match=r"x\.npy: slices differ in their matrix, .* write \.mrd"):
        formats.write(tmp_path / "x.npy", images, headers)
    assert not (tmp_path / "x.npy").exists()
