"""Calibration and maps of scans off the grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from synthetic import image, maps, scan, spokes

from noref.coils import acs_maps, espirit, estimate_maps
from noref.coils.gridded import gridded_calibration
from noref.data.prepare import compensated
from noref.errors import NorefError
from noref.physics import crop_centre


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads add samples up in any order, and what they make differs by rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(48, 48), (45, 40)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_centre_is_that_of_a_cartesian_scan(shape: tuple[int, int], weighted: bool) -> None:
    off_grid = spokes(shape, 3, seed=4, number=60)
    region = gridded_calibration(compensated(off_grid) if weighted else off_grid)
    expected = crop_centre(scan(shape, 3, seed=4).kspace, (24, 24))
    assert region.shape == expected.shape
    assert float((region - expected).norm() / expected.norm()) < 0.05


@pytest.mark.usefixtures("one_thread")
def test_held_out_spokes_are_not_looked_at() -> None:
    one = compensated(spokes((48, 48), 3, number=40))
    held = torch.zeros_like(one.mask)
    held[::5] = True
    other = torch.where(held, 1e3, one.kspace)
    first, second = (
        gridded_calibration(replace(one, kspace=kspace, holdout=held)) for kspace in (one.kspace, other)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("method", ["espirit", "acs"])
def test_maps_are_those_of_the_coils_where_there_is_signal(method: str) -> None:
    shape = (48, 48)
    off_grid = spokes(shape, 4, seed=1, number=48, keep_maps=False)
    made = estimate_maps(compensated(off_grid), method=method)[0]  # type: ignore[arg-type] # of a list
    region = crop_centre(scan(shape, 4, seed=1).kspace, (24, 24))
    full = (espirit if method == "espirit" else acs_maps)(region, shape)[0]
    bright = image(shape, seed=1)[0].abs() > 0.4
    inside = bright & (made.abs().sum(0) > 0) & (full.abs().sum(0) > 0)
    assert int(inside.sum()) > 0.95 * int(bright.sum())
    likeness = (made.conj() * full).sum(0).abs()[inside]
    assert float(likeness.quantile(0.05)) > 0.98
    # ESPIRiT's are those of the coils; low-resolution images hold the object's borders as well.
    if method == "espirit":
        true = (made.conj() * maps(shape, 4, seed=1)[0]).sum(0).abs()[inside]
        assert float(true.quantile(0.05)) > 0.98


def test_one_coil_has_ones_on_the_grid_of_the_image() -> None:
    assert torch.equal(estimate_maps(spokes((20, 17), 1)), torch.ones(1, 1, 20, 17, dtype=torch.complex64))


def test_a_matrix_too_small_for_espirit_is_refused_in_one_line() -> None:
    with pytest.raises(NorefError, match="ESPIRiT needs 12"):
        estimate_maps(spokes((10, 10), 2, keep_maps=False))
