"""What the regularised reconstructions by FISTA have in common."""

from dataclasses import replace

import pytest
import torch
from objects import acquired, ellipses
from synthetic import image

from noref.classical import TotalVariation, Wavelet
from noref.classical.fista import largest_eigenvalue
from noref.physics import cartesian
from noref.scan import ScanBatch

each = pytest.mark.parametrize(
    "method", [TotalVariation(), Wavelet(cycle_spinning=False), Wavelet()], ids=["tv", "wavelet", "spinning"]
)


@pytest.mark.parametrize("sets", [1, 2, 3])
def test_the_bound_holds_for_any_maps(sets):
    generator = torch.Generator().manual_seed(sets)
    maps = torch.randn(2, sets, 3, 12, 10, dtype=torch.complex64, generator=generator)
    encoding = cartesian(torch.ones(2, 12, 10, dtype=torch.bool), maps)
    pixels = maps.permute(0, 3, 4, 1, 2)
    true = torch.linalg.svdvals(pixels).amax((1, 2, 3)).square()
    bound = largest_eigenvalue(encoding).flatten()
    assert bool((bound >= true * 0.9999).all())
    if sets == 1:
        torch.testing.assert_close(bound, true)


def test_maps_of_unit_norm_have_bound_one():
    batch = ScanBatch.of([acquired(image((24, 24)))])
    torch.testing.assert_close(largest_eigenvalue(batch.encoding()), torch.ones(1, 1, 1, 1))


@each
def test_the_strength_is_relative_to_the_image(method):
    batch = ScanBatch.of([acquired(ellipses((32, 30)), 4)])
    one = method(batch.kspace, batch.encoding(), 0.01)
    other = method(40 * batch.kspace, batch.encoding(), 0.01)
    torch.testing.assert_close(other, 40 * one, rtol=1e-3, atol=1e-3)


@each
def test_scans_of_a_batch_do_not_influence_each_other(method):
    method = replace(method, iterations=15, tolerance=0)
    scans = [acquired(gain * image((21, 18), seed=seed), 4, seed=seed) for seed, gain in ((0, 1.0), (1, 9.0))]
    batch = ScanBatch.of(scans)
    together = method(batch.kspace, batch.encoding(), 0.01)
    for index, scan in enumerate(scans):
        alone = ScanBatch.of([scan])
        torch.testing.assert_close(
            together[index], method(alone.kspace, alone.encoding(), 0.01)[0], rtol=1e-3, atol=1e-3
        )


@each
def test_it_is_deterministic_and_leaves_its_input_alone(method):
    batch = ScanBatch.of([acquired(ellipses((24, 21)), 4)])
    encoding, kspace = batch.encoding(), batch.kspace.clone()
    start = encoding.adjoint(kspace)
    kept = start.clone()
    first, second = (replace(method, iterations=3)(kspace, encoding, 0.01, start) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(kspace, batch.kspace)
    assert torch.equal(start, kept)


def test_total_variation_starts_where_it_is_told_and_wavelets_at_the_zero_filled_image():
    batch = ScanBatch.of([acquired(ellipses((24, 21)), 4)])
    data = batch.kspace, batch.encoding(), 0.01
    zero_filled = batch.encoding().adjoint(batch.kspace)
    few = TotalVariation(iterations=3, warm_iterations=3, tolerance=0)
    assert torch.equal(few(*data, zero_filled), few(*data))
    assert not torch.equal(few(*data, 2 * zero_filled), few(*data))
    assert torch.equal(Wavelet(iterations=3)(*data, 2 * zero_filled), Wavelet(iterations=3)(*data))


@pytest.mark.parametrize("method", [TotalVariation(), Wavelet(cycle_spinning=False)], ids=["tv", "wavelet"])
def test_it_stops_once_the_image_no_longer_changes(method):
    batch = ScanBatch.of([acquired(ellipses((24, 21)), 4)])
    data, method = (batch.kspace, batch.encoding(), 0.03), replace(method, reweighted=False)
    assert torch.equal(replace(method, tolerance=10.0)(*data), replace(method, iterations=1)(*data))
    loose, exact = (replace(method, iterations=200, tolerance=t)(*data) for t in (1e-3, 0))
    assert not torch.equal(loose, exact)
    assert float((loose - exact).norm() / exact.norm()) < 0.05


@each
def test_an_empty_scan_gives_an_empty_image(method):
    batch = ScanBatch.of([acquired(ellipses((32, 24)), 4)])
    assert not method(torch.zeros_like(batch.kspace), batch.encoding(), 0.01).any()
