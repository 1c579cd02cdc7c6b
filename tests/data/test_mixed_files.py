"""Which files folders and patterns name, and how files of several formats are read in one go."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import scan, undersampled

from noref.data.files import files_of, open_scans
from noref.errors import NorefError
from noref.formats import Reading, bart, describes_itself, fastmri, ismrmrd, mrd_writing
from noref.physics import ifft2c
from noref.scan import Scan


def one(seed: int) -> Scan:
    return undersampled(scan((20, 16), 2, seed, noise=0.01), "lines", 2, 4, seed)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A file of each of four formats, and two arrays of other axes, in folders of folders."""
    folder = tmp_path / "scans"
    (folder / "a" / "deep").mkdir(parents=True)
    fastmri.write(folder / "fast.h5", [one(1)])
    mrd_writing.write(folder / "a" / "mrd.h5", [one(2)])
    bart.write(folder / "a" / "deep" / "pair.cfl", [one(3)])
    np.save(folder / "first.npy", one(4).kspace.numpy())
    np.save(folder / "a" / "second.npy", one(5).kspace.numpy().transpose(2, 1, 0))
    return folder


AXES = {"first*": "coils,ky,kx", "second*": "kx,ky,coils"}


def test_folders_are_searched_below(mixed: Path) -> None:
    names = ["a/deep/pair.hdr", "a/mrd.h5", "a/second.npy", "fast.h5", "first.npy"]
    assert [str(path.relative_to(mixed)) for path in files_of(str(mixed))] == names
    named = files_of([str(path) for path in sorted(mixed.rglob("*"))])
    assert {str(path.relative_to(mixed)) for path in named} == set(names), "a pair counts once, as any file"
    assert files_of([str(mixed / "a" / "deep" / "pair.cfl")]) == [mixed / "a" / "deep" / "pair.cfl"]
    (mixed / "loop").symlink_to(mixed, target_is_directory=True)
    assert len(files_of(str(mixed))) == len(names)


@pytest.mark.parametrize("mark", ["store.json", "preparing.json", "metrics.jsonl", "model.safetensors"])
def test_what_noref_made_is_no_input(mixed: Path, mark: str) -> None:
    before = files_of(str(mixed))
    made = mixed / "a" / "made"
    (made / "parts").mkdir(parents=True)
    for name in (mark, "index.npz", "parts/000000.npz"):
        (made / name).write_bytes(b"")
    (mixed / ".hidden").mkdir()
    shutil.copy(mixed / "fast.h5", mixed / ".hidden")
    assert files_of(str(mixed)) == before


def test_axes_are_for_those_that_do_not_say_them(mixed: Path) -> None:
    (mixed / "a" / "second.npy").unlink()
    scans = open_scans(str(mixed), Reading(axes="coils,ky,kx"))
    assert [type(part).__module__.rpartition(".")[2] for part, _ in scans._places] == [
        "arrays",
        "ismrmrd",
        "fastmri",
        "arrays",
    ]
    assert {found.kspace.shape for found in scans} == {(2, 20, 16)}
    with pytest.raises(NorefError, match="say with axes"):
        open_scans(str(mixed / "first.npy"))
    # Where all say it themselves, axes are meant: an HDF5 file is read as an array then.
    with pytest.raises(NorefError, match="axes"):
        open_scans(str(mixed / "fast.h5"), Reading(axes="coils,ky,kx"))


def test_axes_by_patterns(mixed: Path) -> None:
    scans = open_scans(str(mixed), Reading(axes=AXES))
    found = {read.id.split("/")[0]: read for read in scans}
    assert np.array_equal(found["first"].kspace, one(4).kspace)
    assert np.array_equal(found["second"].kspace, one(5).kspace)
    assert len(found) == 5
    with pytest.raises(NorefError, match=r"second\.npy: .*; say with axes"):
        open_scans(str(mixed), Reading(axes={"first*": "coils,ky,kx"}))


def test_images_beside_kspace_by_patterns(mixed: Path) -> None:
    np.save(mixed / "images.npy", ifft2c(one(6).kspace).numpy())
    how = Reading(axes={**AXES, "im*": "coils,y,x"}, domain={"im*": "image", "second*": "kspace"})
    found = {read.id.split("/")[0]: read for read in open_scans(str(mixed), how)}
    assert len(found) == 6
    assert [name for name, read in found.items() if not read.raw] == ["images"]
    torch.testing.assert_close(found["images"].kspace, one(6).kspace)
    assert np.array_equal(found["first"].kspace, one(4).kspace)
    assert how.of(Path("images.npy")).domain == "image"
    assert how.of(Path("other.npy")).domain == "kspace"
    # A pattern is meant for the files that it fits, whatever they say of themselves.
    assert how.of(Path("im.cfl"), alone=True).domain == "image"
    assert Reading(domain="image").of(Path("im.cfl"), alone=True).domain == "kspace"


def test_which_files_say_what_they_hold(mixed: Path, tmp_path: Path) -> None:
    told = {path.name: describes_itself(path) for path in files_of(str(mixed))}
    assert told == {
        "pair.hdr": True,
        "mrd.h5": True,
        "second.npy": False,
        "fast.h5": True,
        "first.npy": False,
    }
    assert not describes_itself(tmp_path / "nothing.h5")
    assert ismrmrd.is_ismrmrd(mixed / "a" / "mrd.h5")


@pytest.mark.real_data
def test_real_files_of_five_kinds_in_one_go(real_data: Path) -> None:
    files = [
        "multicoil/bart_picsbrain_8ch_poisson_undersampled.cfl",
        "multicoil/bart_picsbrain_8ch_poisson_undersampled.hdr",
        "multicoil/loraks_mprage_4ch_full.mat",
        "brain_lowfield/Figure_6A/0.055T_FSE_kspace_postEMI.mat",
        "twix/gre_2ch_phantom.dat",
    ]
    scans = open_scans(
        [str(real_data / name) for name in files],
        Reading(axes={"loraks*": "kx,ky,coils", "0.055T*": "kx,ky,slice"}, key={"loraks*": "kData"}),
    )
    assert {read.kspace.shape for read in scans} == {
        (8, 180, 230),
        (4, 256, 256),
        (1, 126, 128),
        (2, 160, 320),
    }
