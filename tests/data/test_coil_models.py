import numpy as np
import pytest
import torch

from noref.data.coil_models import KINDS, loop, maps, rung
from noref.errors import NorefError
from noref.seeding import Key

KEY = Key(0, "brain-0001", "coils")


def biot_savart(wire: np.ndarray, point: np.ndarray) -> complex:
    """`B_x − iB_y` at a point from the segments of a wire `(n, 3)`, in units of μ₀I/2π."""
    segments, middles = np.diff(wire, axis=0), (wire[1:] + wire[:-1]) / 2
    away = point - middles
    field = np.cross(segments, away) / np.linalg.norm(away, axis=1, keepdims=True) ** 3 / 2
    return complex(field[:, 0].sum(), -field[:, 1].sum())


@pytest.mark.parametrize("point", [(0.3, -0.2, 0.1), (-0.5, 0.4, -0.3), (0.0, 0.0, 0.0)])
def test_a_loop_has_the_field_of_its_wire(point: tuple[float, float, float]) -> None:
    angle, centre, radius, tilt = 0.7, np.array([1.1, 0.9, 0.1]), 0.4, 0.15
    turn = np.linspace(0, 2 * np.pi, 2001)
    towards = np.array([-np.cos(angle + tilt), -np.sin(angle + tilt), 0])
    across = np.cross(towards, [0, 0, 1])
    wire = centre + radius * (
        np.cos(turn)[:, None] * across + np.sin(turn)[:, None] * np.cross(towards, across)
    )
    expected = biot_savart(wire, np.array(point))
    x, y, z = point
    found = loop(angle, centre, radius, tilt)(np.array([[x]]), np.array([[y]]), z)[0, 0]
    assert abs(found - expected) < 0.01 * abs(expected)


@pytest.mark.parametrize("point", [(0.3, -0.2, 0.4), (-0.5, 0.4, -0.3)])
def test_a_rung_has_the_field_of_its_wire(point: tuple[float, float, float]) -> None:
    centre, half = np.array([1.2, -0.3, 0.1]), 0.9
    wire = centre + np.linspace(-half, half, 2001)[:, None] * np.array([0, 0, 1])
    expected = biot_savart(wire, np.array(point))
    x, y, z = point
    found = rung(centre, half)(np.array([[x]]), np.array([[y]]), z)[0, 0]
    assert abs(found - expected) < 0.01 * abs(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("coils", [1, 2, 8, 20])
def test_maps_are_smooth_have_unit_power_and_see_the_whole_middle(kind: str, coils: int) -> None:
    size = 65
    found = maps(kind, coils, (size, size), KEY)
    assert found.shape == (coils, size, size)
    assert found.dtype == torch.complex64
    v, u = torch.meshgrid(*(torch.linspace(-1, 1, size),) * 2, indexing="ij")
    middle = u**2 + v**2 < 0.7**2
    power = found.abs().square().sum(0)
    assert float(power[middle].mean()) == pytest.approx(1, abs=0.05)
    assert float(power[middle].min()) > 0.05
    steps = (found[:, 1:] - found[:, :-1])[:, middle[1:] & middle[:-1]].abs()
    assert float(steps.max()) < 8 / size * float(found[:, middle].abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_one_coil_is_nearly_uniform(kind: str) -> None:
    magnitude = maps(kind, 1, (64, 64), KEY)[0, 12:52, 12:52].abs()
    assert float(magnitude.std() / magnitude.mean()) < 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_coils_move_with_the_key_and_not_with_the_grid(kind: str) -> None:
    coarse, fine = maps(kind, 4, (32, 32), KEY), maps(kind, 4, (64, 64), KEY)
    torch.testing.assert_close(coarse, fine[:, ::2, ::2])
    torch.testing.assert_close(coarse, maps(kind, 4, (32, 32), KEY), rtol=0, atol=0)
    other = maps(kind, 4, (32, 32), Key(0, "brain-0002", "coils"))
    assert float((coarse - other).abs().max()) > 0.1


def test_unknown_coils_are_refused() -> None:
    with pytest.raises(NorefError, match="loop, birdcage"):
        maps("saddle", 4, (16, 16), KEY)
    with pytest.raises(NorefError, match="0 coils"):
        maps("loop", 0, (16, 16), KEY)
