from __future__ import annotations

from dataclasses import replace

import pytest
import sigpy.mri
import torch
from torch import Tensor

from noref.coils import acs_maps, espirit, estimate_maps
from noref.errors import NorefError
from noref.physics import crop_centre, fft2c
from noref.scan import Scan

SHAPE = (64, 80)


def _object(coils: int = 4) -> tuple[Tensor, Tensor]:
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((coils, *SHAPE))).to(torch.complex64)
    y, x = (torch.arange(n) / n - 0.5 for n in SHAPE)
    inside = (y[:, None] / 0.42) ** 2 + (x / 0.34) ** 2 < 1
    image = inside * torch.polar(1 + 0.5 * torch.cos(9 * x) * torch.sin(12 * y[:, None]), 2 * x + y[:, None])
    return maps * image, image


def _scan(lines: int, coils: int = 4) -> Scan:
    images, _ = _object(coils)
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[::4] = True
    centre = SHAPE[0] // 2
    mask[centre - lines // 2 : centre + (lines + 1) // 2] = True
    return Scan(id="anna/t2/3", kspace=torch.where(mask, fft2c(images), 0), measured=mask, mask=mask)


def _unexplained(maps: Tensor, images: Tensor) -> float:
    projected = maps[0] * (maps[0].conj() * images).sum(0)
    return float((projected - images).norm() / images.norm())


@pytest.mark.parametrize(("method", "limit"), [("espirit", 0.01), ("acs", 0.04)])
@pytest.mark.parametrize("lines", [16, 17, 24])
def test_maps_explain_the_coil_images_of_an_undersampled_scan(method: str, limit: float, lines: int) -> None:
    images, image = _object()
    maps = estimate_maps(_scan(lines), method)
    assert maps.shape == (1, 4, *SHAPE)
    assert maps.dtype == torch.complex64
    assert _unexplained(maps, images) < limit
    power = maps[0].abs().square().sum(0)[image.abs() > 0]
    assert torch.allclose(power, torch.ones_like(power), atol=1e-5)


@pytest.mark.parametrize("method", ["espirit", "acs"])
def test_nothing_outside_the_allowed_samples_is_read(method: str) -> None:
    scan = _scan(20)
    holdout = torch.zeros_like(scan.mask)
    holdout[22] = holdout[41] = True
    holdout &= scan.mask
    assert holdout[22].all()
    scan = replace(scan, holdout=holdout)
    spoilt = replace(scan, kspace=torch.where(scan.allowed, scan.kspace, complex("nan")))
    maps = estimate_maps(scan, method)
    assert torch.equal(estimate_maps(spoilt, method), maps)
    assert torch.isfinite(torch.view_as_real(maps)).all()


def test_a_separate_calibration_scan_needs_no_acs() -> None:
    images, _ = _object()
    scan = replace(_scan(0), calibration=crop_centre(fft2c(images), (24, 24)))
    assert torch.equal(estimate_maps(scan), espirit(scan.calibration, SHAPE))


def test_fewer_lines_are_made_up_for_by_a_longer_readout() -> None:
    scan = _scan(12)
    centre = crop_centre(scan.kspace, (12, 48))
    assert torch.equal(estimate_maps(scan), espirit(centre, SHAPE))


def test_one_coil_gets_ones_even_without_an_acs() -> None:
    scan = _scan(0, coils=1)
    assert torch.equal(estimate_maps(scan), torch.ones(1, 1, *SHAPE, dtype=torch.complex64))


def test_acs_maps_keep_the_phase_of_the_coil_images() -> None:
    images, image = _object()
    maps = acs_maps(crop_centre(fft2c(images), (48, 48)), SHAPE)
    inside = image.abs() > 0.8
    combined = (maps[0].conj() * images).sum(0)[inside]
    assert combined.angle().abs().median() < 0.05
    assert _unexplained(maps, images) < 0.03


def test_acs_maps_of_nothing_are_zero() -> None:
    assert not acs_maps(torch.zeros(2, 8, 8, dtype=torch.complex64), (16, 16)).any()


def test_too_few_lines_for_espirit_are_refused_in_one_line() -> None:
    with pytest.raises(
        NorefError, match=r"anna/t2/3: ESPIRiT needs 12 .* found 11 × 80; .*maps=acs.*refine_maps"
    ) as error:
        estimate_maps(_scan(11))
    assert "\n" not in str(error.value)
    assert estimate_maps(_scan(11), "acs").shape == (1, 4, *SHAPE)


def test_an_unsampled_centre_is_refused() -> None:
    scan = _scan(0)
    off = scan.mask.clone()
    off[SHAPE[0] // 2] = False
    scan = replace(scan, mask=off)
    for method in ("espirit", "acs"):
        with pytest.raises(NorefError, match="anna/t2/3"):
            estimate_maps(scan, method)


@pytest.mark.parametrize(("method", "coils", "sets"), [("acs", 4, 2), ("espirit", 1, 2), ("espirit", 4, 5)])
def test_more_sets_than_can_be_made_are_refused(method: str, coils: int, sets: int) -> None:
    with pytest.raises(NorefError, match=f"anna/t2/3: {sets} map sets"):
        estimate_maps(_scan(24, coils), method, sets)
