"""Spokes lie where BART's do, and golden ones cover the circle however many there are."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import spokes as scan_of_spokes

from noref.data.prepare import Preparation, prepare
from noref.sampling.spokes import GOLDEN, golden_angle, radial, spoke_angles, turned

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")


def bart(folder: Path, options: str, spokes: int, samples: int) -> torch.Tensor:
    """`bart traj`, `(spokes, samples, 2)`, along x and y: BART counts angles from y towards x."""
    subprocess.run(["bart", "traj", *options.split(), "traj"], cwd=folder, check=True, capture_output=True)
    values = np.fromfile(folder / "traj.cfl", np.complex64).real.reshape(spokes, samples, 3)
    return torch.from_numpy(values[..., :2].copy())


@needs_bart
@pytest.mark.parametrize("samples", [32, 48])
@pytest.mark.parametrize("spokes", [1, 7, 12])
def test_spokes_are_barts(samples: int, spokes: int, tmp_path: Path) -> None:
    base = f"-x {samples} -y {spokes} -r -c"
    for options, ours in {
        "": radial(spokes, samples, spacing=1, half=True),
        "-D": radial(spokes, samples, spacing=1),
        "-G": radial(spokes, samples, golden=True, spacing=1),
        "-G -s 7": radial(spokes, samples, golden=True, spacing=1, tiny=7),
    }.items():
        theirs = bart(tmp_path, f"{base} {options}", spokes, samples)
        # BART's golden angle is the complement's: the same spokes, some of them the other way round.
        if "-G" in options:
            theirs = theirs * (theirs[:, :1] * ours[:, :1]).sum(-1, keepdim=True).sign()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


@needs_bart
def test_an_oversampled_readout_is_barts(tmp_path: Path) -> None:
    theirs = bart(tmp_path, "-x 32 -y 5 -r -c -D -o 2", 5, 64)
    torch.testing.assert_close(radial(5, 64), theirs, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("samples", "spacing"), [(9, 1.0), (16, 0.5), (33, 0.25)])
@pytest.mark.parametrize("golden", [False, True])
def test_all_spokes_cross_the_centre_at_even_steps(samples: int, spacing: float, golden: bool) -> None:
    places = radial(6, samples, golden, spacing)
    assert places.shape == (6, samples, 2)
    assert places.dtype is torch.float32
    assert torch.equal(places[:, samples // 2], torch.zeros(6, 2))
    steps = places.double().diff(dim=1).norm(dim=-1)
    torch.testing.assert_close(steps, torch.full_like(steps, spacing), rtol=1e-5, atol=0)
    # No farther out than half of samples × spacing.
    assert float(places.norm(dim=-1).max()) <= samples * spacing / 2 + 1e-5


def test_evenly_spread_spokes_are_each_direction_once() -> None:
    for spokes, half in ((8, True), (7, True), (7, False)):
        directions = (spoke_angles(spokes, half=half) % math.pi).sort().values
        even = torch.arange(spokes, dtype=torch.float64) * math.pi / spokes
        torch.testing.assert_close(directions, even, rtol=0, atol=1e-12)


def test_the_first_spoke_begins_at_an_angle() -> None:
    assert torch.equal(spoke_angles(5, golden=True, start=0.3), spoke_angles(5, golden=True) + 0.3)


@pytest.mark.parametrize("number", range(2, 60))
def test_gaps_between_golden_spokes_have_three_lengths_none_much_wider_than_others(number: int) -> None:
    directions = (spoke_angles(number, golden=True) % math.pi).sort().values
    gaps = torch.cat((directions.diff(), directions[:1] + math.pi - directions[-1:]))
    assert len({round(float(gap), 9) for gap in gaps}) <= 3
    assert float(gaps.max() / gaps.min()) < ((1 + math.sqrt(5)) / 2) ** 2 + 1e-6


def test_tiny_golden_angles_are_the_published_ones() -> None:
    degrees = [math.degrees(golden_angle(n)) for n in (1, 2, 3, 4, 5, 7)]
    assert degrees == pytest.approx([111.25, 68.75, 49.75, 38.98, 32.04, 23.63], abs=0.005)
    assert golden_angle() == pytest.approx(GOLDEN, abs=1e-12)


def angles(trajectory: torch.Tensor) -> torch.Tensor:
    return torch.atan2(trajectory[:, -1, 0], trajectory[:, -1, 1])


@pytest.mark.parametrize("samples", [16, 15])
@pytest.mark.parametrize("golden", [False, True])
def test_spokes_are_straight_and_cross_the_centre(samples: int, golden: bool) -> None:
    places = radial(7, samples, golden=golden)
    assert places.shape == (7, samples, 2)
    assert places.dtype == torch.float32
    assert not bool(places[:, samples // 2].any())
    radius = torch.linalg.vector_norm(places, dim=-1)
    expected = 0.5 * (torch.arange(samples) - samples // 2).abs()
    torch.testing.assert_close(radius, expected.expand_as(radius))


def test_angles_are_even_or_golden() -> None:
    even = angles(radial(5, 16).double()).diff().remainder(2 * math.pi)
    torch.testing.assert_close(
        even, torch.full((4,), 2 * math.pi / 5, dtype=torch.float64), atol=1e-6, rtol=0
    )
    golden = angles(radial(5, 16, golden=True).double()).diff().remainder(2 * math.pi)
    assert golden.tolist() == pytest.approx([GOLDEN] * 4, abs=1e-6)
    assert pytest.approx(111.246, abs=1e-3) == math.degrees(GOLDEN)


def test_the_first_spoke_lies_along_x_and_turns_towards_y() -> None:
    places = radial(4, 8, spacing=1.0)
    torch.testing.assert_close(places[0, -1], torch.tensor([0.0, 3.0]))
    torch.testing.assert_close(places[1, -1], torch.tensor([3.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(turned(places, math.pi / 2)[0], places[1], atol=1e-6, rtol=0)


def test_density_is_one_where_spokes_are_dense_and_falls_as_they_part() -> None:
    scan = prepare(scan_of_spokes((32, 32), 2, number=13), Preparation(holdout=0.0))
    assert scan.density is not None
    assert scan.trajectory is not None
    radius = torch.linalg.vector_norm(scan.trajectory, dim=-1)
    assert float(scan.density.max()) == 1
    assert bool((scan.density > 0).all())
    near, middle, far = (scan.density[(radius - at).abs() < 1].mean() for at in (2.0, 8.0, 14.0))
    assert near > middle > far
    # Spokes a distance proportional to the radius apart.
    assert float(middle / far) == pytest.approx(14 / 8, rel=0.25)
