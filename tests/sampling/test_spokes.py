"""Where spokes lie, and how densely."""

from __future__ import annotations

import math

import pytest
import torch
from synthetic import spokes

from noref.data.prepare import Preparation, prepare
from noref.sampling.spokes import GOLDEN, radial, turned


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
    scan = prepare(spokes((32, 32), 2, number=13), Preparation(holdout=0.0))
    assert scan.density is not None
    assert scan.trajectory is not None
    radius = torch.linalg.vector_norm(scan.trajectory, dim=-1)
    assert float(scan.density.max()) == 1
    assert bool((scan.density > 0).all())
    near, middle, far = (scan.density[(radius - at).abs() < 1].mean() for at in (2.0, 8.0, 14.0))
    assert near > middle > far
    # Spokes a distance proportional to the radius apart.
    assert float(middle / far) == pytest.approx(14 / 8, rel=0.25)
