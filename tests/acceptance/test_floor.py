"""The noise floor of Γ: what the truth scores, whatever coils, matrix and sampling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from judging import target, truth
from synthetic import scan, spokes

from noref.acceptance.candidates import by_classical, gamma
from noref.acceptance.floor import noise_floor
from noref.api import dataset
from noref.config import Source
from noref.data.noise import air_power, border_power, noise_power
from noref.data.prepare import Preparation, prepare
from noref.errors import NorefError
from noref.sampling.holdout import holdout_error
from noref.scan import Role


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize(
    ("shape", "kind"), [((128, 96), "random2d"), ((127, 95), "random2d"), ((128, 96), "lines")]
)
def test_the_truth_scores_the_floor(coils: int, shape: tuple[int, int], kind: str) -> None:
    pairs = []
    for seed in range(4):
        one = target(seed, shape=shape, coils=coils, noise=0.2, kind=kind)
        floor = noise_floor(one)
        assert floor.source == "noise scans"
        assert floor.value is not None
        pairs.append((holdout_error(one, truth(seed, shape)), floor.value))
    scored, expected = (sum(values) for values in zip(*pairs, strict=True))
    assert scored == pytest.approx(expected, rel=0.05)


def test_without_noise_scans_the_floor_is_about_right_and_no_method_gets_below() -> None:
    for seed in range(3):
        one = target(seed, shape=(128, 96), noise=0.2, told=False)
        floor = noise_floor(one)
        assert floor.source in ("corners", "border", "air")
        assert floor.value is not None
        assert holdout_error(one, truth(seed, (128, 96))) == pytest.approx(floor.value, rel=0.15)
        for name in ("zero-filled", "cg-sense", "wavelet"):
            assert gamma(by_classical(name)(one), one) > 0.9 * floor.value


def test_the_floor_holds_off_the_grid() -> None:
    shape, noise = (48, 48), 0.05
    pairs = []
    for seed in range(3):
        raw = spokes(shape, 3, seed, number=40, noise=noise)
        one = prepare(raw, Preparation(holdout=0.2, seed=seed))
        one = replace(one, noise_cov=(noise / abs(one.scale)) ** 2 * torch.eye(3, dtype=torch.complex64))
        floor = noise_floor(one).value
        assert floor is not None
        perfect = truth(seed, shape) / one.scale
        pairs.append((holdout_error(one, perfect), floor))
    scored, expected = (sum(values) for values in zip(*pairs, strict=True))
    assert scored == pytest.approx(expected, rel=0.15)


def test_air_tells_the_noise_where_signal_reaches_the_border() -> None:
    """A small matrix: its corners hold more signal than noise."""
    noise = 0.01
    sharp = scan((48, 48), 3, 1, noise=noise)
    kspace = sharp.kspace.clone()
    # What a low resolution leaves at the border.
    kspace[:, :8] *= 20
    kspace[:, -8:] *= 20
    disturbed = replace(sharp, kspace=kspace)
    border, air = border_power(disturbed)[0], air_power(sharp)
    assert border is not None
    assert air is not None
    assert float(border.sum()) > 10 * 3 * noise**2
    assert float(air.sum()) == pytest.approx(3 * noise**2, rel=0.5)
    assert noise_power(sharp)[1] in ("air", "corners")


def test_noise_scans_go_before_anything_else() -> None:
    one = replace(scan((32, 32), 2, 0), noise_cov=torch.diag(torch.tensor([4.0, 9.0])).to(torch.complex64))
    power, source = noise_power(one)
    assert source == "noise scans"
    assert power is not None
    torch.testing.assert_close(power, torch.tensor([4.0, 9.0]))


def test_a_scan_without_gamma_has_no_floor() -> None:
    with pytest.raises(NorefError, match="set holdout above 0"):
        noise_floor(scan((32, 32), 2, 0))


def test_what_cannot_be_known_is_not_guessed() -> None:
    one = target(shape=(32, 32), coils=1, told=False, acceleration=8.0, share=0.3)
    inner = torch.zeros_like(one.mask)
    inner[13:19, 13:19] = True
    one = replace(one, measured=inner, mask=inner, holdout=inner & one.mask)
    assert noise_floor(one).value is None
    assert "too little" in noise_floor(one).source


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "settings", "least", "most"),
    [
        ("bart_picsbrain_8ch_poisson_undersampled.cfl", {}, 1.0, 2.0),
        # So coarse that its border holds 70 times the noise.
        (
            "mchiew_brain_16ch_full_96.mat",
            {"axes": "ky,kx,-,coils", "mask": "lines", "acceleration": 3, "acs": 16},
            3.0,
            30.0,
        ),
    ],
)
def test_real_scans_lie_above_their_floor(
    real_data: Path, name: str, settings: dict[str, Any], least: float, most: float
) -> None:
    source = Source(path=str(real_data / "multicoil" / name), **settings)
    one = dataset(source, Role.TARGET).scan(0)
    # As if no more had ever been measured.
    one = replace(one.undersampled(one.mask), reference=None)
    floor = noise_floor(one).value
    assert floor is not None
    assert least < gamma(by_classical("wavelet")(one), one) / floor < most
