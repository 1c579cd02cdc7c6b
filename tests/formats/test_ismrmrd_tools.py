"""Files that the format's own generator makes, against what it and its own reconstruction make of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from noref import formats
from noref.coils.whitening import noise_covariance, whitened
from noref.data.oversampling import without_oversampling
from noref.data.shown import cropped
from noref.physics import ifft2c

pytestmark = pytest.mark.skipif(
    shutil.which("ismrmrd_generate_cartesian_shepp_logan") is None, reason="ismrmrd-tools are not installed"
)


def generate(folder: Path, *options: object) -> Path:
    command = ["ismrmrd_generate_cartesian_shepp_logan", "-o", "a.h5", *map(str, options)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "a.h5"


@pytest.mark.parametrize("matrix", [48, 50])
@pytest.mark.parametrize("coordinates", [[], ["-k"]])
def test_images_are_those_of_its_reconstruction(tmp_path: Path, matrix: int, coordinates: list[str]) -> None:
    path = generate(tmp_path, "-m", matrix, "-c", 3, *coordinates)
    subprocess.run(["ismrmrd_recon_cartesian_2d", path.name], cwd=tmp_path, check=True, capture_output=True)
    with h5py.File(path) as file:
        theirs = file["dataset/cpp/data"][()].squeeze()
    (scan,) = formats.read(path)
    assert scan.shape == (matrix, 2 * matrix)
    ratios = []
    for one in (scan, without_oversampling(scan)):
        mine = cropped(ifft2c(one.kspace), one).abs().square().sum(0).sqrt().numpy()
        assert mine.shape == (matrix, matrix)
        ratios.append(theirs.max() / mine.max())
        np.testing.assert_allclose(theirs / theirs.max(), mine / mine.max(), atol=1e-6)
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-5)


def test_its_coils_see_its_phantom(tmp_path: Path) -> None:
    path = generate(tmp_path, "-m", 64, "-c", 4, "-n", 0)
    with h5py.File(path) as file:
        images, maps = (file[f"dataset/{name}"][()] for name in ("phantom", "csm"))
    truth = (images["real"] + 1j * images["imag"]) * (maps["real"] + 1j * maps["imag"])[0]
    scan = without_oversampling(formats.read(path)[0])
    mine = ifft2c(scan.kspace).numpy()
    factor = np.vdot(truth, mine) / np.vdot(truth, truth)
    assert np.abs(mine - factor * truth).max() < 1e-5 * np.abs(mine).max()


def test_repetitions_noise_and_calibration_lines(tmp_path: Path) -> None:
    path = generate(tmp_path, "-m", 64, "-c", 3, "-r", 2, "-a", 2, "-w", 16, "-n", 0.1, "-C")
    scans = formats.read(path)
    # Every repetition measures every second line, from another one on.
    assert scans.ids == tuple(f"a/a.repetition{r}/000" for r in range(4))
    for r, scan in enumerate(scans):
        lines = scan.mask[:, 0]
        assert lines[24:40].all()
        assert lines[r % 2 :: 2].all()
        assert int(lines.sum()) == 40
        assert scan.header.acceleration == 2
        assert scan.header.crop == (64, 64)
        # The generator's level is that of the real part.
        assert scan.noise_cov is not None
        torch.testing.assert_close(scan.noise_cov, 0.02 * torch.eye(3) + 0j, atol=0.008, rtol=0)


def test_whitening_makes_its_noise_one(tmp_path: Path) -> None:
    options = ("-m", 64, "-c", 2, "-n", 0.1)
    (tmp_path / "quiet").mkdir()
    noisy = formats.read(generate(tmp_path, *options, "-C"))[0]
    quiet = formats.read(generate(tmp_path / "quiet", "-m", 64, "-c", 2, "-n", 0))[0]
    assert noisy.noise_cov is not None
    white = whitened(noisy)
    matrix = torch.linalg.inv(torch.linalg.cholesky(noisy.noise_cov))
    noise = white.kspace - torch.einsum("vc,cyx->vyx", matrix, quiet.kspace)
    torch.testing.assert_close(noise_covariance(noise.flatten(1)), torch.eye(2) + 0j, atol=0.35, rtol=0)
