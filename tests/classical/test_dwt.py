from contextlib import nullcontext as nothing

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noref.classical.dwt import SCALING_FILTERS, most_levels, wavelet_transform

wavelets = pytest.mark.parametrize("wavelet", list(SCALING_FILTERS))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def wide(image: torch.Tensor) -> torch.Tensor:
    """In double precision: a float32 norm is itself only right to 1e-6."""
    return image.to(torch.complex128)


@wavelets
@settings(deadline=None, max_examples=40)
@given(size=st.tuples(st.integers(1, 45), st.integers(1, 45)), levels=st.one_of(st.none(), st.integers(0, 6)))
def test_it_is_orthonormal_for_every_size(wavelet, size, levels):
    transform = wavelet_transform(size, wavelet, levels)
    image, other = random(2, *size), random(2, *size, seed=1)
    coefficients = transform.forward(image)
    assert coefficients.shape == image.shape
    torch.testing.assert_close(transform.inverse(coefficients), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(wide(coefficients).norm(), wide(image).norm(), rtol=1e-6, atol=0)
    # The inverse is the adjoint.
    forward = torch.vdot(other.flatten(), coefficients.flatten())
    backward = torch.vdot(transform.inverse(other).flatten(), image.flatten())
    torch.testing.assert_close(forward, backward, rtol=1e-4, atol=1e-4)


@wavelets
@pytest.mark.parametrize("shape", [(255, 181), (320, 368), (96, 96)])
def test_it_is_orthonormal_in_single_precision_at_the_sizes_of_scans(wavelet, shape):
    transform = wavelet_transform(shape, wavelet)
    image = random(3, *shape)
    again = transform.inverse(transform.forward(image))
    norm = wide(image).norm()
    assert float(wide(again - image).norm() / norm) < 1e-6
    assert float(wide(transform.forward(image)).norm() / norm) == pytest.approx(1, abs=1e-6)


@wavelets
@pytest.mark.parametrize(("shape", "levels"), [((64, 64), 3), ((32, 48), 2), ((16, 80), 4), ((22, 36), 1)])
def test_it_is_pywavelets_periodization_where_sizes_are_even(wavelet, shape, levels):
    image = random(*shape).to(torch.complex128)
    with (
        pytest.warns(UserWarning, match="boundary effects")
        if levels == 4 and wavelet != "haar"
        else nothing()
    ):
        theirs = pywt.wavedec2(image.numpy(), wavelet, mode="periodization", level=levels)
    expected = pywt.coeffs_to_array(theirs)[0]
    ours = wavelet_transform(shape, wavelet, levels, dtype=torch.float64).forward(image)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


@wavelets
def test_filters_and_levels_are_those_of_pywavelets(wavelet):
    np.testing.assert_allclose(SCALING_FILTERS[wavelet], pywt.Wavelet(wavelet).dec_lo, atol=1e-12)
    for size in (1, 6, 7, 13, 14, 96, 255, 256, 640):
        assert most_levels(size, wavelet) == pywt.dwt_max_level(size, wavelet)


@wavelets
def test_details_of_a_constant_image_are_zero(wavelet):
    coefficients = wavelet_transform((64, 96), wavelet, 3).forward(torch.ones(64, 96))
    torch.testing.assert_close(coefficients[:8, :12], torch.full((8, 12), 8.0))
    coefficients[:8, :12] = 0
    torch.testing.assert_close(coefficients, torch.zeros(64, 96), atol=1e-5, rtol=0)


def test_leading_axes_are_independent():
    transform = wavelet_transform((33, 20), "db4", 2)
    images = random(2, 3, 33, 20)
    torch.testing.assert_close(transform.forward(images)[1, 2], transform.forward(images[1, 2]))
