from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from synthetic import image, maps, scan
from torch import Tensor

from noref.physics import cartesian
from noref.scan import Role, Scan, ScanBatch, bucket, coil_maps, padding_of

SHAPE = (12, 10)


def lines(*numbers: int) -> Tensor:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[list(numbers)] = True
    return mask


def complete() -> Scan:
    """A scan with every attribute set."""
    full = scan(SHAPE, 3, noise=0.1)
    return replace(
        full,
        mask=lines(1, 3, 5, 6, 8, 9),
        holdout=lines(3, 9),
        padding=lines(11),
        measured=~lines(11),
        calibration=torch.ones(3, 4, 4, dtype=torch.complex64),
        noise_cov=torch.eye(3, dtype=torch.complex64),
        density=torch.full(SHAPE, 0.5),
        reference=image(SHAPE),
        clean=full.kspace * 2,
        rss=torch.ones(8, 8),
    )


def test_a_target_is_omega_without_gamma_and_nothing_else() -> None:
    whole = complete()
    target = whole.as_target()
    allowed = lines(1, 5, 6, 8)
    assert torch.equal(whole.allowed, allowed)
    assert torch.equal(target.mask, allowed)
    assert torch.equal(target.measured, allowed)
    assert torch.equal(target.kspace[:, allowed], whole.kspace[:, allowed])
    assert not bool(target.kspace[:, ~allowed].any())
    assert target.holdout is target.reference is target.clean is target.rss is None
    assert target.maps is whole.maps
    assert target.padding is whole.padding
    assert torch.equal(target.as_target().kspace, target.kspace)


def test_no_hidden_value_is_left_anywhere_in_a_target() -> None:
    whole = complete()
    hidden = torch.full_like(whole.kspace, torch.nan)
    poisoned = replace(
        whole,
        kspace=torch.where(whole.allowed, whole.kspace, hidden),
        reference=torch.full_like(image(SHAPE), torch.nan),
        clean=hidden,
        rss=torch.full((8, 8), torch.nan),
    )
    first, second = whole.as_target(), poisoned.as_target()
    for attribute in fields(Scan):
        a, b = getattr(first, attribute.name), getattr(second, attribute.name)
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b, attribute.name


def test_undersampling_only_ever_takes_samples_away() -> None:
    whole = complete()
    less = whole.undersampled(lines(0, 1, 3, 4, 8))
    assert torch.equal(less.mask, lines(1, 3, 8))
    assert less.holdout is not None
    assert torch.equal(less.holdout, lines(3))
    assert not bool((less.measured & ~less.mask).any())
    assert not bool(less.kspace[:, ~less.mask].any())
    assert torch.equal(less.kspace[:, less.mask], whole.kspace[:, less.mask])


def test_frames_in_front_are_undersampled_each_by_its_own_mask() -> None:
    kspace = torch.randn(4, 3, *SHAPE, dtype=torch.complex64)
    mask = torch.rand(4, *SHAPE) < 0.5
    frames = Scan("s", kspace, torch.ones_like(mask), torch.ones_like(mask)).undersampled(mask)
    assert torch.equal(frames.kspace, kspace * mask[:, None])
    assert (frames.coils, frames.shape) == (3, SHAPE)


def test_scaling_divides_all_that_has_the_scanners_unit() -> None:
    whole = complete()
    scaled = whole.scaled(4.0).scaled(0.5)
    for name in ("kspace", "calibration", "reference", "clean"):
        torch.testing.assert_close(getattr(scaled, name), getattr(whole, name) / 2)
    assert scaled.noise_cov is not None
    torch.testing.assert_close(scaled.noise_cov, torch.eye(3, dtype=torch.complex64) / 4)
    assert scaled.scale == pytest.approx(2)
    for name in ("maps", "density", "rss", "mask", "holdout"):
        assert getattr(scaled, name) is getattr(whole, name)
    bare = scan(SHAPE, 1).scaled(2.0)
    assert bare.reference is bare.calibration is bare.clean is bare.noise_cov is None


def test_acceleration_counts_the_acs_and_no_padding() -> None:
    assert scan(SHAPE, 1).acceleration == 1
    half = scan(SHAPE, 1).undersampled(lines(0, 2, 4, 6, 8, 10))
    assert half.acceleration == pytest.approx(2)
    assert replace(half, padding=lines(9, 11)).acceleration == pytest.approx(10 / 6)
    assert complete().acceleration == pytest.approx(11 / 6)


def test_ids_name_the_subject_first() -> None:
    assert scan(SHAPE, 1, seed=4).subject == "subject4"
    assert replace(scan(SHAPE, 1), id="alone").subject == "alone"


def test_maps_of_one_coil_are_ones_and_of_many_must_be_there() -> None:
    one = coil_maps(scan(SHAPE, 1))
    assert one.shape == (1, 1, *SHAPE)
    assert torch.equal(one, torch.ones_like(one))
    assert torch.equal(coil_maps(scan(SHAPE, 3)), maps(SHAPE, 3))
    with pytest.raises(ValueError, match="3 coils but no maps"):
        coil_maps(scan(SHAPE, 3, keep_maps=False))


def test_batches_stack_scans_and_count_padding_as_measured() -> None:
    scans = [replace(scan(SHAPE, 3, seed, sets=2), padding=lines(0) if seed else None) for seed in range(2)]
    scans = [s.undersampled(lines(2, 5, 6)) for s in scans]
    batch = ScanBatch.of(scans)
    assert batch.ids == ("subject0/scan/0", "subject1/scan/0")
    assert batch.kspace.shape == (2, 3, *SHAPE)
    assert batch.maps.shape == (2, 2, 3, *SHAPE)
    assert torch.equal(batch.padding, torch.stack((lines(), lines(0))))
    assert torch.equal(batch.mask, torch.stack((lines(2, 5, 6),) * 2))
    assert torch.equal(batch.encoding().mask, torch.stack((lines(2, 5, 6), lines(0, 2, 5, 6))))
    assert torch.equal(batch.encoding(batch.mask & lines(5)).mask, torch.stack((lines(5), lines(0, 5))))
    x = torch.randn(2, 2, *SHAPE, dtype=torch.complex64)
    expected = cartesian(batch.encoding().mask, torch.stack([coil_maps(s) for s in scans])).forward(x)
    torch.testing.assert_close(batch.encoding().forward(x), expected)


def test_batches_move_as_a_whole() -> None:
    batch = ScanBatch.of([complete()]).to("meta")
    on_grid = ("ids", "trajectory", "weights")
    assert all(getattr(batch, f.name).is_meta for f in fields(ScanBatch) if f.name not in on_grid)
    assert batch.ids == ("subject0/scan/0",)


def test_what_can_be_stacked_has_one_bucket() -> None:
    assert bucket(scan(SHAPE, 3)) == bucket(scan(SHAPE, 3, seed=1)) == (1, 3, *SHAPE)
    assert bucket(scan(SHAPE, 3, sets=2)) == (2, 3, *SHAPE)
    assert bucket(scan(SHAPE, 1)) == (1, 1, *SHAPE)


def test_no_padding_is_padding_nowhere() -> None:
    assert not bool(padding_of(scan(SHAPE, 1)).any())
    assert torch.equal(padding_of(complete()), lines(11))


def test_roles_are_read_from_their_names() -> None:
    assert Role("target") is Role.TARGET
    assert Role("proxy") is Role.PROXY
