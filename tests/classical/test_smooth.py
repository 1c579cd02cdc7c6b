from dataclasses import replace

import numpy as np
import pytest
import torch
from objects import acquired, ellipses, psnr
from scipy.ndimage import gaussian_filter

from noref.classical import CLASSICAL, fit
from noref.classical.smooth import smoothed, sparsifying_weights


@pytest.mark.parametrize("shape", [(32, 24), (33, 27), (5, 8)])
def test_it_is_scipys_gaussian_of_a_periodic_image(shape):
    values = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    theirs = gaussian_filter(values.numpy(), (0, 0, 1, 1), mode="wrap", truncate=min(shape) // 2)
    # SciPy's kernel ends after so many pixels and goes round, ours is that of the nearest copy.
    np.testing.assert_allclose(smoothed(values).numpy(), theirs, atol=1e-6 if min(shape) > 9 else 0.03)
    torch.testing.assert_close(smoothed(values).sum((-2, -1)), values.sum((-2, -1)))
    assert float(smoothed(values).min()) >= 0


def test_weights_have_mean_one_and_are_large_where_little_is():
    size = torch.rand(2, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    weight = sparsifying_weights(size)
    torch.testing.assert_close(weight.mean((1, 2, 3)), torch.ones(2))
    order = size[0].flatten().argsort()
    assert bool((weight[0].flatten()[order].diff() <= 0).all())
    together = torch.cat((size[:1], 100 * size[1:]))
    torch.testing.assert_close(sparsifying_weights(together), weight)
    assert torch.equal(sparsifying_weights(torch.zeros(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize(("name", "gain"), [("cg-sense", 1.0), ("tv", 0.1), ("wavelet", 0.1)])
def test_the_second_image_is_better_than_the_first(name, gain):
    """Each with the strength that suits it; the least that it gives, in decibels."""
    scan = acquired(ellipses((64, 48)))
    first, second = (
        max(psnr(fit(one, scan, s), scan.reference) for s in (0.01, 0.003, 0.001, 0.0003))
        for one in (replace(CLASSICAL[name], reweighted=twice) for twice in (False, True))
    )
    assert second > first + gain
