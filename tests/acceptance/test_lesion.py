"""Inserted lesions: laws that hold for every reconstruction, and reconstructions that are found out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from judging import adjoint, smoothing, target, truth, whole
from scipy import ndimage

from noref.acceptance.candidates import Made, by_classical
from noref.acceptance.lesion import (
    CONTRASTS,
    Lesion,
    contrast_map,
    lesions,
    patch,
    recovery,
    visibility,
    with_lesion,
)
from noref.data.shown import magnitude
from noref.scan import Header, Scan, encoding_of


def inserted(one: Scan, seed: int = 0, number: int = 4) -> list[Lesion]:
    return lesions(one, adjoint(one).image, number, seed)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("shape", [(64, 48), (63, 49)])
def test_a_perfect_reconstruction_gives_all_back(coils: int, shape: tuple[int, int]) -> None:
    one = whole(coils=coils, shape=shape)
    without = adjoint(one).image
    found = inserted(one)
    assert [lesion.contrast for lesion in found] == list(CONTRASTS)[: len(found)]
    assert len(found) >= 2
    for lesion in found:
        given, _ = recovery(adjoint, one, lesion, without)
        assert given.contrast == pytest.approx(1, abs=0.01)
        assert given.width == pytest.approx(1, abs=0.01)
        assert given.leakage < 1e-4


def test_blur_shows_in_contrast_and_width() -> None:
    one = whole()
    blurred = smoothing(adjoint, 3.0)
    for lesion in inserted(one):
        given, _ = recovery(blurred, one, lesion, blurred(one).image)
        assert given.contrast < 0.4
        assert given.width is not None
        assert given.width > 1.3


def test_what_removes_small_structure_gives_nothing_back() -> None:
    """A median filter keeps edges and large objects, and would look fine."""
    one = whole()

    def tidy(scan: Scan) -> Made:
        made = adjoint(scan)
        parts = [ndimage.median_filter(p.numpy(), (1, 9, 9)) for p in (made.image.real, made.image.imag)]
        return replace(made, image=torch.complex(*map(torch.from_numpy, parts)))

    given = [recovery(tidy, one, lesion, tidy(one).image)[0].contrast for lesion in inserted(one)]
    assert max(given) < 0.8
    assert sum(given) / len(given) < 0.5


def test_what_puts_lesions_elsewhere_leaks() -> None:
    one = whole()

    def displaced(scan: Scan) -> Made:
        made = adjoint(scan)
        return replace(made, image=made.image.roll(20, -2))

    for lesion in inserted(one):
        given, _ = recovery(displaced, one, lesion, displaced(one).image)
        assert given.leakage > 0.8
        assert abs(given.contrast) < 0.2


@pytest.mark.parametrize("sets", [1, 2])
def test_the_scan_is_what_the_object_with_the_lesion_would_have_given(sets: int) -> None:
    one = target(sets=sets, noise=0.0)
    (lesion, *_) = lesions(one, truth(sets=sets), 1, 0)
    object_ = truth(sets=sets) + lesion.image
    expected = torch.where(one.mask, encoding_of(one, one.mask).forward(object_[None])[0], 0)
    torch.testing.assert_close(with_lesion(one, lesion).kspace, expected, rtol=1e-4, atol=1e-5)
    assert with_lesion(one, lesion).mask.equal(one.mask)


def test_places_are_drawn_by_scan_and_seed_apart_and_inside_the_object() -> None:
    one = whole(shape=(96, 96))
    places = [lesion.place for lesion in inserted(one, number=6)]
    assert places == [lesion.place for lesion in inserted(one, number=6)]
    assert places != [lesion.place for lesion in inserted(one, seed=1, number=6)]
    assert places != [lesion.place for lesion in inserted(replace(one, id="another/scan/0"), number=6)]
    for index, (y, x) in enumerate(places):
        assert float(magnitude(truth(shape=(96, 96)))[y, x]) > 0.05
        for other in places[:index]:
            assert np.hypot(y - other[0], x - other[1]) > 8


def test_lesions_stay_in_the_clinical_field_of_view() -> None:
    one = replace(whole(shape=(64, 96)), header=Header(crop=(64, 32)))
    columns = [lesion.place[1] for seed in range(5) for lesion in inserted(one, seed)]
    assert columns
    assert min(columns) >= 32
    assert max(columns) < 64


def test_their_size_is_in_millimetres_where_these_are_known() -> None:
    one = replace(whole(), header=Header(spacing=(0.5, 1.0, 5.0)))
    (lesion, *_) = inserted(one, number=1)
    # 4 mm, and 4 of the larger pixels.
    assert lesion.radius == (4.0, 2.0)
    assert inserted(whole(), number=1)[0].radius == (2.5, 2.5)


def test_an_object_without_room_gets_none() -> None:
    one = whole(shape=(16, 16))
    dot = torch.zeros(1, 16, 16, dtype=torch.complex64)
    dot[0, 8, 8] = 1
    assert lesions(one, dot, 4, 0) == []
    assert lesions(one, torch.zeros_like(dot), 4, 0) == []


def test_contrast_is_that_beside_the_object() -> None:
    one = whole()
    (lesion, *_) = inserted(one, number=1)
    around = patch(contrast_map(lesion.image, lesion), lesion)
    centre = contrast_map(lesion.image, lesion)[lesion.place]
    assert centre == pytest.approx(CONTRASTS[0], rel=1e-5)
    assert around.shape == (21, 21)


def test_visibility_falls_with_noise_and_grows_with_samples() -> None:
    quiet, noisy = whole(noise=0.05), whole(noise=0.5)
    (lesion, *_) = inserted(quiet, number=1)
    seen = visibility(quiet, lesion)
    assert seen is not None
    assert visibility(noisy, lesion) == pytest.approx(seen / 10, rel=1e-4)
    half = quiet.undersampled(torch.rand(quiet.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    less = visibility(half, lesion)
    assert less is not None
    assert 0.4 * seen < less < 0.95 * seen
    energy = float(lesion.image.abs().square().sum())
    assert seen == pytest.approx((2 * energy) ** 0.5 / 0.05, rel=1e-4)


def test_classical_methods_keep_their_settings_for_the_lesion() -> None:
    """Or else the difference would be that of two strengths."""
    one = target(noise=0.1)
    applied = by_classical("cg-sense")(one)
    (lesion, *_) = lesions(one, applied(one).image, 1, 0)
    doubled = replace(lesion, contrast=2 * lesion.contrast)
    once, twice = (
        recovery(applied, one, which, applied(one).image)[0].contrast for which in (lesion, doubled)
    )
    assert once == pytest.approx(twice, rel=0.02)
