from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sigpy.mri
import torch
from torch import Tensor

from noref import formats
from noref.cli.inspect import describe_folding
from noref.coils import SUSPECT, acs_maps, espirit, estimate_maps, folded
from noref.errors import NorefError
from noref.physics import crop_centre, fft2c, ifft2c
from noref.scan import Scan

SHAPE = (64, 80)
MEASURED = [
    ("mchiew_brain_16ch_full_96.mat", None, "ky,kx,-,coils"),
    ("loraks_mprage_4ch_full.mat", "kData", "ky,kx,coils"),
]


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


def _in_a_smaller_field(kspace: Tensor, lines: int) -> Scan:
    """What the scanner measures when only so many central lines of the image are its field of view."""
    images, before = ifft2c(kspace), (kspace.shape[-2] - lines) // 2
    inside = images[:, before : before + lines].clone()
    inside[:, lines - before :] += images[:, :before]
    after = images[:, before + lines :]
    inside[:, : after.shape[1]] += after
    mask = torch.ones(inside.shape[1:], dtype=torch.bool)
    return Scan(id="anna/t2/3", kspace=fft2c(inside), measured=mask, mask=mask)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "key", "axes"), MEASURED)
def test_a_field_of_view_too_small_for_the_head_is_noticed(
    real_data: Path, name: str, key: str | None, axes: str
) -> None:
    scan = formats.read(real_data / "multicoil" / name, key=key, axes=axes)[0]
    assert folded(scan) < 0.005
    assert not describe_folding(scan)
    lines = scan.shape[0]
    half, most = (_in_a_smaller_field(scan.kspace, int(share * lines)) for share in (0.5, 0.7))
    assert folded(half) > 0.3
    assert folded(most) > SUSPECT[0]
    for small in (half, most):
        assert "sets=2" in describe_folding(small)["field of view"]


@pytest.mark.real_data
def test_two_map_sets_explain_what_is_folded(real_data: Path) -> None:
    """What one set leaves unexplained of the coil images, two do not."""
    name, key, axes = MEASURED[0]
    whole = formats.read(real_data / "multicoil" / name, key=key, axes=axes)[0]
    scan = _in_a_smaller_field(whole.kspace, whole.shape[0] // 2)
    left = []
    for sets in (1, 2):
        images, maps = ifft2c(scan.kspace), estimate_maps(scan, sets=sets)
        there = maps.abs().sum((0, 1)) > 0
        combined = torch.einsum("scyx,cyx->syx", maps.conj(), images)
        rest = images - torch.einsum("scyx,syx->cyx", maps, combined)
        left.append(float(rest[:, there].norm() / images[:, there].norm()))
    assert left[1] < 0.5 * left[0]


def test_whether_it_is_folded_needs_coils_and_a_calibration_region() -> None:
    assert folded(_scan(24, coils=1)) == 0
    with pytest.raises(NorefError, match="too few to tell"):
        folded(_scan(8))
