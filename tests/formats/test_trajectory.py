"""Trajectories beside k-space: BART's, NumPy's, and those that are made."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import spokes

from noref import formats
from noref.data.prepare import Preparation, prepare
from noref.errors import NorefError
from noref.formats.bart import read_cfl, write_cfl
from noref.formats.trajectory import matrix_of, read_trajectory
from noref.sampling.spokes import radial
from noref.scan import Scan, encoding_of

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")


def write_kspace(path: Path, scan: Scan) -> Path:
    """`(1, samples, read-outs, coils)`, as BART keeps it."""
    write_cfl(path, scan.kspace.numpy().transpose(2, 1, 0)[None])
    return path


def write_trajectory(path: Path, places: torch.Tensor) -> Path:
    array = np.zeros((3, places.shape[1], places.shape[0]), np.complex64)
    array[0], array[1] = places[..., 1].T.numpy(), places[..., 0].T.numpy()
    write_cfl(path, array)
    return path


@pytest.fixture
def scan() -> Scan:
    return spokes((24, 24), 3, number=9)


def test_kspace_and_trajectory_of_bart_are_read(scan: Scan, tmp_path: Path) -> None:
    assert scan.trajectory is not None
    where = write_trajectory(tmp_path / "traj.cfl", scan.trajectory)
    file = write_kspace(tmp_path / "k.cfl", scan)
    for path in (where, tmp_path / "traj", tmp_path / "traj.hdr"):
        read = formats.read(file, trajectory=str(path))[0]
        assert torch.equal(read.kspace, scan.kspace)
        assert read.trajectory is not None
        assert torch.equal(read.trajectory, scan.trajectory)
        assert read.matrix == (24, 24)
    np.save(tmp_path / "traj.npy", scan.trajectory.numpy())
    read = formats.read(file, trajectory=str(tmp_path / "traj.npy"), matrix=32)[0]
    assert torch.equal(read.trajectory, scan.trajectory)
    assert read.matrix == (32, 32)


def test_samples_may_come_first(scan: Scan, tmp_path: Path) -> None:
    write_cfl(tmp_path / "k.cfl", scan.kspace.numpy().transpose(2, 1, 0)[:, :, None])
    read = formats.read(tmp_path / "k.cfl", trajectory="radial", axes="kx,ky,-,coils")[0]
    assert torch.equal(read.kspace, scan.kspace)
    assert torch.equal(formats.read(tmp_path / "k.cfl", trajectory="radial")[0].kspace, scan.kspace)


def test_trajectories_are_made_for_the_read_outs_that_there_are(scan: Scan, tmp_path: Path) -> None:
    file = write_kspace(tmp_path / "k.cfl", scan)
    made = formats.read(file, trajectory="golden")
    assert torch.equal(made[0].trajectory, radial(9, 48, golden=True))
    assert made.ids == ("k/k/000",)
    assert "golden" in made.format
    single = formats.read(file, trajectory="radial", readout_oversampling=1)[0]
    assert torch.equal(single.trajectory, radial(9, 48, spacing=1.0))
    assert single.matrix == (48, 48)
    np.save(tmp_path / "k.npy", scan.kspace.numpy())
    array = formats.read(tmp_path / "k.npy", axes="coils,ky,kx", trajectory="radial")[0]
    assert torch.equal(array.kspace, scan.kspace)


@needs_bart
@pytest.mark.parametrize("flags", [["-r"], ["-r", "-G"], ["-r", "-D"]])
def test_what_bart_simulates_is_reconstructed_as_bart_does(flags: list[str], tmp_path: Path) -> None:
    """The phantom's image, the right way round."""
    for command in (
        ["traj", *flags, "-x", "128", "-y", "101", "-o", "1", "t"],
        ["phantom", "-k", "-t", "t", "k"],
        ["phantom", "-x", "128", "image"],
    ):
        subprocess.run(["bart", *command], cwd=tmp_path, check=True, capture_output=True)
    scan = formats.read(tmp_path / "k.cfl", trajectory=str(tmp_path / "t.cfl"), matrix=128)[0]
    ready = prepare(scan, Preparation(holdout=0.0))
    assert scan.acceleration == pytest.approx(np.pi / 2 * 128 / 101)
    encoding = encoding_of(ready, ready.mask)
    image = encoding.solve(encoding.adjoint(ready.kspace[None]), 1e-3)[0, 0]
    truth = torch.from_numpy(np.array(read_cfl(tmp_path / "image.cfl")).T.copy())
    both = (truth, truth.T)
    ways = [flipped for way in both for flipped in (way, way.flip(0), way.flip(1), way.flip(0, 1))]
    likeness = [float(torch.vdot(image.flatten(), way.flatten()).abs()) for way in ways]
    # What lies between pixels rings at the phantom's sharp border.
    assert likeness[0] > 0.95 * float(image.norm() * truth.norm())
    assert likeness[0] == max(likeness)
    assert sorted(likeness)[-2] < 0.99 * likeness[0]


def test_the_matrix_reaches_as_far_as_the_trajectory() -> None:
    assert matrix_of(radial(5, 384)) == (192, 192)
    assert matrix_of(radial(5, 64, spacing=1.0)) == (64, 64)


def broken(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no trajectory, and what is said of them."""
    places = radial(9, 48)
    write_cfl(tmp_path / "two.cfl", np.zeros((2, 48, 9)))
    deep = np.ones((3, 48, 9), np.complex64)
    write_cfl(tmp_path / "deep.cfl", deep)
    np.save(tmp_path / "flat.npy", places.numpy()[..., 0])
    np.save(tmp_path / "nan.npy", np.full((9, 48, 2), np.nan, np.float32))
    np.save(tmp_path / "short.npy", places.numpy()[:4])
    (tmp_path / "text.npy").write_text("no array")
    return {
        "two": (tmp_path / "two.cfl", "is no trajectory"),
        "deep": (tmp_path / "deep.cfl", "three dimensions"),
        "flat": (tmp_path / "flat.npy", "is no trajectory"),
        "nan": (tmp_path / "nan.npy", "NaN"),
        "text": (tmp_path / "text.npy", "damaged"),
        "none": (tmp_path / "none.npy", "damaged|not found"),
    }


@pytest.mark.parametrize("name", ["two", "deep", "flat", "nan", "text", "none"])
def test_bad_trajectories_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path, said = broken(tmp_path)[name]
    with pytest.raises(NorefError, match=said) as error:
        read_trajectory(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_trajectory_of_another_scan_is_refused(scan: Scan, tmp_path: Path) -> None:
    broken(tmp_path)
    file = write_kspace(tmp_path / "k.cfl", scan)
    with pytest.raises(NorefError, match=r"9 read-outs of 48 samples.*4 × 48"):
        formats.read(file, trajectory=str(tmp_path / "short.npy"))[0]
    with pytest.raises(NorefError, match="images have no trajectory"):
        formats.read(file, trajectory="radial", domain="image")
