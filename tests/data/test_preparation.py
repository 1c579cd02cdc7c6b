"""What preparing a scan does to its values, whatever file it came from."""

from __future__ import annotations

import cmath
from dataclasses import replace

import pytest
import torch
from synthetic import scan

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation, combined, prepare
from noref.errors import NorefError
from noref.physics import ifft2c
from noref.scan import Role, coil_maps

HOW = Preparation(mask="lines", acceleration=2, acs=8, holdout=0)


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("phase", [0.7, 2.5, -3.0])
def test_the_phase_of_a_scan_as_a_whole_and_its_units_are_gone(coils: int, phase: float) -> None:
    measured = scan((32, 24), coils, seed=1, noise=0.01)
    turned = replace(measured, kspace=measured.kspace * cmath.rect(1e-6, phase))
    plain, same = (prepare(one, HOW) for one in (measured, turned))
    torch.testing.assert_close(same.kspace, plain.kspace, rtol=1e-4, atol=1e-5)
    assert plain.reference is not None
    assert same.reference is not None
    torch.testing.assert_close(same.reference, plain.reference, rtol=1e-4, atol=1e-5)
    # What was taken comes back with the scale.
    torch.testing.assert_close(same.kspace * same.scale / cmath.rect(1e-6, phase), measured.kspace)


def test_prepared_images_have_no_mean_phase() -> None:
    ready = prepare(scan((32, 24), 3, seed=1), HOW.model_copy(update={"acceleration": 1.5}))
    image = combined(torch.where(ready.mask, ready.kspace, 0), coil_maps(ready))
    assert float((image * image.abs()).sum().angle()) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("lines", [0, 3, 33, 40])
@pytest.mark.parametrize("shape", [(40, 9), (41, 16), (1, 8), (8, 1)])
def test_combined_images_are_those_of_the_chosen_samples(lines: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(lines)
    kspace, maps = (
        torch.randn(*size, *shape, dtype=torch.complex64, generator=generator) for size in ((3,), (2, 3))
    )
    mask = torch.rand(shape, generator=generator) < 0.7
    mask[torch.randperm(shape[0], generator=generator)[lines:]] = False
    expected = (maps.conj() * ifft2c(torch.where(mask, kspace, 0))).sum(1)
    torch.testing.assert_close(combined(kspace, maps, mask), expected, rtol=1e-5, atol=2e-6)
    full = (maps.conj() * ifft2c(kspace)).sum(1)
    torch.testing.assert_close(combined(kspace, maps), full, rtol=1e-5, atol=2e-6)


def test_proxies_that_would_be_shown_whole_are_refused() -> None:
    full = [scan((32, 24), 2, seed=seed) for seed in range(2)]
    with pytest.raises(NorefError, match="shown whole, so nothing can be learned; say how to undersample"):
        Dataset(full, Preparation(), Role.PROXY).check_shown()
    Dataset(full, HOW, Role.PROXY).check_shown()
