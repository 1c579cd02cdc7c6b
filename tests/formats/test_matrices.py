"""The pixels of a slice's image are known before it is read, and all scans of a space have one matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mrd_files import CALIBRATION, NOISE, kspace, lines, readout, space, write, xml

from noref import formats
from noref.formats import fastmri, mrd_writing
from noref.formats.base import Slices
from noref.scan import Scan


def pixels(scan: Scan) -> tuple[int, int]:
    """Of the image: the clinical field of view, which may be wider than what was encoded."""
    (rows, columns), crop = scan.matrix, scan.header.crop or scan.matrix
    return min(rows, crop[0]), min(columns, crop[1])


def check(slices: Slices) -> None:
    for index, scan in enumerate(slices):
        assert slices.pixels(index) == pixels(scan)


@pytest.mark.parametrize("views", [None, ((64.0, 50.0, 5.0), (32.0, 50.0, 5.0)), ((64.0, 50.0, 5.0),) * 2])
@pytest.mark.parametrize("recon", [(16, 20, 1), (16, 25, 1), (32, 25, 1), (64, 50, 1)])
def test_of_a_slice(
    views: tuple[tuple[float, float, float], ...] | None, recon: tuple[int, int, int], tmp_path: Path
) -> None:
    one, other = views or (None, None)
    header = xml(space((32, 25, 1), recon, view=one, recon_view=other, limits=(0, 24, 12)))
    check(formats.read(write(tmp_path / "a.h5", lines(kspace(2, 25, 32)), header)))


@pytest.mark.parametrize("deep", [0, 1, 6])
@pytest.mark.parametrize("wide", [8.0, 16.0])
def test_of_a_plane_of_a_volume(deep: int, wide: float, tmp_path: Path) -> None:
    values = kspace(2, 6, 10, 16)
    made = [
        one for k in range(6) for one in lines(np.ascontiguousarray(values[:, k]), kspace_encode_step_2=k)
    ]
    view = (16.0, 10.0, 6.0)
    header = xml(space((16, 10, deep), (8, 10, deep), view=view, recon_view=(wide, 8.0, 4.0)))
    slices = formats.read(write(tmp_path / "a.h5", made, header))
    assert len(slices) == int(wide)
    check(slices)


def test_of_spokes_and_of_files_with_companions(tmp_path: Path) -> None:
    where = np.linspace(-0.5, 0.5, 24, endpoint=False, dtype=np.float32)
    spokes = [
        readout(values, traj=np.stack([where * np.cos(a), where * np.sin(a)], 1).astype(np.float32))
        for a, values in enumerate(np.moveaxis(kspace(2, 9, 24), 1, 0))
    ]
    path = write(tmp_path / "radial.h5", spokes, xml(space((24, 24, 1), (12, 12, 1), trajectory="radial")))
    check(formats.read(path))
    image = write(tmp_path / "a.h5", lines(kspace(2, 16, 12)), xml(space((12, 16, 1))))
    noise = write(tmp_path / "n.h5", [readout(kspace(2, 64), NOISE)], xml(space((12, 16, 1))))
    check(formats.read(image, noise=noise))
    assert formats.read(image, noise=noise).pixels(0) == (16, 12)


def test_of_arrays_all_are_alike(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", kspace(3, 16, 12))
    assert formats.read(tmp_path / "a.npy", axes="coils,ky,kx").pixels(0) is None


@pytest.mark.real_data
def test_a_real_scan(real_data: Path) -> None:
    check(formats.read(real_data / "twix" / "gre_2ch_phantom.dat"))


def test_a_separate_calibration_scan_has_the_matrix_of_its_image(tmp_path: Path) -> None:
    """Without a header: lines 12 to 19 of 32 are its centre, not the last ones of 20."""
    values = kspace(2, 32, 16)
    image = lines(values, rows=list(range(1, 32, 2)))
    own = lines(values, CALIBRATION, rows=list(range(12, 20)))
    (scan,) = formats.read(write(tmp_path / "a.h5", image + own, None))
    assert scan.shape == (32, 16)
    assert scan.calibration is not None
    np.testing.assert_array_equal(scan.calibration, values[:, 12:20])


def test_volumes_without_a_header_have_one_matrix(tmp_path: Path) -> None:
    values, made = kspace(2, 6, 10, 16), []
    for repetition, partitions in enumerate((6, 5)):
        for k in range(partitions):
            plane = np.ascontiguousarray(values[:, k])
            made += lines(plane, kspace_encode_step_2=k, repetition=repetition)
    slices = formats.read(write(tmp_path / "a.h5", made, None))
    assert {scan.shape for scan in slices} == {(10, 6)}
    np.testing.assert_array_equal(slices[0].kspace[..., :5], slices[len(slices) // 2].kspace[..., :5])


def test_each_encoding_space_has_its_own(tmp_path: Path) -> None:
    made = lines(kspace(2, 32, 16)) + lines(kspace(2, 20, 24), encoding_space_ref=1)
    slices = formats.read(write(tmp_path / "a.h5", made, None))
    assert [scan.shape for scan in slices] == [(32, 16), (20, 24)]
    check(slices)


@pytest.mark.parametrize("writer", [fastmri.write, mrd_writing.write])
def test_an_error_of_the_scans_is_theirs_and_leaves_no_file(writer: object, tmp_path: Path) -> None:
    """Not one of the file that was being written."""

    class Broken(list[Scan]):
        def __iter__(self) -> object:  # type: ignore[override] # ends in an error
            yield from super().__iter__()
            raise ValueError("no more")

    assert callable(writer)
    (scan,) = formats.read(write(tmp_path / "a.h5", lines(kspace(2, 16, 12)), xml(space((12, 16, 1)))))
    with pytest.raises(ValueError, match="no more"):
        writer(tmp_path / "b.h5", Broken([scan]))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
