"""Siemens raw files by command: looked at, prepared, reconstructed, trained on, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mrd_files
import nibabel
import numpy as np
import pytest
import torch
from command import TINY, done, refused, tree
from mrd_files import kspace
from twix_files import block, lines, protocol, write

from noref import formats
from noref.data.store import Store
from noref.physics import fft2c, ifft2c, pad_centre

GRE, PULSEQ = "twix/gre_2ch_phantom.dat", "twix/pulseq_32ch_phantom_MID00243.dat"


@pytest.mark.real_data
def test_inspect_tells_what_is_in_it(real_data: Path, tmp_path: Path) -> None:
    told = done("inspect", real_data / GRE, real_data / PULSEQ, "--picture", tmp_path / "look.png").out
    for text in (
        "format: Siemens twix",
        "matrix: 160 × 320",
        "coils: 2",
        "sampling: full",
        "crop 160 × 160, spacing 1.25 × 1.25 × 4 mm, placed in the scanner, 2.89 T, TR 10 ms, TE 3 ms",
        "matrix: 64 × 64",
        "coils: 32",
        "spacing 2 × 2 × 30 mm",
    ):
        assert text in told
    assert (tmp_path / "look.png").stat().st_size > 0


@pytest.mark.real_data
def test_a_folder_is_prepared_and_reconstructed(real_data: Path, tmp_path: Path) -> None:
    how = ("oversampling=remove", "whiten=true", "coils=8")
    done("prepare", real_data / "twix", *how, "holdout=0", "-o", tmp_path / "store")
    sizes = {(scan.coils, *scan.shape) for scan in Store(tmp_path / "store")}
    assert sizes == {(2, 160, 160), (8, 64, 64)}
    done("reconstruct", "zero-filled", real_data / GRE, *how[:2], "-o", tmp_path / "gre.nii.gz")
    volume = nibabel.load(tmp_path / "gre.nii.gz")
    assert volume.shape == (160, 160, 1)
    (scan,) = formats.read(real_data / GRE)
    assert scan.header.position is not None
    # The centre of the image, from LPS to RAS.
    middle = volume.affine @ (79.5, 79.5, 0, 1)
    np.testing.assert_allclose(middle[:3], np.array(scan.header.position) * (-1, -1, 1), atol=1e-3)


@pytest.mark.real_data
def test_a_model_trains_on_it(real_data: Path, tmp_path: Path) -> None:
    sampling = ["mask=lines", "acceleration=2", "acs=24", "oversampling=remove"]
    settings = [f"data.target.{text}" for text in sampling]
    done(
        "train",
        "default",
        f"data.target.path={real_data / GRE}",
        *settings,
        *TINY,
        f"output={tmp_path / 'run'}",
    )
    done("reconstruct", tmp_path / "run", real_data / GRE, *sampling, "-o", tmp_path / "gre.npy")
    (image,) = np.load(tmp_path / "gre.npy")
    assert image.shape == (160, 160)
    assert np.isfinite(image).all()


def test_a_measurement_is_chosen_by_its_name(tmp_path: Path) -> None:
    first, last = kspace(1, 8, 12, seed=1), kspace(1, 8, 12, seed=2)
    scan = write(
        tmp_path / "a.dat",
        ("localizer", protocol(tProtocolName='"localizer"'), lines(first)),
        ("gre", protocol(), lines(last)),
    )
    assert "protocol gre" in done("inspect", scan).out
    assert "protocol localizer" in done("inspect", scan, "--key", "localizer").out
    done("reconstruct", "zero-filled", scan, "key=localizer", "-o", tmp_path / "a.npy")
    (image,) = np.load(tmp_path / "a.npy")
    expected = ifft2c(torch.from_numpy(first))[0, :, 3:9]
    np.testing.assert_allclose(np.abs(image), expected.abs(), rtol=1e-4, atol=1e-5)


OBJECT = torch.from_numpy(kspace(1, 8, 6, seed=7))
"""An image in the clinical field of view: 8 rows and 6 columns of 2 mm."""


def oversampled() -> np.ndarray:
    """Its k-space of a field of view twice as large along the read-out, and by a half along the lines."""
    return fft2c(pad_centre(OBJECT, (12, 12))).numpy()


def as_twix(path: Path) -> Path:
    header = protocol({"iPEFTLength": 12, "iNoOfFourierLines": 12}, sKSpace_dPhaseOversamplingForDialog=0.5)
    return write(path.with_suffix(".dat"), ("gre", header, lines(oversampled(), centre_line=6)))


def as_mrd(path: Path) -> Path:
    views = {"view": (24, 24, 5), "recon_view": (12, 16, 5)}
    space = mrd_files.space((12, 12, 1), (6, 8, 1), **views, limits=(0, 11, 6))
    return mrd_files.write(path.with_suffix(".h5"), mrd_files.lines(oversampled()), mrd_files.xml(space))


@pytest.mark.parametrize("made", [as_twix, as_mrd])
@pytest.mark.parametrize("oversampling", ["keep", "remove"])
def test_oversampling_along_both_axes_is_cut_off_the_image(
    tmp_path: Path, made: Callable[[Path], Path], oversampling: str
) -> None:
    scan = made(tmp_path / "a")
    for suffix in (".npy", ".nii.gz"):
        asked = f"oversampling={oversampling}"
        done("reconstruct", "zero-filled", scan, asked, "-o", tmp_path / f"a{suffix}")
    (image,) = np.load(tmp_path / "a.npy")
    np.testing.assert_allclose(np.abs(image), OBJECT[0].abs(), rtol=1e-4, atol=1e-5)
    volume = nibabel.load(tmp_path / "a.nii.gz")
    assert volume.shape == (6, 8, 1)
    np.testing.assert_allclose(volume.header.get_zooms(), (2, 2, 5), rtol=1e-5)
    done("prepare", scan, f"oversampling={oversampling}", "-o", tmp_path / "store", "holdout=0")
    (prepared,) = Store(tmp_path / "store")
    assert prepared.shape == (12, 6 if oversampling == "remove" else 12)
    assert prepared.header.crop == (8, 6)


def broken(path: Path) -> Path:
    write(path, ("gre", protocol(), lines(kspace(2, 8, 12))))
    path.write_bytes(path.read_bytes()[:-1500])
    return path


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (broken, "damaged or incomplete"),
    "no image": (
        lambda path: write(path, ("gre", protocol(), [block(kspace(2, 256), "NOISEADJSCAN")])),
        "holds no image data",
    ),
    "not twix": (lambda path: path.write_bytes(b"raw data, in prose" * 99), "of no known format"),
    "noise of other coils": (
        lambda path: write(
            path,
            ("AdjCoilSens", protocol(), [block(kspace(3, 256), "NOISEADJSCAN")]),
            ("gre", protocol(), lines(kspace(2, 8, 12))),
        ),
        "noise scans of 3 channels, but 2 in the image",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_end_in_one_line(tmp_path: Path, name: str) -> None:
    make, said = BAD[name]
    path = tmp_path / "in" / "a.dat"
    path.parent.mkdir()
    make(path)
    before = tree(tmp_path)
    for command in (
        ("inspect", path),
        ("prepare", path, "-o", tmp_path / "store"),
        ("reconstruct", "zero-filled", path, "-o", tmp_path / "a.npy"),
        ("train", "default", f"data.target.path={path}", f"output={tmp_path / 'run'}", *TINY),
    ):
        line = refused(*command)
        assert said in line
        assert str(path) in line
    assert tree(tmp_path) == before


def test_lines_that_were_filled_in_are_told_and_can_be_believed(tmp_path: Path) -> None:
    ky, kx = 64, 48
    values = kspace(1, ky, kx)
    space = mrd_files.space((kx, ky, 1), limits=(0, ky - 1, ky // 2)).replace(
        "</encoding>",
        "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>"
        "<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor></parallelImaging></encoding>",
    )
    scan = mrd_files.write(tmp_path / "a.h5", mrd_files.lines(values), mrd_files.xml(space))
    told = done("inspect", scan).out
    assert "filled in: 20 lines, left out: the header tells R = 2, and yet no line is empty" in told
    assert "lines, R = 1.45, ACS 25 lines" in told
    believed = done("inspect", scan, "--acquired", "all").out
    assert "filled in" not in believed
    assert "sampling: full" in believed
    prepared = done("prepare", scan, "-o", tmp_path / "store").err
    assert "in 1 of 1 volumes looked at, lines were left out that parallel imaging seems to have" in prepared
    again = done("prepare", scan, "acquired=all", "holdout=0", "-o", tmp_path / "all").err
    assert "left out" not in again
    assert [scan.mask.all().item() for scan in Store(tmp_path / "all")] == [True]
    said = refused("prepare", scan, "mask=lines", "-o", tmp_path / "no")
    assert "use mask=acquired, or acquired=all to believe lines that seem filled in" in said
    refused("train", "default", f"data.target.path={tmp_path / 'store'}", "data.target.acquired=all", *TINY)
