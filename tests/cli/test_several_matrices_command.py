"""Files whose scans differ in their matrix: written slice by slice where the format can, else refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import mrd
import numpy as np
import pydicom
import pytest
import torch
from command import done, noref, refused, tree
from mrd_files import lines, space, write, xml

import noref as package
from noref import cli
from noref.classical import CLASSICAL, reconstruct
from noref.data.prepare import Preparation, prepare
from noref.formats.mrd_image_files import read_images
from noref.physics import fft2c

with warnings.catch_warnings():
    import ismrmrd

SIZES = ((48, 40), (48, 48), (48, 40))
"""Rows and columns of three scans: the second is of an encoding space of its own."""


def disc(rows: int, columns: int, coils: int = 2) -> np.ndarray:
    """k-space of an ellipse seen by coils of different phase, with some noise, `(coils, ky, kx)`."""
    y, x = np.ogrid[-rows // 2 : rows // 2, -columns // 2 : columns // 2]
    image = ((y / 15) ** 2 + (x / 12) ** 2 < 1) * (1 + 0.02 * x)
    phases = np.exp(1j * np.arange(coils))[:, None, None]
    noise = np.random.default_rng(0).normal(size=(2, coils, rows, columns))
    values = fft2c(torch.from_numpy((image * phases).astype(np.complex64))).numpy()
    return np.asarray(values + 1e-3 * (noise[0] + 1j * noise[1]), np.complex64)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """One measurement of two encoding spaces, two repetitions of the first and one of the second."""
    header = xml(
        *(
            space((columns, rows, 1), view=(2.0 * columns, 2.0 * rows, 5.0), limits=(0, rows - 1, rows // 2))
            for rows, columns in SIZES[:2]
        )
    )
    place = {"read_dir": (1, 0, 0), "phase_dir": (0, 1, 0), "slice_dir": (0, 0, 1)}
    scans = [
        lines(disc(*SIZES[0]), encoding_space_ref=0, repetition=0, **place),
        lines(disc(*SIZES[0]), encoding_space_ref=0, repetition=1, **place),
        lines(disc(*SIZES[1]), encoding_space_ref=1, repetition=0, position=(0, 0, 9), **place),
    ]
    return write(tmp_path / "mixed.h5", [one for scan in scans for one in scan], header)


def images_of(path: Path) -> list[np.ndarray]:
    """The same slices, reconstructed one by one through Python."""
    scans = [prepare(scan, Preparation(holdout=0)) for scan in package.read(path)]
    return [(reconstruct(CLASSICAL["zero-filled"], scan) * scan.scale)[0].numpy() for scan in scans]


def test_mrd_has_a_series_for_each_matrix(mixed: Path, tmp_path: Path) -> None:
    done("reconstruct", "zero-filled", mixed, "-o", tmp_path / "x.mrd")
    wanted = images_of(mixed)
    assert [image.shape for image in wanted] == [(48, 40), (48, 40), (48, 48)]
    with ismrmrd.Dataset(str(tmp_path / "x.mrd"), mode="r") as file:
        assert file.number_of_images("image_0") == 2
        assert file.number_of_images("image_1") == 1
        encodings = ismrmrd.xsd.CreateFromDocument(file.read_xml_header()).encoding
        sizes = [(one.reconSpace.matrixSize.y, one.reconSpace.matrixSize.x) for one in encodings]
        assert sizes == [(48, 40), (48, 48)]
        for (series, number), image in zip(
            (("image_0", 0), ("image_0", 1), ("image_1", 0)), wanted, strict=True
        ):
            read = file.read_image(series, number)
            assert read.image_series_index == int(series[-1])
            np.testing.assert_allclose(read.data[0, 0], image, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(read.field_of_view[:], (2 * image.shape[1], 96, 5))
    again = read_images(tmp_path / "x.mrd")
    assert [image.shape for image, _ in again] == [(48, 40), (48, 40), (48, 48)]
    assert again[2][1].position == (0, 0, 9)


def test_mrd2_has_every_image_with_its_own_matrix(mixed: Path, tmp_path: Path) -> None:
    done("reconstruct", "zero-filled", mixed, "-o", tmp_path / "x.mrd2")
    with (tmp_path / "x.mrd2").open("rb") as file, mrd.BinaryMrdReader(file) as reader:
        header = reader.read_header()
        images = [item.value for item in reader.read_data()]
    assert [one.encoded_space.matrix_size.x for one in header.encoding] == [40, 48]
    assert [one.head.image_series_index for one in images] == [0, 0, 1]
    for one, wanted in zip(images, images_of(mixed), strict=True):
        np.testing.assert_allclose(one.data[0, 0], wanted, rtol=1e-5, atol=1e-6)


def test_dicom_has_a_series_for_each_matrix(mixed: Path, tmp_path: Path) -> None:
    done("reconstruct", "zero-filled", mixed, "-o", tmp_path / "x.dcm")
    assert tree(tmp_path / "x.dcm") == ["0001.dcm", "0002.dcm", "0003.dcm"]
    read = [pydicom.dcmread(tmp_path / "x.dcm" / f"000{number}.dcm") for number in (1, 2, 3)]
    assert [(one.Rows, one.Columns) for one in read] == [(48, 40), (48, 40), (48, 48)]
    series = [one.SeriesInstanceUID for one in read]
    assert series[0] == series[1] != series[2]
    assert len({one.StudyInstanceUID for one in read}) == 1
    assert len({one.FrameOfReferenceUID for one in read}) == 1
    assert [one.InstanceNumber for one in read] == [1, 2, 1]
    for one, wanted in zip(read, images_of(mixed), strict=True):
        stored = one.pixel_array * float(one.RescaleSlope)
        stored = stored / stored.max() * np.abs(wanted).max()
        np.testing.assert_allclose(stored, np.abs(wanted), atol=1e-2 * np.abs(wanted).max())
    # Each series is one that noref reads.
    assert package.read(tmp_path / "x.dcm" / "0003.dcm")[0].shape == (48, 48)


@pytest.mark.parametrize("suffix", [".nii.gz", ".h5", ".npy", ".png", ".cfl"])
def test_other_formats_are_refused_before_any_work(
    suffix: str, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(tmp_path)
    worked = list[object]()
    monkeypatch.setattr(cli.reconstruct.__globals__["api"], "dataset", lambda *_: worked.append(1))
    told = refused("reconstruct", "zero-filled", mixed, "-o", tmp_path / f"x{suffix}")
    assert told == (
        f"noref: {tmp_path / f'x{suffix}'}: slices of {mixed} differ in their matrix, 48 × 40 and 48 × 48, "
        "and this format has one for all; write .mrd, .mrd2 or .dcm"
    )
    assert not worked
    assert tree(tmp_path) == before


def test_of_several_files_none_is_begun(mixed: Path, undersampled: Path, tmp_path: Path) -> None:
    told = refused("reconstruct", "zero-filled", undersampled, mixed, "-o", tmp_path / "out")
    assert f"slices of {mixed} differ in their matrix" in told
    assert not (tmp_path / "out").exists()
    done("reconstruct", "zero-filled", undersampled, mixed, "-o", tmp_path / "out", "--suffix", ".mrd")
    assert len(tree(tmp_path / "out")) == 4


def test_images_of_one_matrix_are_one_series(tmp_path: Path) -> None:
    scans = [lines(disc(48, 40), repetition=repetition) for repetition in (0, 1)]
    path = write(tmp_path / "same.h5", [one for scan in scans for one in scan], xml(space((40, 48, 1))))
    for suffix in (".mrd", ".nii.gz"):
        done("reconstruct", "zero-filled", path, "-o", tmp_path / f"x{suffix}")
    with h5py.File(tmp_path / "x.mrd") as file:
        assert sorted(file["dataset"]) == ["image_0", "xml"]
        assert file["dataset/image_0/data"].shape == (2, 1, 1, 48, 40)


HEADERS: dict[str, Callable[[], str | None]] = {
    "none": lambda: None,
    "empty": lambda: "",
    "no XML": lambda: "no header at all",
    "without encodings": xml,
    "without a matrix": lambda: xml(space((0, 0, 0))),
}


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("short", [0, 1])
def test_without_a_header_all_scans_have_one_matrix(kind: str, short: int, tmp_path: Path) -> None:
    """Of two repetitions one lacks the last line: both have the other's matrix and centre."""
    values = disc(48, 40)
    scans = [
        lines(values, rows=list(range(47 if repetition == short else 48)), repetition=repetition)
        for repetition in (0, 1)
    ]
    path = write(tmp_path / "bare.h5", [one for scan in scans for one in scan], HEADERS[kind]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = package.read(path)
        both = list(read)
    for repetition, scan in enumerate(both):
        assert scan.shape == (48, 40)
        count = 47 if repetition == short else 48
        assert scan.measured.any(-1).nonzero().flatten().tolist() == list(range(count))
        np.testing.assert_array_equal(scan.kspace[:, :count], values[:, :count])
    done("reconstruct", "zero-filled", path, "-o", tmp_path / "x.npy")
    images = np.load(tmp_path / "x.npy")
    assert images.shape == (2, 48, 40)
    # Were the centre that of 47 lines, a ramp of phase would part them.
    np.testing.assert_allclose(images[0], images[1], atol=0.02 * np.abs(images).max())


def test_a_header_without_a_matrix_tells_the_last_line(tmp_path: Path) -> None:
    values = disc(48, 40)
    header = xml(space((0, 0, 0), limits=(0, 47, 24)))
    path = write(tmp_path / "limits.h5", lines(values, rows=list(range(40))), header)
    (scan,) = package.read(path)
    assert scan.shape == (48, 40)


def test_inspect_takes_both(mixed: Path) -> None:
    told = noref("inspect", mixed)
    assert told.code == 0
    assert "slices: 3, in 3 volumes" in told.out
