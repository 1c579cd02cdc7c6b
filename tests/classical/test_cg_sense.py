from dataclasses import replace

import numpy as np
import pytest
import sigpy.mri
import torch
from objects import acquired, ellipses
from scipy.ndimage import gaussian_filter
from synthetic import image

from noref.classical import CGSense, ZeroFilled
from noref.scan import ScanBatch

PLAIN = CGSense(reweighted=False)
CONVERGED = replace(PLAIN, iterations=300, tolerance=1e-6)


@pytest.mark.parametrize("strength", [0.3, 0.03, 0.003])
@pytest.mark.parametrize("shape", [(64, 48), (51, 45)])
def test_it_is_sigpys(strength, shape):
    scan = acquired(ellipses(shape))
    batch = ScanBatch.of([scan])
    ours = CONVERGED(batch.kspace, batch.encoding(), strength)[0, 0].numpy()
    kspace = (scan.kspace * scan.mask).numpy()
    app = sigpy.mri.app.SenseRecon(kspace, scan.maps[0].numpy(), lamda=strength, max_iter=60, show_pbar=False)
    theirs = app.run()
    assert np.linalg.norm(ours - theirs) < 1e-3 * np.linalg.norm(theirs)


@pytest.mark.parametrize(("shape", "coils", "sets"), [((32, 24), 4, 1), ((33, 27), 3, 1), ((33, 24), 6, 2)])
def test_it_solves_the_normal_equations(shape, coils, sets):
    batch = ScanBatch.of([acquired(image(shape, sets, seed), coils, seed=seed) for seed in range(2)])
    encoding, strength = batch.encoding(), 0.02
    x = CONVERGED(batch.kspace, encoding, strength)
    right = encoding.adjoint(batch.kspace)
    assert x.shape == (2, sets, *shape)
    assert x.dtype == torch.complex64
    assert float((encoding.normal(x) + strength * x - right).norm() / right.norm()) < 1e-5
    again = CONVERGED(batch.kspace, encoding, strength, start=torch.ones_like(x))
    torch.testing.assert_close(again, x, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("shape", "coils", "sets"), [((32, 24), 4, 1), ((33, 27), 1, 1), ((33, 24), 6, 2)])
def test_reweighted_it_solves_the_weighted_normal_equations(shape, coils, sets):
    """`m` by SciPy, of the plain solution after as many iterations."""
    batch = ScanBatch.of([acquired(image(shape, sets, seed), coils, seed=seed) for seed in range(2)])
    encoding, strength = batch.encoding(), 0.02
    method = replace(CONVERGED, reweighted=True)
    x = method(batch.kspace, encoding, strength)
    first = replace(CONVERGED, iterations=method.first_iterations)(batch.kspace, encoding, strength)
    smooth = gaussian_filter(first.abs().numpy(), (0, 0, 1, 1), mode="wrap", truncate=8)
    m = torch.from_numpy(smooth / np.sqrt((smooth**2).mean((1, 2, 3), keepdims=True)) + 0.1)
    right = encoding.adjoint(batch.kspace)
    assert float((encoding.normal(x) + strength * x / m - right).norm() / right.norm()) < 1e-4
    again = method(batch.kspace, encoding, strength, start=torch.ones_like(x))
    torch.testing.assert_close(again, x, atol=1e-4, rtol=0)
    for index in range(2):
        alone = ScanBatch.of([acquired(image(shape, sets, index), coils, seed=index)])
        torch.testing.assert_close(
            method(alone.kspace, alone.encoding(), strength)[0], x[index], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("gain", [0.02, 50.0])
def test_units_of_data_and_maps_do_not_matter(gain):
    scan = acquired(ellipses((32, 27)), 4)
    batch = ScanBatch.of([scan])
    x = CGSense()(batch.kspace, batch.encoding(), 0.02)
    again = CGSense()(gain * batch.kspace, batch.encoding(), 0.02) / gain
    torch.testing.assert_close(again, x, atol=1e-4, rtol=1e-4)
    louder = ScanBatch.of([replace(scan, maps=gain * scan.maps)])
    again = CGSense()(batch.kspace, louder.encoding(), 0.02 * gain**2) * gain
    torch.testing.assert_close(again, x, atol=1e-4, rtol=1e-4)


def test_an_empty_scan_gives_an_empty_image():
    batch = ScanBatch.of([acquired(ellipses((32, 24)), 4)])
    assert not CGSense()(torch.zeros_like(batch.kspace), batch.encoding(), 0.01).any()


def test_with_one_coil_it_only_dims_what_was_acquired():
    batch = ScanBatch.of([acquired(ellipses((33, 28)), coils=1)])
    encoding = batch.encoding()
    zero_filled = ZeroFilled()(batch.kspace, encoding)
    torch.testing.assert_close(PLAIN(batch.kspace, encoding, 0.25), zero_filled / 1.25)


def test_zero_filled_is_the_adjoint_and_reads_no_other_sample():
    scan = acquired(ellipses((32, 24)))
    batch = ScanBatch.of([scan])
    elsewhere = batch.kspace + torch.where(scan.mask, 0, 7)
    zero_filled = ZeroFilled()(batch.kspace, batch.encoding())
    torch.testing.assert_close(zero_filled, ZeroFilled()(elsewhere, batch.encoding()))
    # ⟨A u, y⟩ = ⟨u, Aᴴ y⟩ for any u.
    u = image((32, 24))[None]
    left = torch.vdot(batch.encoding().forward(u).flatten(), batch.kspace.flatten())
    torch.testing.assert_close(left, torch.vdot(u.flatten(), zero_filled.flatten()), rtol=1e-4, atol=1e-4)
