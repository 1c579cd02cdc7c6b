from dataclasses import replace

import numpy as np
import pytest
import pywt
import sigpy
import sigpy.mri
import torch
from objects import acquired, ellipses, psnr
from synthetic import image

from noref.classical import CGSense, Wavelet, ZeroFilled
from noref.classical.dwt import wavelet_transform
from noref.scan import ScanBatch

CONVERGED = Wavelet(levels=None, iterations=600, tolerance=0, cycle_spinning=False, reweighted=False)


def brightness(zero_filled: torch.Tensor) -> float:
    return float(np.quantile(zero_filled.abs().numpy(), 0.995, method="inverted_cdf"))


@pytest.mark.parametrize("wavelet", ["db4", "db2", "haar"])
@pytest.mark.parametrize(
    ("shape", "coils", "sets", "gain"),
    [
        ((32, 48), 4, 1, 1.0),
        ((35, 45), 4, 1, 1.0),
        ((32, 32), 1, 1, 1.0),
        ((40, 32), 6, 2, 1.0),
        ((32, 24), 4, 1, 2.5),
    ],
)
def test_the_converged_image_is_the_minimum(wavelet, shape, coils, sets, gain):
    """Optimality: `Ψ Aᴴ(y − A x)` is `λ c/|c|` where `c = Ψ x` is not zero, and at most λ where it is."""
    scan = acquired(image(shape, sets), coils, acceleration=2)
    batch = ScanBatch.of([replace(scan, maps=gain * scan.maps)])
    encoding, strength = batch.encoding(), 0.03
    right = encoding.adjoint(batch.kspace)
    threshold = strength * brightness(right)
    x = replace(CONVERGED, wavelet=wavelet)(batch.kspace, encoding, strength)
    transform = wavelet_transform(shape, wavelet)
    pull = transform.forward(right - encoding.normal(x)) / threshold
    coefficients = transform.forward(x)
    kept = coefficients.abs() > 1e-4
    assert 0.02 < float(kept.float().mean()) < 0.9
    assert float(pull.abs().max()) < 1.02
    assert float((pull - coefficients.sgn())[kept].abs().max()) < 0.02


def test_the_objective_is_as_low_as_that_of_sigpys_solver():
    shape, strength = (64, 64), 0.01
    scan = acquired(ellipses(shape))
    batch = ScanBatch.of([scan])
    threshold = strength * brightness(batch.encoding().adjoint(batch.kspace))
    ours = replace(CONVERGED, wavelet="db4", iterations=150, levels=2)(
        batch.kspace, batch.encoding(), strength
    )[0, 0].numpy()

    def coefficients(x: np.ndarray) -> tuple[np.ndarray, list]:
        return pywt.coeffs_to_array(pywt.wavedec2(x, "db4", mode="periodization", level=2))

    _, slices = coefficients(np.zeros(shape))

    def image_of(c: np.ndarray) -> np.ndarray:
        parts = pywt.array_to_coeffs(c, slices, output_format="wavedec2")
        return pywt.waverec2(parts, "db4", mode="periodization").astype(np.complex64)

    def shrink(step: float, x: np.ndarray) -> np.ndarray:
        return image_of(sigpy.thresh.soft_thresh(step * threshold, coefficients(x)[0]))

    y = (scan.kspace * scan.mask).numpy()
    sense = sigpy.mri.linop.Sense(scan.maps[0].numpy(), weights=scan.mask.numpy().astype(np.float32))
    theirs = np.zeros(shape, np.complex64)
    algorithm = sigpy.alg.GradientMethod(
        lambda x: sense.H(sense(x) - y), theirs, 1, proxg=shrink, accelerate=True, max_iter=150
    )
    while not algorithm.done():
        algorithm.update()

    def objective(x: np.ndarray) -> float:
        data = 0.5 * np.linalg.norm(sense(x) - y) ** 2
        return float(data + threshold * np.abs(coefficients(x)[0]).sum())

    assert objective(ours) <= objective(theirs) * (1 + 1e-4)
    assert np.linalg.norm(ours - theirs) < 1e-2 * np.linalg.norm(theirs)


def test_it_beats_cg_sense_which_beats_zero_filling():
    scan = acquired(ellipses((96, 96)))
    batch = ScanBatch.of([scan])
    data = batch.kspace, batch.encoding()

    def best(method) -> float:
        return max(psnr(method(*data, s)[0], scan.reference) for s in (0.01, 0.003, 0.001))

    zero_filled = psnr(ZeroFilled()(*data)[0], scan.reference)
    cg_sense, still, spinning = (
        best(replace(method, reweighted=False))
        for method in (CGSense(), Wavelet(cycle_spinning=False), Wavelet())
    )
    assert cg_sense > zero_filled + 0.5
    assert still > cg_sense + 0.5
    assert spinning > still + 0.5
