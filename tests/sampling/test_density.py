from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noref.sampling.centre import centre_block
from noref.sampling.density import CAP, inverse_density, sampling_density
from noref.sampling.masks import IN_POINTS, MASKS, acquisition_mask
from noref.seeding import Key


def lines_of_known_density(size: int, readout: int, count: int) -> tuple[Tensor, list[Tensor]]:
    """Every line drawn on its own with a Gaussian probability; eight lines in the centre always."""
    k = torch.arange(size) - size // 2
    density = 0.1 + 0.6 * torch.exp(-0.5 * (k / (size / 6)) ** 2)
    density[size // 2 - 4 : size // 2 + 4] = 1
    generator = torch.Generator().manual_seed(0)
    lines = torch.rand(count, size, generator=generator) < density
    return density, [line[:, None].expand(size, readout) for line in lines]


def test_a_known_density_of_lines_is_recovered() -> None:
    density, masks = lines_of_known_density(64, 12, 200)
    estimate = sampling_density(masks)
    assert estimate.dtype is torch.float32
    assert estimate.shape == (64, 12)
    assert torch.equal(estimate, estimate[:, :1].expand(64, 12))
    # The standard error of a share of 200 masks is below 0.036; smoothing may take its part.
    assert float((estimate[:, 0] - density).abs().max()) < 0.11
    assert float((estimate[:, 0] - density).abs().mean()) < 0.03


def test_a_known_density_of_points_is_recovered() -> None:
    shape = (40, 32)
    ky, kx = (torch.arange(n).sub(n // 2).div(n / 2) for n in shape)
    density = 0.1 + 0.5 * torch.exp(-2 * (ky[:, None] ** 2 + kx**2))
    density[centre_block(shape, 6, 6)] = 1
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(shape, generator=generator) < density for _ in range(200)]
    estimate = sampling_density(masks)
    assert float((estimate - density).abs().max()) < 0.14
    assert float((estimate / density).mean()) == pytest.approx(1, abs=0.02)


def test_few_masks_are_smoothed_until_they_say_something() -> None:
    density, masks = lines_of_known_density(64, 12, 30)
    estimate = sampling_density(masks)[:, 0]
    raw = torch.stack(masks).float().mean(0)[:, 0]
    assert float((estimate - density).square().mean()) < 0.5 * float((raw - density).square().mean())


@pytest.mark.parametrize("kind", sorted(IN_POINTS))
def test_rare_samples_at_the_border_do_not_blur_the_centre(kind: str) -> None:
    shape = (96, 80)
    masks = [acquisition_mask(kind, shape, 6, 6, Key(s, "s", "mask")) for s in range(400)]
    exact = torch.stack(masks).float().mean(0)
    ky, kx = (torch.arange(n).sub(n // 2).div(n / 2) for n in shape)
    near = (ky[:, None] ** 2 + kx**2 < 0.1) & (exact < 1)
    few = sampling_density(masks[:20])
    assert float((few / exact)[near].log().abs().mean()) < 0.2


@pytest.mark.parametrize("acceleration", [2, 4, 6])
def test_one_equispaced_mask_has_a_density_of_one_in_r(acceleration: int) -> None:
    lines = torch.zeros(192, dtype=torch.bool)
    lines[::acceleration] = True
    lines[86:107] = True
    estimate = sampling_density([lines[:, None].expand(192, 8)])[:, 0]
    assert torch.equal(estimate[86:107], torch.ones(21))
    outside = torch.cat((estimate[:86], estimate[107:]))
    torch.testing.assert_close(outside, torch.full((171,), 1 / acceleration), rtol=0.15, atol=0)


@pytest.mark.parametrize("kind", MASKS)
def test_the_acs_is_certain_and_all_else_a_probability(kind: str) -> None:
    shape = (48, 36)
    masks = [acquisition_mask(kind, shape, 4, 8, Key(s, "s", "mask")) for s in range(20)]
    estimate = sampling_density(masks)
    acs = centre_block(shape, 8, 8 if kind in IN_POINTS else 36)
    assert torch.equal(estimate[acs], torch.ones(int(acs.sum())))
    assert float(estimate.min()) >= 1 / CAP
    assert float(estimate[~acs].max()) < 1
    # Expected samples under the density are those that masks hold; windows spread a Gaussian's steep sides.
    within = 0.13 if kind.startswith("gaussian") else 0.07
    assert float(estimate.sum()) == pytest.approx(float(torch.stack(masks).float().mean(0).sum()), rel=within)


def test_the_inverse_is_capped() -> None:
    density = torch.tensor([1.0, 0.25, 1e-3])
    torch.testing.assert_close(inverse_density(density), torch.tensor([1.0, 4.0, CAP]))


def test_masks_without_any_sample_still_have_a_density() -> None:
    estimate = sampling_density([torch.zeros(6, 5, dtype=torch.bool)])
    torch.testing.assert_close(estimate, torch.full((6, 5), 1 / CAP))


@pytest.mark.parametrize("slices", [4, 31, 40, 200])
def test_slices_of_one_acquisition_are_one_draw(slices: int) -> None:
    mask = acquisition_mask("lines", (64, 12), 4, 6, Key(0, "s", "mask"))
    torch.testing.assert_close(sampling_density([mask] * slices, independent=1), sampling_density([mask]))


def test_padding_is_no_position_that_an_acquisition_missed() -> None:
    size, border = 96, 18
    inner = size - 2 * border
    padding = torch.ones(size, 8, dtype=torch.bool)
    padding[border:-border] = False
    masks, bare = [], []
    for number in range(10):
        inside = acquisition_mask("lines", (inner, 8), 4, 6, Key(number, "s", "mask"))
        bare.append(inside)
        masks.append(torch.zeros(size, 8, dtype=torch.bool))
        masks[-1][border:-border] = inside
    padded = sampling_density(masks, padding=padding)[border:-border]
    torch.testing.assert_close(padded, sampling_density(bare))


def test_only_the_calibration_block_of_points_is_certain() -> None:
    mask = acquisition_mask("random2d", (96, 80), 6, 12, Key(0, "s", "mask"))
    assert int((sampling_density([mask]) == 1).sum()) == 144
