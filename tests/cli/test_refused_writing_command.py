"""Where nothing may be written, or not enough: one line with the path that was given, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import noref, refused, tree

import noref as package
from noref.formats import fastmri, mrd_writing

FULL = "cannot be written (No space left on device); free some space or choose another folder"

Disk = Callable[[str], Path]

SUFFIXES = [".h5", ".mrd", ".mrd2", ".nii", ".nii.gz", ".npy", ".cfl", ".png", ".dcm"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_that_do_not_fit(suffix: str, undersampled: Path, small_disk: Disk) -> None:
    disk = small_disk("4k")
    if suffix == ".png":
        # Which is smaller than the smallest of disks.
        (disk / "mine").write_bytes(bytes(4096))
    before = tree(disk)
    told = refused("reconstruct", "zero-filled", undersampled / "brain-0001.h5", "-o", disk / f"x{suffix}")
    assert f"noref: {disk / 'x'}" in told
    assert told.endswith(FULL)
    assert ".part-" not in told
    assert tree(disk) == before


@pytest.mark.parametrize("suffix", [".h5", ".mrd"])
def test_hdf5_that_does_not_fit_ends_no_process(suffix: str, undersampled: Path, small_disk: Disk) -> None:
    """HDF5 writes what is left when the process ends, and ends it with a signal where that fails."""
    disk = small_disk("16k")
    command = ["reconstruct", "zero-filled", undersampled / "brain-0001.h5", "-o", disk / f"x{suffix}"]
    script = "import sys; from noref.cli import main; sys.exit(main())"
    ran = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True)
    assert ran.returncode == 2, ran.stderr
    assert ran.stdout == ""
    assert [line for line in ran.stderr.splitlines() if line.startswith("noref: ")] == [
        f"noref: {disk / f'x{suffix}'}: {FULL}"
    ]
    assert "HDF5" not in ran.stderr
    assert "Traceback" not in ran.stderr
    assert tree(disk) == []


@pytest.mark.parametrize("writer", [fastmri.write, mrd_writing.write])
@pytest.mark.parametrize("size", ["4k", "16k", "64k"])
def test_raw_data_that_do_not_fit(
    writer: Callable[[Path, list[package.Scan]], None], size: str, undersampled: Path, small_disk: Disk
) -> None:
    disk = small_disk(size)
    scans = list(package.read(undersampled / "brain-0001.h5"))
    with pytest.raises(package.NorefError) as told:
        writer(disk / "x.h5", scans)
    assert str(told.value) == f"{disk / 'x.h5'}: {FULL}"
    assert tree(disk) == []


def test_a_report_that_does_not_fit_leaves_no_numbers(
    run: Path, undersampled: Path, small_disk: Disk
) -> None:
    disk = small_disk("16k")
    told = refused("evaluate", run, f"path={undersampled}", "--classical", "", "-o", disk / "r.html")
    assert told == f"noref: {disk / 'r.html'}: {FULL}"
    assert tree(disk) == []


def test_an_acceptance_that_does_not_fit_names_its_folder(undersampled: Path, small_disk: Disk) -> None:
    disk = small_disk("16k")
    quick = ["--slices", "1", "--lesions", "1", "--readers", "1"]
    told = refused("accept", "cg-sense", undersampled, "-o", disk / "acc", *quick)
    assert told.startswith(f"noref: {disk / 'acc'}")
    assert "cannot be written (No space left on device); free some space" in told
    assert ".part-" not in told
    assert tree(disk) == []


@pytest.mark.parametrize("suffix", [*SUFFIXES, "/deep/er/x.npy"])
def test_images_where_nothing_may_be_written_are_refused_first(
    suffix: str, undersampled: Path, small_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, worked = small_disk("4k,ro"), list[object]()
    monkeypatch.setattr("noref.api.dataset", lambda *_: worked.append(1))
    target = f"{disk}/x{suffix}"
    told = refused("reconstruct", "zero-filled", undersampled / "brain-0001.h5", "-o", target)
    assert told == f"noref: {target}: cannot be written (permission denied); choose another folder"
    assert not worked


def test_reports_and_runs_where_nothing_may_be_written_are_refused_first(
    run: Path, undersampled: Path, small_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, worked = small_disk("4k,ro"), list[object]()
    monkeypatch.setattr("noref.api.dataset", lambda *_: worked.append(1))
    told = refused("evaluate", run, f"path={undersampled}", "-o", disk / "r.html")
    assert told == f"noref: {disk / 'r.html'}: cannot be written (permission denied); choose another folder"
    told = refused("train", "default", f"data.target.path={undersampled}", f"output={disk / 'run'}")
    assert told.startswith(f"noref: {disk / 'run'}")
    assert told.endswith("cannot be written (permission denied); choose another folder")
    assert not worked
    told = refused("inspect", undersampled / "brain-0001.h5", "--picture", disk / "x.png")
    assert "x.png: cannot be written (permission denied)" in told


def test_a_file_in_the_place_of_a_folder_is_named_first(undersampled: Path, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    target = tmp_path / "note" / "x.npy"
    told = refused("reconstruct", "zero-filled", undersampled / "brain-0001.h5", "-o", target)
    assert told == (
        f"noref: {target}: cannot be written ({tmp_path / 'note'} is no folder); choose another folder"
    )
    assert tree(tmp_path) == ["note"]


def test_a_folder_in_the_place_of_a_file_is_named_first(undersampled: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "brain-0001.npy").mkdir(parents=True)
    result = noref(
        *("reconstruct", "zero-filled", undersampled / "brain-0001.h5", "-o", tmp_path / "out"),
        *("--suffix", ".npy"),
    )
    assert result.code == 2
    assert result.err == f"noref: {tmp_path / 'out' / 'brain-0001.npy'}: is a folder; name a file\n"
    assert tree(tmp_path) == ["out", "out/brain-0001.npy"]
