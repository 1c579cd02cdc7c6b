"""ESPIRiT against the implementations of its authors and of SigPy, phase included."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import sigpy
import sigpy.mri
import torch
from torch import Tensor

from noref.coils import espirit
from noref.physics import crop_centre, fft2c, pad_centre

REGION = (24, 24)
THRESHOLD = 0.02
# Where the eigenvalue is lower the next one can be close, and BART's and SigPy's iterations end too early.
CROP = 0.95

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not installed")


def _multicoil(shape: tuple[int, int], coils: int, noise: float = 1e-4) -> tuple[Tensor, Tensor]:
    """k-space `(coils, ky, kx)` and coil images of an ellipse with smooth contrast and phase."""
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((coils, *shape))).to(torch.complex64)
    y, x = (torch.arange(n) / n - 0.5 for n in shape)
    y, x = y[:, None], x[None]
    contrast = 1 + 0.5 * torch.cos(9 * x) * torch.sin(12 * y + 1)
    inside = (y / 0.42) ** 2 + (x / 0.34) ** 2 < 1
    images = maps * inside * torch.polar(contrast, 2 * x - 3 * y**2)
    kspace = fft2c(images)
    generator = torch.Generator().manual_seed(0)
    kspace += noise * kspace.abs().max() * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    return kspace, images


def _mchiew(folder: Path) -> Tensor:
    with h5py.File(folder / "multicoil/mchiew_brain_16ch_full_96.mat") as file:
        raw = file["raw"][:, 0]
    return torch.from_numpy(raw["real"] + 1j * raw["imag"]).to(torch.complex64)


def _loraks(folder: Path) -> Tensor:
    raw = scipy.io.loadmat(folder / "multicoil/loraks_mprage_4ch_full.mat")["kData"]
    return torch.from_numpy(raw).movedim(-1, 0).to(torch.complex64)


def _ours(kspace: Tensor, **options: object) -> Tensor:
    shape = (kspace.shape[-2], kspace.shape[-1])
    chosen = {"threshold": THRESHOLD, "crop": CROP} | options
    return espirit(crop_centre(kspace, REGION), shape, **chosen)


def _sigpy(kspace: Tensor) -> Tensor:
    calib = sigpy.mri.app.EspiritCalib(
        kspace.numpy(), calib_width=24, thresh=THRESHOLD, crop=CROP, max_iter=150, show_pbar=False
    )
    return torch.from_numpy(calib.run())[None]


def _bart(kspace: Tensor, folder: Path, sets: int = 1) -> Tensor:
    coils, ky, kx = kspace.shape
    # BART looks for the calibration region itself: leave it no choice.
    only_region = pad_centre(crop_centre(kspace, REGION), (ky, kx))
    # cfl is column-major, (ky, kx, 1, coils): the axes of the array reversed, then transposed.
    only_region.mT.contiguous().numpy().tofile(folder / "kspace.cfl")
    (folder / "kspace.hdr").write_text(f"# Dimensions\n{ky} {kx} 1 {coils}" + " 1" * 12 + "\n")
    options = f"-t {THRESHOLD**2} -c {CROP} -k 6:6:1 -r 24:24:1 -m {sets}".split()
    command = ["bart", "ecalib", *options, "kspace", "maps"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    maps = np.fromfile(folder / "maps.cfl", np.complex64).reshape(sets, coils, kx, ky)
    return torch.from_numpy(maps).mT


def _agreement(a: Tensor, b: Tensor) -> float:
    """`Re⟨a, b⟩ / ‖a‖‖b‖` where both have maps: one only if they agree in phase as well."""
    both = (a.abs().sum(1, keepdim=True) > 0) & (b.abs().sum(1, keepdim=True) > 0)
    a, b = (a * both).to(torch.complex128), (b * both).to(torch.complex128)
    return float((a.conj() * b).sum().real / (a.abs().square().sum() * b.abs().square().sum()).sqrt())


def _disagreeing_support(a: Tensor, b: Tensor) -> float:
    return float(((a.abs().sum(1) > 0) != (b.abs().sum(1) > 0)).float().mean())


@pytest.mark.parametrize(("shape", "coils"), [((64, 64), 6), ((63, 80), 5), ((97, 72), 8), ((130, 48), 1)])
def test_agrees_with_sigpy(shape: tuple[int, int], coils: int) -> None:
    kspace, _ = _multicoil(shape, coils)
    maps, golden = _ours(kspace, phase="first"), _sigpy(kspace)
    assert _agreement(maps, golden) > 0.9999
    assert _disagreeing_support(maps, golden) < 1e-3


@needs_bart
@pytest.mark.parametrize(("shape", "coils"), [((64, 64), 6), ((63, 80), 5), ((97, 72), 8)])
def test_agrees_with_bart(shape: tuple[int, int], coils: int, tmp_path: Path) -> None:
    kspace, _ = _multicoil(shape, coils)
    maps, golden = _ours(kspace), _bart(kspace, tmp_path)
    assert _agreement(maps, golden) > 0.9999
    assert _disagreeing_support(maps, golden) < 1e-3


@pytest.mark.real_data
@pytest.mark.parametrize("read", [_mchiew, _loraks])
def test_agrees_with_sigpy_on_a_real_brain(read: Callable[[Path], Tensor], real_data: Path) -> None:
    kspace = read(real_data)
    maps, golden = _ours(kspace, phase="first"), _sigpy(kspace)
    assert _agreement(maps, golden) > 0.999
    assert _disagreeing_support(maps, golden) < 2e-3


@needs_bart
@pytest.mark.real_data
@pytest.mark.parametrize("read", [_mchiew, _loraks])
def test_agrees_with_bart_on_a_real_brain(
    read: Callable[[Path], Tensor], real_data: Path, tmp_path: Path
) -> None:
    kspace = read(real_data)
    maps, golden = _ours(kspace), _bart(kspace, tmp_path)
    assert _agreement(maps, golden) > 0.999
    assert _disagreeing_support(maps, golden) < 2e-3


@pytest.mark.parametrize(
    ("shape", "noise", "sets"), [((128, 96), 1e-4, 1), ((111, 90), 1e-2, 1), ((81, 100), 1e-3, 2)]
)
def test_interpolation_changes_nothing(shape: tuple[int, int], noise: float, sets: int) -> None:
    kspace, _ = _multicoil(shape, 5, noise)
    exact = _ours(kspace, nodes=max(shape), sets=sets)
    for nodes in (64, 25):
        maps = _ours(kspace, nodes=nodes, sets=sets)
        assert _agreement(maps, exact) > 0.99999
        assert _disagreeing_support(maps, exact) < 2e-3


@pytest.mark.parametrize(
    ("shape", "coils", "region", "noise"),
    [((64, 48), 6, (24, 24), 1e-4), ((63, 80), 5, (12, 48), 1e-3), ((64, 72), 8, (24, 24), 2e-2)],
)
def test_the_first_of_two_sets_is_the_one_set(
    shape: tuple[int, int], coils: int, region: tuple[int, int], noise: float
) -> None:
    # One set is found by powers of a matrix, and by decomposition only where its eigenvalues are close, as in
    # much noise; two always by decomposition.
    kspace, _ = _multicoil(shape, coils, noise)
    calibration = crop_centre(kspace, region)
    one, two = (espirit(calibration, shape, sets=sets) for sets in (1, 2))
    inside = (one.abs().sum(1) > 0) & (two[:1].abs().sum(1) > 0)
    assert _disagreeing_support(one, two[:1]) < 1e-3
    assert inside.float().mean() > 0.3
    assert (one.conj() * two[:1]).sum(1).real[inside].min() > 0.999


@pytest.mark.parametrize("phase", ["principal", "first"])
def test_maps_have_unit_norm_on_the_object_and_explain_the_coil_images(phase: str) -> None:
    kspace, images = _multicoil((72, 64), 6)
    maps = _ours(kspace, phase=phase)[0]
    power = maps.abs().square().sum(0)
    assert ((power - 1).abs() < 1e-5).logical_or(power == 0).all()
    assert (power[images.abs().sum(0) > 0] > 0).all()
    assert (power == 0).any()
    projected = maps * (maps.conj() * images).sum(0)
    assert (projected - images).norm() < 0.01 * images.norm()
    if phase == "first":
        assert maps[0].imag.abs().max() < 1e-5
        assert maps[0].real.min() >= 0


@needs_bart
def test_two_sets_agree_with_bart_where_the_object_overlaps_itself(tmp_path: Path) -> None:
    _, images = _multicoil((96, 64), 8)
    folded = images[:, :48] + images[:, 48:]
    kspace = fft2c(folded) + 1e-5
    maps, golden = _ours(kspace, sets=2, nodes=64), _bart(kspace, tmp_path, sets=2)
    overlap = (golden.abs().sum(1) > 0).all(0) & (maps.abs().sum(1) > 0).all(0)
    assert overlap.float().mean() > 0.05
    # Where both eigenvalues are 1 any two vectors that span the plane are right: compare the projections.
    planes = torch.einsum("scyx,sdyx->yxcd", maps, maps.conj())
    golden_planes = torch.einsum("scyx,sdyx->yxcd", golden, golden.conj())
    difference = (planes - golden_planes)[overlap]
    assert difference.norm() < 0.05 * golden_planes[overlap].norm()
    one = maps[0] * (maps[0].conj() * folded).sum(0)
    two = torch.einsum("yxcd,dyx->cyx", planes, folded)
    assert (two - folded)[:, overlap].norm() < 0.2 * (one - folded)[:, overlap].norm()


def test_one_coil_gives_ones_where_there_is_signal() -> None:
    kspace, images = _multicoil((64, 48), 1)
    maps = _ours(kspace)
    assert maps.shape == (1, 1, 64, 48)
    assert torch.allclose(maps[0][images.abs() > 0], torch.ones(1, dtype=torch.complex64))
    assert set(maps.abs().round(decimals=4).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("phase", ["principal", "first"])
@pytest.mark.parametrize("dead", [0, 4])
def test_a_dead_coil_leaves_the_others_their_maps(phase: str, dead: int) -> None:
    kspace, images = _multicoil((64, 64), 5)
    kspace[dead] = images[dead] = 0
    maps = _ours(kspace, phase=phase)[0]
    assert maps[dead].abs().max() < 1e-6
    assert (maps * (maps.conj() * images).sum(0) - images).norm() < 0.01 * images.norm()


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_scale_and_precision_of_the_data_do_not_matter(scale: float) -> None:
    kspace, _ = _multicoil((64, 64), 4)
    maps = _ours(kspace)
    assert _agreement(_ours(kspace * scale), maps) > 0.999999
    assert torch.equal(_ours(kspace.to(torch.complex128)), maps)


def test_no_signal_gives_no_maps() -> None:
    maps = espirit(torch.zeros(3, 24, 24, dtype=torch.complex64), (32, 40))
    assert maps.shape == (1, 3, 32, 40)
    assert not maps.any()


def test_refuses_what_cannot_be_done() -> None:
    with pytest.raises(ValueError, match="no room for 6 × 6 kernels"):
        espirit(torch.ones(3, 5, 24, dtype=torch.complex64), (32, 32))
    with pytest.raises(ValueError, match="3 coils cannot give 4 sets"):
        espirit(torch.ones(3, 24, 24, dtype=torch.complex64), (32, 32), sets=4)
