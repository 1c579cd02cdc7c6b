"""cfl/hdr pairs, checked against BART itself."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from noref import formats
from noref.errors import NorefError
from noref.formats import bart
from noref.physics import ifft2c
from noref.scan import Scan

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")


def run(*words: object) -> str:
    return subprocess.run(["bart", *map(str, words)], check=True, capture_output=True, text=True).stdout


def noise(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@needs_bart
def test_the_phantom_of_bart_is_read_and_transformed_as_bart_does(tmp_path: Path) -> None:
    run("phantom", "-x", 24, "-k", "-s", 3, tmp_path / "k")
    run("resize", "-c", 1, 17, tmp_path / "k", tmp_path / "odd")
    run("fft", "-u", "-i", 3, tmp_path / "odd", tmp_path / "image")
    scan = formats.read(tmp_path / "odd.cfl")[0]
    assert scan.kspace.shape == (3, 17, 24)
    image = torch.from_numpy(np.array(bart.read_cfl(tmp_path / "image")[:, :, 0])).permute(2, 1, 0)
    torch.testing.assert_close(ifft2c(scan.kspace), image, rtol=1e-4, atol=1e-5 * float(image.abs().max()))


@needs_bart
def test_bart_reads_what_is_written(tmp_path: Path) -> None:
    array = noise(4, 5, 1, 3)
    bart.write_cfl(tmp_path / "a.cfl", array)
    assert run("show", "-m", tmp_path / "a").split("AoD:")[1].split()[:5] == ["4", "5", "1", "3", "1"]
    run("transpose", 0, 1, tmp_path / "a", tmp_path / "b")
    np.testing.assert_array_equal(bart.read_cfl(tmp_path / "b"), array.swapaxes(0, 1))


@needs_bart
def test_slices_are_barts_slices(tmp_path: Path) -> None:
    array = noise(6, 5, 1, 2)
    for i in range(3):
        bart.write_cfl(tmp_path / f"s{i}", (i + 1) * array)
    run("join", bart.SLICE, *(tmp_path / f"s{i}" for i in range(3)), tmp_path / "all")
    slices = formats.read(tmp_path / "all")
    assert len(slices) == 3
    for i, scan in enumerate(slices):
        assert torch.equal(scan.kspace, torch.from_numpy((i + 1) * array[:, :, 0].transpose(2, 1, 0)))


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("slices", [1, 2])
def test_reading_gives_back_what_was_written(tmp_path: Path, coils: int, slices: int) -> None:
    mask = torch.from_numpy(np.random.default_rng(1).random((7, 6)) < 0.5)
    scans = [
        Scan(f"x/x/{i:03d}", torch.from_numpy(noise(coils, 7, 6)) * mask * (i + 1), mask, mask)
        for i in range(slices)
    ]
    bart.write(tmp_path / "x.cfl", scans)
    read = formats.read(tmp_path / "x.hdr")
    assert [scan.id for scan in read] == [scan.id for scan in scans]
    for a, b in zip(read, scans, strict=True):
        assert torch.equal(a.kspace, b.kspace)
        assert torch.equal(a.mask, mask)
    bart.write(tmp_path / "y", [replace(scan.scaled(2.0)) for scan in scans])
    assert torch.equal(formats.read(tmp_path / "y")[0].kspace, scans[0].kspace)


def test_two_phase_encodings_have_no_readout(tmp_path: Path) -> None:
    array = noise(1, 7, 6, 3)
    bart.write_cfl(tmp_path / "x", array)
    assert torch.equal(formats.read(tmp_path / "x")[0].kspace, torch.from_numpy(array[0].transpose(2, 0, 1)))


def test_other_layouts_need_axes(tmp_path: Path) -> None:
    array = noise(4, 7, 6, 3)
    bart.write_cfl(tmp_path / "x", array)
    with pytest.raises(NorefError, match=r"dimensions \(4, 7, 6, 3\) are no stack of 2-D slices"):
        formats.read(tmp_path / "x")
    slices = formats.read(tmp_path / "x", axes="slice,ky,kx,coils")
    assert torch.equal(slices[2].kspace, torch.from_numpy(array[2].transpose(2, 0, 1)))


@pytest.mark.parametrize(
    ("header", "data", "complaint"),
    [
        ("# Dimensions\n2 2\n", b"\0" * 24, "24 bytes where its header says 32"),
        ("# Dimensions\n", b"\0" * 32, "no line of dimensions"),
        ("# Dimensions\ntwo\n", b"\0" * 32, "no line of dimensions"),
        ("# Dimensions\n0 2\n", b"", "0 bytes where its header says 0"),
        (None, b"\0" * 32, "needs both"),
        ("# Dimensions\n2 2\n", None, "needs both"),
    ],
)
def test_damaged_pairs_are_refused(
    tmp_path: Path, header: str | None, data: bytes | None, complaint: str
) -> None:
    if header is not None:
        (tmp_path / "x.hdr").write_text(header)
    if data is not None:
        (tmp_path / "x.cfl").write_bytes(data)
    with pytest.raises(NorefError, match=complaint):
        formats.read(tmp_path / "x.cfl")


@pytest.mark.real_data
def test_real_pairs(real_data: Path) -> None:
    folder = real_data / "multicoil"
    poisson = formats.read(folder / "bart_picsbrain_8ch_poisson_undersampled.cfl")[0]
    assert poisson.kspace.shape == (8, 180, 230)
    assert poisson.acceleration == pytest.approx(7.9, abs=0.01)
    # SigPy's copy is the same scan, transposed and flipped, so its mask has nearly the same size.
    copy = formats.read(folder / "sigpy_brain_8ch_poisson_undersampled.npy", axes="coils,kx,ky")[0]
    assert copy.kspace.shape == poisson.kspace.shape
    assert copy.acceleration == pytest.approx(poisson.acceleration, rel=0.02)
    # Its coils stand in the dimension of the second phase encoding, so they have to be named.
    full = formats.read(folder / "autoespirit_brain_8ch_full.cfl", axes="ky,kx,coils")[0]
    assert full.kspace.shape == (8, 230, 180)
    assert full.mask.all()
