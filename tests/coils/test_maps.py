from __future__ import annotations

import itertools
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import sigpy.mri
import torch
from torch import Tensor

from noref import formats
from noref.cli.inspect import describe_folding
from noref.coils import SUSPECT, acs_maps, espirit, estimate_maps, folded
from noref.coils.espirit import noise_floor
from noref.data.noise import noise_power
from noref.data.simulate import simulate_scan
from noref.errors import NorefError
from noref.physics import crop_centre, fft2c, ifft2c
from noref.scan import Scan
from noref.seeding import Key

GENERATOR = "ismrmrd_generate_cartesian_shepp_logan"
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


def _share(scan: Scan) -> float:
    power, _ = noise_power(scan)
    assert power is not None
    return folded(scan, power.diag())


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "key", "axes"), MEASURED)
def test_a_field_of_view_too_small_for_the_head_is_noticed(
    real_data: Path, name: str, key: str | None, axes: str
) -> None:
    scan = formats.read(real_data / "multicoil" / name, key=key, axes=axes)[0]
    assert _share(scan) < 0.005
    assert not describe_folding(scan)
    lines = scan.shape[0]
    half, most = (_in_a_smaller_field(scan.kspace, int(share * lines)) for share in (0.5, 0.7))
    assert _share(half) > 0.3
    assert _share(most) > SUSPECT[0]
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


@pytest.mark.skipif(shutil.which(GENERATOR) is None, reason="ismrmrd-tools are not installed")
@pytest.mark.parametrize("noise", ["0.02", "0.05", "0.1", "0.2"])
@pytest.mark.parametrize("lines", ["16", "24"])
@pytest.mark.parametrize("coils", ["4", "8"])
@pytest.mark.parametrize("matrix", ["64", "128"])
def test_noise_is_not_taken_for_folding(
    tmp_path: Path, matrix: str, coils: str, lines: str, noise: str
) -> None:
    """The phantom lies in its field of view whatever noise is added, with noise scans (`-C`) and without."""
    for with_scans in (["-C"], []):
        options = ["-m", matrix, "-c", coils, "-a", "2", "-w", lines, "-n", noise, *with_scans]
        subprocess.run([GENERATOR, "-o", "a.h5", *options], cwd=tmp_path, check=True, capture_output=True)
        scan = formats.read(tmp_path / "a.h5")[0]
        assert (scan.noise_cov is not None) == bool(with_scans)
        assert not describe_folding(scan)
        (tmp_path / "a.h5").unlink()


@pytest.mark.parametrize("lines", [16, 24])
@pytest.mark.parametrize("coils", [4, 8])
@pytest.mark.parametrize("matrix", [64, 128])
def test_folding_is_found_in_noise(matrix: int, coils: int, lines: int) -> None:
    whole = simulate_scan(
        "brain", id="brain-0001/s/000", matrix=(matrix, matrix), coils=coils, noise_db=None, seed=0
    ).kspace
    tissue = ifft2c(whole).abs().square().sum(0)
    rms = float(tissue[tissue > 0.01 * tissue.max()].mean().sqrt())
    for share, decibels in itertools.product((1.0, 0.6), (25, 15)):
        sigma = rms * 10 ** (-decibels / 20)
        kspace = _in_a_smaller_field(whole, int(share * matrix)).kspace
        generator = torch.Generator().manual_seed(0)
        kspace = kspace + sigma * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
        mask = torch.zeros(kspace.shape[1:], dtype=torch.bool)
        mask[::2] = True
        crop_centre(mask.mT, (matrix, lines))[:] = True
        unknown = Scan(id="anna/t2/3", kspace=kspace, measured=mask, mask=mask).undersampled(mask)
        known = replace(unknown, noise_cov=sigma**2 * torch.eye(coils, dtype=kspace.dtype))
        for scan in (unknown, known):
            assert bool(describe_folding(scan)) == (share < 1), (share, decibels)


def test_the_noise_floor_is_where_kernels_of_noise_end() -> None:
    """Of any noise, correlated or not: a second draw hardly exceeds it, and no kernel of it is left."""
    mixing = torch.randn(6, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    for covariance in (4 * torch.eye(6, dtype=torch.complex64), mixing @ mixing.mH):
        floor = noise_floor((6, 24, 24), covariance, Key(0, "anna/t2/3", "floor"))
        other = noise_floor((6, 24, 24), covariance, Key(1, "anna/t2/3", "floor"))
        assert other == pytest.approx(floor, rel=0.1)
        double = noise_floor((6, 24, 24), 4 * covariance, Key(0, "anna/t2/3", "floor"))
        assert double == pytest.approx(2 * floor, rel=1e-4)
        noise = torch.randn(6, 24, 24, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))
        factor = torch.linalg.cholesky(covariance)
        noise = torch.einsum("cd,dyx->cyx", factor, noise)
        assert espirit(noise, (32, 32), sets=2).any()
        assert not espirit(noise, (32, 32), sets=2, floor=1.1 * floor).any()


def test_whether_it_is_folded_needs_coils_and_a_calibration_region() -> None:
    assert folded(_scan(24, coils=1), torch.eye(1)) == 0
    with pytest.raises(NorefError, match="too few to tell"):
        folded(_scan(8), torch.zeros(4, 4))
    with pytest.raises(NorefError, match="noise of 2 channels says nothing of 4 coils"):
        folded(_scan(24), torch.eye(2))
    spokes = simulate_scan(
        "phantom", id="a/b/000", matrix=(32, 32), coils=4, noise_db=None, seed=0, spokes=24
    )
    with pytest.raises(NorefError, match="off the Cartesian grid"):
        folded(spokes, torch.zeros(4, 4))
    assert not describe_folding(spokes)
