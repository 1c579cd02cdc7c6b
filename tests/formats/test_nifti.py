"""NIfTI in: slices lie where nibabel's affine puts them, and come back out at the same place."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from noref import formats
from noref.data.files import files_of
from noref.errors import NorefError
from noref.physics import ifft2c
from noref.scan import Scan


def volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 500, shape).astype(np.int16)


def affine(
    degrees: tuple[float, float, float], zooms: tuple[float, float, float], flips: tuple[int, ...]
) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, True).as_matrix() @ np.diag(np.array(zooms) * flips)
    matrix[:3, 3] = (-20, 33, 5)
    return matrix


OBLIQUE = affine((20, -35, 50), (1.25, 2.0, 6.0), (-1, 1, 1))


def save(path: Path, array: np.ndarray, placed: np.ndarray | None = OBLIQUE, code: int = 1) -> Path:
    made = nibabel.Nifti1Image(array, placed)
    made.set_sform(placed, code)
    made.set_qform(placed, code)
    nibabel.save(made, path)
    return path


def shown(scan: Scan) -> np.ndarray:
    return ifft2c(scan.kspace)[0].numpy()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slices_are_images_made_into_kspace(tmp_path: Path, suffix: str) -> None:
    array = volume(9, 6, 4)
    scans = formats.read(save(tmp_path / f"head.t2{suffix}", array))
    assert scans.format == "NIfTI"
    assert scans.ids == tuple(f"head.t2/head.t2/{i:03d}" for i in range(4))
    for index, scan in enumerate(scans):
        np.testing.assert_allclose(shown(scan), array[..., index].T, atol=1e-3)
        assert scan.kspace.shape == (1, 6, 9)
        assert scan.mask.all()
        assert not scan.raw


def test_scaled_complex_and_second_version_files_are_read(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(volume(6, 5, 2), OBLIQUE)
    made.header.set_slope_inter(0.5, 7)
    nibabel.save(made, tmp_path / "scaled.nii")
    np.testing.assert_allclose(
        shown(formats.read(tmp_path / "scaled.nii")[1]),
        nibabel.load(tmp_path / "scaled.nii").get_fdata()[..., 1].T,
        atol=1e-3,
    )
    complex_ = (volume(6, 5, 2) * 1j).astype(np.complex64)
    save(tmp_path / "complex.nii", complex_)
    np.testing.assert_allclose(
        shown(formats.read(tmp_path / "complex.nii")[0]), complex_[..., 0].T, atol=1e-3
    )
    nibabel.save(nibabel.Nifti2Image(volume(6, 5, 2), OBLIQUE), tmp_path / "second.nii.gz")
    assert len(formats.read(tmp_path / "second.nii.gz")) == 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    zooms=st.tuples(*[st.floats(0.2, 9)] * 3),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3),
)
def test_places_survive_reading_and_writing(
    tmp_path_factory: pytest.TempPathFactory,
    degrees: tuple[float, float, float],
    zooms: tuple[float, float, float],
    flips: tuple[int, int, int],
) -> None:
    folder = tmp_path_factory.mktemp("places")
    placed = affine(degrees, zooms, flips)
    scans = formats.read(save(folder / "a.nii", volume(9, 6, 4), placed))
    for index, scan in enumerate(scans):
        # The middle of the slice in RAS, by nibabel's affine.
        ras = placed @ [4, 2.5, index, 1]
        np.testing.assert_allclose(np.array(scan.header.position) * [-1, -1, 1], ras[:3], atol=1e-3)
        assert scan.header.spacing == pytest.approx((zooms[1], zooms[0], zooms[2]), rel=1e-5)
    images, headers = np.stack([shown(scan) for scan in scans]), [scan.header for scan in scans]
    for name, header in (("b.nii", headers), ("c.nii", headers[0])):
        formats.write(folder / name, images, header)
        written = nibabel.load(folder / name)
        np.testing.assert_allclose(written.affine, placed, atol=2e-3)
        np.testing.assert_allclose(written.get_fdata(), volume(9, 6, 4), atol=1e-2)


def test_axes_can_be_named_otherwise(tmp_path: Path) -> None:
    array = volume(4, 9, 6)
    scans = formats.read(save(tmp_path / "a.nii", array), axes="slice,x,y")
    assert len(scans) == 4
    np.testing.assert_allclose(shown(scans[3]), array[3].T, atol=1e-3)
    np.testing.assert_allclose(
        np.array(scans[3].header.position) * [-1, -1, 1], (OBLIQUE @ [3, 4, 2.5, 1])[:3], atol=1e-4
    )
    assert scans[3].header.spacing == pytest.approx((6.0, 2.0, 1.25))


def test_several_volumes_are_several_scans(tmp_path: Path) -> None:
    array = volume(6, 5, 3, 2)
    scans = formats.read(save(tmp_path / "a.nii", array))
    assert scans.ids[4] == "a/a.1/001"
    np.testing.assert_allclose(shown(scans[4]), array[..., 1, 1].T, atol=1e-3)
    assert scans[4].header == replace(scans[1].header, repetition=1)
    save(tmp_path / "one.nii", array[..., 0, 0])
    assert len(formats.read(tmp_path / "one.nii")) == 1


def test_a_place_is_not_claimed_where_none_is_known(tmp_path: Path) -> None:
    (scan,) = formats.read(save(tmp_path / "a.nii", volume(6, 5, 1), np.diag([1.5, 2, 4, 1]), code=0))
    header = scan.header
    assert (header.position, header.directions) == (None, None)
    assert header.spacing == pytest.approx((2, 1.5, 4))


def test_units_are_millimetres(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(volume(6, 5, 2), np.diag([0.001, 0.002, 0.004, 1]))
    made.header.set_xyzt_units("meter")
    nibabel.save(made, tmp_path / "a.nii")
    assert formats.read(tmp_path / "a.nii")[0].header.spacing == pytest.approx((2, 1, 4))


def nan(path: Path) -> None:
    array = volume(6, 5, 2).astype(np.float32)
    array[0, 0, 0] = np.nan
    save(path, array)


def coloured(path: Path) -> None:
    save(path, np.zeros((6, 5, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]))


def cut(path: Path) -> None:
    save(path, volume(60, 50, 20))
    path.write_bytes(path.read_bytes()[:-2000])


def cut_inside(path: Path) -> None:
    cut(path)
    path.write_bytes(gzip.compress(gzip.decompress(save(path, volume(9, 8, 7)).read_bytes())[:-50]))


BAD: list[tuple[Callable[[Path], object], str]] = [
    (nan, "slice 0: the image holds NaN or infinity"),
    (lambda path: save(path, volume(6, 5, 2) * 0), "slice 0: the image is all zeros"),
    (coloured, "not grey values; convert it"),
    (cut, "damaged or incomplete"),
    (cut_inside, "damaged or incomplete"),
    (lambda path: path.write_bytes(gzip.compress(b"text")), "of no known format"),
    (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(50)), "damaged or incomplete"),
    (lambda path: save(path, volume(6, 5, 2, 2, 2)), "say with axes which is which"),
]


@pytest.mark.parametrize(("make", "complaint"), BAD, ids=[complaint for _, complaint in BAD])
def test_what_cannot_be_read_gets_one_line(
    tmp_path: Path, make: Callable[[Path], object], complaint: str
) -> None:
    path = tmp_path / "a.nii.gz"
    make(path)
    with pytest.raises(NorefError, match=complaint) as caught:
        list(formats.read(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_volume_has_no_keys(tmp_path: Path) -> None:
    with pytest.raises(NorefError, match="has no m; leave out key and mask_key"):
        formats.read(save(tmp_path / "a.nii", volume(6, 5, 2)), mask_key="m")


def test_a_folder_of_volumes_is_listed(tmp_path: Path) -> None:
    for name in ("b.nii", "a.nii.gz"):
        save(tmp_path / name, volume(6, 5, 2))
    assert [path.name for path in files_of(str(tmp_path))] == ["a.nii.gz", "b.nii"]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["brain_fernando_t2", "cspine_sct_mt1"])
def test_real_volumes_come_back_at_their_place(real_data: Path, tmp_path: Path, name: str) -> None:
    path = real_data / "nifti" / f"{name}.nii.gz"
    scans, original = formats.read(path), nibabel.load(path)
    few = [scans[i] for i in range(3)]
    formats.write(tmp_path / "a.nii", np.stack([shown(s) for s in few]), [s.header for s in few])
    written = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_allclose(written.affine, original.affine, atol=1e-4)
    np.testing.assert_allclose(written.get_fdata(), original.get_fdata()[..., :3], atol=0.01)
    assert replace(few[0].header, position=None) == replace(few[2].header, position=None)
