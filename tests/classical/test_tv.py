import numpy as np
import pytest
import sigpy
import sigpy.mri
import torch
from objects import acquired, ellipses, psnr

from noref.classical import CGSense, TotalVariation
from noref.classical.tv import _adjoint, _gradient
from noref.scan import Scan, ScanBatch

CONVERGED = TotalVariation(iterations=300, tolerance=0, reweighted=False)


def threshold_of(scan: Scan, strength: float) -> float:
    zero_filled = ScanBatch.of([scan]).encoding().adjoint((scan.kspace * scan.mask)[None])
    return strength * float(np.quantile(zero_filled.abs().numpy(), 0.995, method="inverted_cdf"))


def differences(x: np.ndarray) -> np.ndarray:
    return np.stack([x - np.roll(x, 1, axis) for axis in (-2, -1)])


def objective(scan: Scan, x: np.ndarray, threshold: float) -> float:
    """By SigPy's operator, `x` of `(y, x)`."""
    sense = sigpy.mri.linop.Sense(scan.maps[0].numpy(), weights=scan.mask.numpy().astype(np.float32))
    data = 0.5 * np.linalg.norm(sense(x) - (scan.kspace * scan.mask).numpy()) ** 2
    return float(data + threshold * np.sqrt((np.abs(differences(x)) ** 2).sum(0)).sum())


def ours(scan: Scan, strength: float) -> np.ndarray:
    batch = ScanBatch.of([scan])
    return CONVERGED(batch.kspace, batch.encoding(), strength)[0, 0].numpy()


def sigpys(scan: Scan, threshold: float, **how) -> np.ndarray:
    y, mask = (scan.kspace * scan.mask).numpy(), scan.mask.numpy().astype(np.float32)
    app = sigpy.mri.app.TotalVariationRecon(
        y, scan.maps[0].numpy(), threshold, weights=mask, show_pbar=False, max_iter=500, **how
    )
    return app.run()


def test_the_objective_is_as_low_as_that_of_sigpys_solver():
    """SigPy sums |∂y| and |∂x|: the same where all columns are alike, so that ∂x is zero."""
    column = ellipses((48, 33))[:, :, 16:17]
    scan = acquired(column, 4, acceleration=2)
    threshold = threshold_of(scan, 0.01)
    one, other = ours(scan, 0.01), sigpys(scan, threshold)
    assert objective(scan, one, threshold) <= objective(scan, other, threshold) * (1 + 1e-4)
    assert np.linalg.norm(one - other) < 2e-2 * np.linalg.norm(other)


def test_the_isotropic_minimum_is_that_of_sigpys_solver(monkeypatch):
    """The same solver with the norm of both differences at once; SigPy's own image is no better by it."""
    scan = acquired(ellipses((40, 36)), 4, acceleration=2)
    threshold = threshold_of(scan, 0.01)
    anisotropic = sigpys(scan, threshold)

    class Joint(sigpy.prox.Prox):
        def __init__(self, shape, lamda):
            super().__init__(shape)
            self.lamda = lamda

        def _prox(self, alpha, input):
            length = np.sqrt((np.abs(input) ** 2).sum(0, keepdims=True))
            return input * np.maximum(1 - self.lamda * alpha / np.maximum(length, 1e-30), 0)

    monkeypatch.setattr(sigpy.prox, "L1Reg", Joint)
    one, other = ours(scan, 0.01), sigpys(scan, threshold)
    assert objective(scan, one, threshold) <= objective(scan, other, threshold) * (1 + 1e-4)
    assert objective(scan, one, threshold) < objective(scan, anisotropic, threshold)
    assert np.linalg.norm(one - other) < 2e-2 * np.linalg.norm(other)


@pytest.mark.parametrize("sets", [1, 2])
def test_the_difference_operator_has_its_adjoint_and_bound(sets):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2 * sets, 6, 9, generator=generator)
    u = torch.randn(2, 2, 2 * sets, 6, 9, generator=generator)
    torch.testing.assert_close((_gradient(x) * u).sum(), (x * _adjoint(u)).sum(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(_gradient(x)[1, :, 0].numpy(), differences(x[1, 0].numpy()), rtol=1e-6)
    checkered = (torch.arange(6)[:, None] + torch.arange(8)).remainder(2).mul(2.0).sub(1)[None, None]
    torch.testing.assert_close(_adjoint(_gradient(checkered)), 8 * checkered)


def test_it_beats_cg_sense_where_the_object_is_piecewise_constant():
    body = ellipses((64, 64))
    scan = acquired(torch.polar((body.abs() * 4).round() / 4, torch.zeros(64, 64)), 4, acceleration=3)
    batch = ScanBatch.of([scan])
    data = batch.kspace, batch.encoding()
    tv, cg_sense = (
        max(psnr(method(*data, s)[0], scan.reference) for s in (0.03, 0.01, 0.003))
        for method in (TotalVariation(), CGSense())
    )
    assert tv > cg_sense + 3


def test_strong_regularisation_flattens_the_image():
    batch = ScanBatch.of([acquired(ellipses((32, 30)), 4)])
    flat = CONVERGED(batch.kspace, batch.encoding(), 1000.0)[0, 0]
    assert float((flat - flat.mean()).abs().max()) < 1e-2 * float(flat.mean().abs())
