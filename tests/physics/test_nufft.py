"""The transform off the grid: its definition, BART's, and the Cartesian one where they meet."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from random_encodings import draw
from torch import Tensor

from noref.errors import NorefError
from noref.formats.bart import read_cfl, write_cfl
from noref.physics import compensation, fft2c, noncartesian, nufft, nufft_adjoint
from noref.sampling.spokes import radial


def defined(image: Tensor, places: Tensor) -> Tensor:
    """`F` from its formula, of an image `(y, x)` at places `(samples, 2)`."""
    y, x = image.shape
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in image.shape)
    along_y = torch.exp(-2j * torch.pi * places[:, :1] * rows / y)
    along_x = torch.exp(-2j * torch.pi * places[:, 1:] * columns / x)
    return ((along_y @ image) * along_x).sum(1) / (y * x) ** 0.5


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (12, 5)])
def test_the_transform_is_its_formula_beyond_the_matrix_too(shape: tuple[int, int]) -> None:
    places = 12 * (
        torch.rand(1, 6, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5
    )
    image = draw(1, 2, *shape)
    expected = torch.stack([defined(one, places[0].flatten(0, 1)).view(6, 5) for one in image[0]])
    torch.testing.assert_close(nufft(image, places)[0], expected, rtol=1e-10, atol=1e-10)
    single = nufft(image.to(torch.complex64), places.float())[0]
    assert float((single - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("shape", [(8, 8), (7, 9)])
def test_on_the_grid_it_is_the_centred_fft(shape: tuple[int, int]) -> None:
    axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)[None]
    image = draw(1, 3, *shape)
    torch.testing.assert_close(nufft(image, places), fft2c(image), rtol=1e-10, atol=1e-10)
    ones = compensation(places[0].float(), torch.ones(shape, dtype=torch.bool), shape)
    torch.testing.assert_close(ones, torch.ones(shape), rtol=0, atol=1e-4)


def test_the_same_call_gives_the_same_numbers() -> None:
    places, samples = radial(31, 64)[None], draw(1, 4, 31, 64, dtype=torch.complex64)
    first, second = (nufft_adjoint(samples, places, (32, 32)) for _ in range(2))
    assert torch.equal(first, second)


def test_an_empty_batch_has_empty_samples() -> None:
    places = radial(3, 8)[None][:0]
    assert nufft(torch.zeros(0, 2, 4, 4, dtype=torch.complex64), places).shape == (0, 2, 3, 8)


@pytest.mark.parametrize("spokes", [13, 34])
def test_compensation_evens_out_the_centre(spokes: int) -> None:
    """Where spokes lie closer than the grid, each sample's area grows with its distance from the centre."""
    places, everywhere = radial(spokes, 64), torch.ones(spokes, 64, dtype=torch.bool)
    weight = compensation(places, everywhere, (32, 32))
    assert float(weight.min()) > 0
    ramp = weight.mean(0)[34:37] / weight.mean(0)[34]
    torch.testing.assert_close(ramp, torch.tensor([1.0, 1.5, 2.0]), rtol=0.15, atol=0)
    encoding = noncartesian(
        everywhere[None], torch.ones(1, 1, 1, 32, 32) + 0j, places[None], weight[None].sqrt()
    )
    image = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(2))
    for _ in range(100):
        image = encoding.normal_pairs(image)
        largest = float(image.norm())
        image = image / largest
    assert largest == pytest.approx(1, abs=0.03)


def test_samples_outside_the_mask_get_the_area_they_would_have_among_it() -> None:
    places = radial(26, 64)
    every_other = torch.zeros(26, 64, dtype=torch.bool)
    every_other[::2] = True
    weight = compensation(places, every_other, (32, 32))
    alone = compensation(places[::2], every_other[::2], (32, 32))
    torch.testing.assert_close(weight[::2], alone, rtol=1e-3, atol=1e-5)
    near = slice(34, 38)
    torch.testing.assert_close(weight[1::2, near].mean(0), alone[:, near].mean(0), rtol=0.1, atol=0)


@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
def test_forward_and_adjoint_agree_with_bart(tmp_path: Path) -> None:
    """Against its slow transform: what its fast one grids beyond the edge of k-space is off by a per cent."""
    places, image = radial(21, 64), draw(40, 32, dtype=torch.complex64)
    array = np.zeros((3, 64, 21), np.complex64)
    array[0], array[1] = places[..., 1].T.numpy(), places[..., 0].T.numpy()
    write_cfl(tmp_path / "traj", array)
    write_cfl(tmp_path / "image", image.numpy().T[:, :, None])
    for command in ("nufft -s traj image samples", "nufft -s -a -d 32:40:1 traj samples back"):
        subprocess.run(["bart", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    samples, back = (np.array(read_cfl(tmp_path / f"{name}.cfl")).squeeze().T for name in ("samples", "back"))
    mine = nufft(image[None, None], places[None])[0, 0]
    # BART's slow transform is not divided by √N.
    given = torch.from_numpy(samples.copy()) / image.numel() ** 0.5
    assert float((mine - given).norm() / given.norm()) < 1e-3
    gridded = nufft_adjoint(given[None, None], places[None], (40, 32))[0, 0]
    expected = torch.from_numpy(back.copy()) / image.numel()
    assert float((gridded - expected).norm() / expected.norm()) < 1e-3


def test_without_finufft_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(NorefError, match=r"^finufft: not installed[^\n]*noref\[noncartesian\]$"):
        nufft(torch.zeros(1, 1, 4, 4, dtype=torch.complex64), radial(2, 8)[None])
