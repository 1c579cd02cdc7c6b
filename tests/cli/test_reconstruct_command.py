"""`noref reconstruct`: the same image in every format, and nothing over anything that was there."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from command import done, refused, tree
from numpy.typing import NDArray
from PIL import Image

import noref
from noref.api import dataset
from noref.config import Source
from noref.data.prepare import Preparation, prepare
from noref.data.shown import cropped
from noref.data.storing import write_store
from noref.formats import fastmri
from noref.formats.png import grey, sheet
from noref.scan import Role


@pytest.fixture(scope="module")
def scan(undersampled: Path) -> Path:
    return undersampled / "brain-0002.h5"


def expected(model: Path, scan: Path) -> NDArray[np.complex64]:
    """What the same comes to in Python: `(slices, y, x)`, in the file's units."""
    loaded = noref.load(model, device="cpu")
    scans = [loaded.prepare(one) for one in noref.read(scan)]
    return np.stack([cropped((loaded.reconstruct(one) * one.scale)[0], one).numpy() for one in scans])


def test_a_model_writes_every_format(run: Path, scan: Path, tmp_path: Path) -> None:
    truth = expected(run, scan)
    for name in ("image.npy", "image.h5", "image.nii.gz", "image.png"):
        told = done("reconstruct", run, scan, "-o", tmp_path / "out" / name)
        assert told.out == f"{tmp_path / 'out' / name}\n"
    out = tmp_path / "out"
    assert tree(out) == ["image.h5", "image.nii.gz", "image.npy", "image.png"]

    array = np.load(out / "image.npy")
    assert array.dtype == np.complex64
    np.testing.assert_allclose(array, truth, rtol=1e-4, atol=1e-5 * np.abs(truth).max())
    magnitude = np.abs(array)
    with h5py.File(out / "image.h5") as file:
        np.testing.assert_allclose(file["reconstruction"][()].swapaxes(-1, -2), magnitude, rtol=1e-5)
    volume = nibabel.load(out / "image.nii.gz")
    np.testing.assert_allclose(volume.get_fdata().transpose(2, 1, 0), magnitude, rtol=1e-5)
    y, x, z = noref.read(scan)[0].header.spacing
    assert volume.header.get_zooms() == pytest.approx((x, y, z), rel=1e-5)
    with Image.open(out / "image.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), sheet(grey(array)))


@pytest.mark.parametrize("method", ["grappa", "raki"])
def test_methods_of_regular_lines_refuse_others(method: str, full: Path, tmp_path: Path) -> None:
    scan, out = tmp_path / "scan.h5", tmp_path / "image.npy"
    fastmri.write(scan, noref.read(full / "brain-0001.h5")[:1])
    regular = ("mask=equispaced", "acceleration=2", "acs=16")
    done("reconstruct", method, scan, *regular, "-o", out)
    made = np.abs(np.load(out))
    done("reconstruct", "zero-filled", scan, *regular, "-o", tmp_path / "zeros.npy")
    done("reconstruct", "zero-filled", scan, "-o", tmp_path / "full.npy")
    zeros, whole = (np.abs(np.load(tmp_path / name)) for name in ("zeros.npy", "full.npy"))
    assert np.linalg.norm(made - whole) < np.linalg.norm(zeros - whole)
    for mask in ("lines", "random2d"):
        line = refused("reconstruct", method, scan, f"mask={mask}", *regular[1:], "-o", tmp_path / "no.npy")
        assert "use another method" in line
    assert not (tmp_path / "no.npy").exists()


def test_a_model_folder_is_as_good_as_its_run(run: Path, scan: Path, tmp_path: Path) -> None:
    for name, model in (("run.npy", run), ("model.npy", run / "model")):
        done("reconstruct", model, scan, "-o", tmp_path / name)
    np.testing.assert_array_equal(np.load(tmp_path / "run.npy"), np.load(tmp_path / "model.npy"))


@pytest.mark.parametrize("method", ["zero-filled", "cg-sense", "tv", "wavelet"])
def test_classical_methods_need_no_model(method: str, full: Path, scan: Path, tmp_path: Path) -> None:
    fastmri.write(tmp_path / scan.name, noref.read(scan)[:1])
    done("reconstruct", method, tmp_path / scan.name, "-o", tmp_path / "x.npy")
    scans = [prepare(one, Preparation(holdout=0)) for one in noref.read(full / scan.name)[:1]]
    truth = np.abs(np.stack([one.reference[0] * one.scale for one in scans]))
    image = np.abs(np.load(tmp_path / "x.npy"))
    error = np.linalg.norm(image - truth) / np.linalg.norm(truth)
    assert error < (0.5 if method == "zero-filled" else 0.2), error


@pytest.mark.parametrize("method", ["cg-sense", "tv", "wavelet"])
def test_full_scans_have_nothing_to_choose_by_and_need_little(
    method: str, full: Path, undersampled: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    both.mkdir()
    fastmri.write(both / "full.h5", noref.read(full / "brain-0001.h5")[:1])
    if method == "cg-sense":  # beside one of which something is missing; others take long to choose for it
        fastmri.write(both / "part.h5", noref.read(undersampled / "brain-0002.h5")[:1])
    done("reconstruct", method, both, "-o", tmp_path / "out", "--suffix", ".npy")
    assert tree(tmp_path / "out") == [path.with_suffix(".npy").name for path in sorted(both.iterdir())]
    done("reconstruct", "zero-filled", both / "full.h5", "-o", tmp_path / "whole.npy")
    made, whole = (np.abs(np.load(tmp_path / name)) for name in ("out/full.npy", "whole.npy"))
    assert np.linalg.norm(made - whole) < 0.02 * np.linalg.norm(whole)


def test_several_inputs_land_in_a_folder(undersampled: Path, tmp_path: Path) -> None:
    names = [f"brain-000{subject}" for subject in (1, 2, 3)]
    out = tmp_path / "out"
    told = done("reconstruct", "zero-filled", undersampled, "-o", out)
    assert told.out.splitlines() == [str(out / f"{name}.nii.gz") for name in names]
    done("reconstruct", "zero-filled", undersampled / "brain-0001.h5", "-o", out, "--suffix", ".png")
    assert tree(out) == sorted([*(f"{name}.nii.gz" for name in names), "brain-0001.png"])


def test_inputs_of_one_name_land_in_folders_like_their_own(scan: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copy(scan, tmp_path / "in" / folder / "scan.h5")
    told = done("reconstruct", "zero-filled", tmp_path / "in", "-o", tmp_path / "out", "--suffix", ".png")
    assert told.out.splitlines() == [str(tmp_path / "out" / folder / "scan.png") for folder in ("a", "b")]


def test_full_scans_are_undersampled_only_when_asked(full: Path, scan: Path, tmp_path: Path) -> None:
    sampling = ["mask=lines", "acceleration=2", "acs=12", "seed=3"]
    done("reconstruct", "zero-filled", scan, "-o", tmp_path / "prospective.npy")
    done("reconstruct", "zero-filled", full / scan.name, *sampling, "-o", tmp_path / "retrospective.npy")
    done("reconstruct", "zero-filled", full / scan.name, "-o", tmp_path / "full.npy")
    found = {path.stem: np.load(path) for path in tmp_path.iterdir()}
    np.testing.assert_array_equal(found["retrospective"], found["prospective"])
    assert np.linalg.norm(found["full"] - found["prospective"]) > 0.1 * np.linalg.norm(found["full"])


def test_an_equals_sign_in_a_path_is_no_setting(scan: Path, tmp_path: Path) -> None:
    odd = tmp_path / "R=2.h5"
    odd.write_bytes(scan.read_bytes())
    done("reconstruct", "zero-filled", odd, "-o", tmp_path / "x.png")
    assert tree(tmp_path) == ["R=2.h5", "x.png"]


def test_outputs_that_cannot_be_are_refused_before_any_work(undersampled: Path, tmp_path: Path) -> None:
    one, copy, other = (
        undersampled / "brain-0001.h5",
        tmp_path / "brain-0001.h5",
        tmp_path / "brain-0001.hdf5",
    )
    for path in (copy, other):
        path.write_bytes(one.read_bytes())
    for arguments, complaint in (
        (
            [one, "-o", tmp_path / "x.tif"],
            "x.tif: noref writes images as .h5, .nii, .nii.gz, .npy, .cfl, .png",
        ),
        ([one, "-o", tmp_path, "--suffix", "tif"], "--suffix: 'tif' is unknown; there are .h5"),
        ([undersampled, "-o", tmp_path / "x.npy"], "x.npy: one file for 3 inputs; name a folder"),
        ([other, copy, "-o", tmp_path / "out"], "two inputs in one folder have the same name"),
        ([copy, "-o", copy], f"{copy}: is an input; choose another --output"),
        ([copy, "-o", tmp_path, "--suffix", ".h5"], f"{copy}: is an input; choose another --output"),
    ):
        assert complaint in refused("reconstruct", "zero-filled", *arguments)
    assert tree(tmp_path) == ["brain-0001.h5", "brain-0001.hdf5"]
    assert copy.read_bytes() == one.read_bytes()


def test_a_bart_pair_is_not_written_over_by_any_of_its_names(tmp_path: Path) -> None:
    noref.write(tmp_path / "k.cfl", np.ones((1, 32, 32), np.complex64))
    before = (tmp_path / "k.cfl").read_bytes()
    for name in ("k", "k.hdr", "k.cfl"):
        told = refused("reconstruct", "zero-filled", tmp_path / name, "-o", tmp_path / "k.cfl")
        assert "is an input" in told
    assert (tmp_path / "k.cfl").read_bytes() == before


def test_a_path_setting_names_files_too(run: Path, scan: Path, tmp_path: Path) -> None:
    done("reconstruct", run, f"path={scan}", "-o", tmp_path / "a.npy")
    done("reconstruct", run, scan, "-o", tmp_path / "b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_a_store_is_not_taken_for_raw_files(scan: Path, tmp_path: Path) -> None:
    scans = dataset(Source(path=str(scan)), Role.TARGET)
    write_store(tmp_path / "store", [scans.prepared(0)], scans.how, scans.role)
    for paths in ([tmp_path / "store"], [scan, tmp_path / "store"]):
        told = refused("reconstruct", "cg-sense", *paths, "-o", tmp_path / "out")
        assert f"{tmp_path / 'store'}: prepared scans, of a training; name the raw files" in told
    assert not (tmp_path / "out").exists()


def test_nothing_to_reconstruct_is_refused(run: Path, tmp_path: Path) -> None:
    assert "no files to reconstruct" in refused("reconstruct", run, "mask=lines", "-o", tmp_path / "a.npy")
