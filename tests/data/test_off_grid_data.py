"""Scans off the grid: simulated, prepared, stored, and their noise."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from synthetic import scan, spokes
from torch import Tensor

from noref.data.dataset import Dataset
from noref.data.noise import ceiling_psnr, noise_level
from noref.data.prepare import Preparation, prepare
from noref.data.simulate import simulate_scan
from noref.data.store import PreparedDataset, Store
from noref.data.storing import write_store
from noref.errors import NorefError
from noref.physics import fft2c, nufft
from noref.scan import Role


def simulated(**changes: object) -> dict[str, object]:
    return {
        "id": "s/s/000",
        "matrix": (32, 32),
        "coils": 3,
        "noise_db": None,
        "seed": 0,
        "spokes": 9,
    } | changes


def test_spokes_of_a_phantom_hold_what_its_cartesian_scan_does() -> None:
    """Where the object is smooth enough for the grid, samples between lie on the image of the grid."""
    made = simulate_scan("brain", **simulated())  # type: ignore[arg-type]
    cartesian = simulate_scan("brain", **simulated(spokes=None))  # type: ignore[arg-type]
    assert made.trajectory is not None
    assert made.clean is not None
    assert torch.equal(made.clean, cartesian.kspace)
    assert made.matrix == (32, 32)
    # At the centre of k-space both have the same sample.
    torch.testing.assert_close(
        made.kspace[:, :, 32], cartesian.kspace[:, None, 16, 16].expand(-1, 9), rtol=1e-4, atol=1e-6
    )
    image = torch.fft.fftshift(
        torch.fft.ifft2(torch.fft.ifftshift(made.clean, dim=(-2, -1)), norm="ortho"), dim=(-2, -1)
    )
    torch.testing.assert_close(fft2c(image), made.clean, rtol=1e-4, atol=1e-4)
    between = nufft(image[None], made.trajectory[None])[0]
    inside = torch.linalg.vector_norm(made.trajectory, dim=-1) < 12
    assert float((between - made.kspace)[:, inside].norm() / made.kspace[:, inside].norm()) < 0.1


def test_every_scan_is_turned_by_an_angle_of_its_own_and_noise_is_as_told() -> None:
    one, two = (simulate_scan("brain", **simulated(id=f"s/s/00{i}")) for i in (0, 1))  # type: ignore[arg-type]
    assert not torch.equal(one.trajectory, two.trajectory)  # type: ignore[arg-type]
    quiet = simulate_scan("brain", **simulated(spokes=64))  # type: ignore[arg-type]
    noisy = simulate_scan("brain", **simulated(spokes=64, noise_db=10.0))  # type: ignore[arg-type]
    grid = simulate_scan("brain", **simulated(spokes=None, noise_db=10.0))  # type: ignore[arg-type]
    assert grid.clean is not None
    sigma = float((noisy.kspace - quiet.kspace).abs().square().mean().sqrt())
    assert sigma == pytest.approx(float((grid.kspace - grid.clean).abs().square().mean().sqrt()), rel=0.05)


def test_noise_is_read_off_the_border_before_and_after_preparation() -> None:
    raw = replace(spokes((48, 48), 3, number=30), kspace=torch.zeros(3, 30, 96, dtype=torch.complex64))
    noise = torch.randn(raw.kspace.shape, dtype=raw.kspace.dtype, generator=torch.Generator().manual_seed(0))
    raw = replace(raw, kspace=spokes((48, 48), 3, number=30).kspace * 1e-3 + 0.5 * noise)
    level, region = noise_level(raw)
    assert region == "border"
    assert level == pytest.approx(0.5, rel=0.1)
    ready = prepare(raw, Preparation(holdout=0.0))
    assert noise_level(ready)[0] == pytest.approx(0.5 / abs(ready.scale), rel=0.1)
    assert ceiling_psnr([ready]) is None


def test_a_full_radial_scan_is_its_own_reference() -> None:
    raw = spokes((24, 24), 2, number=60)
    truth = prepare(replace(raw, role=Role.PROXY), Preparation())
    measured = prepare(replace(raw, clean=None, role=Role.PROXY), Preparation())
    assert truth.reference is not None
    assert measured.reference is not None
    one, two = (s.reference * s.scale for s in (truth, measured))  # type: ignore[operator]
    # The corners of k-space were not sampled.
    assert float((one - two).norm() / one.norm()) < 0.15
    sparse = prepare(
        replace(raw, clean=None).undersampled(raw.mask & (torch.arange(60) < 20)[:, None]), Preparation()
    )
    assert sparse.reference is None


def test_what_was_not_asked_for_is_refused_in_one_line() -> None:
    raw = spokes((24, 24), 2, number=9, keep_maps=False)
    unknown = replace(raw, header=replace(raw.header, matrix=None))
    with pytest.raises(
        NorefError, match=r"^subject0/scan/0: off the Cartesian grid, of no known matrix; give matrix=N$"
    ):
        prepare(unknown, Preparation())


def test_a_store_gives_back_every_bit(tmp_path: Path) -> None:
    how = Preparation(holdout=0.1)
    made = Dataset([spokes((24, 24), 2, seed, noise=0.01, keep_maps=False) for seed in range(2)], how)
    write_store(tmp_path / "s", (made.prepared(i) for i in range(2)), how, Role.TARGET)
    stored = PreparedDataset(Store(tmp_path / "s"), how, Role.TARGET)
    assert stored.buckets == made.buckets
    assert stored.ids == made.ids
    for one, two in zip(made, stored, strict=True):
        for field in fields(one):
            before, after = getattr(one, field.name), getattr(two, field.name)
            same = torch.equal(before, after) if isinstance(before, Tensor) else before == after
            assert same, field.name
    single = Dataset([replace(spokes((24, 24), 1, 0), id=f"{i}/s/0") for i in range(2)], how)
    write_store(tmp_path / "t", (single.prepared(i) for i in range(2)), Preparation(holdout=0.1), Role.TARGET)
    assert Store(tmp_path / "t").survey[0].trajectory == Store(tmp_path / "t").survey[1].trajectory != ""


def test_a_store_holds_scans_of_one_kind(tmp_path: Path) -> None:
    how = Preparation(holdout=0.0)
    both = Dataset([spokes((24, 24), 2, 0), scan((24, 24), 2, 1)], how)
    with pytest.raises(NorefError, match="each kind in its own store"):
        write_store(tmp_path / "s", (both.prepared(i) for i in range(2)), how, Role.TARGET)
