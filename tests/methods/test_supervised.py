"""Supervised training on moved images, followed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from linear import key
from synthetic import image, scan, spokes, undersampled
from torch import Tensor

from noref.data.prepare import combined
from noref.errors import NorefError
from noref.methods import Supervised
from noref.methods.motion import draw_motion, move
from noref.physics.fourier import fft2c, ifft2c
from noref.scan import Role, Scan, coil_maps


def proxy(shape: tuple[int, int], coils: int, sets: int = 1, noise: Tensor | None = None) -> Scan:
    """A fully sampled scan of which a third is in Ω; its noise is known if given."""
    made = scan(shape, coils, 3, sets=sets, role=Role.PROXY)
    made = replace(made, reference=image(shape, sets, seed=3))
    if noise is not None:
        made = replace(made, clean=made.kspace, kspace=made.kspace + noise)
    mask = undersampled(made, "random2d", 3, 6, 3).mask
    return replace(made, mask=mask)


@pytest.mark.parametrize("shape", [(20, 20), (21, 17)])
@pytest.mark.parametrize(("coils", "sets"), [(1, 1), (3, 1), (3, 2)])
def test_object_and_coils_are_moved_and_scanned_with_the_mask_of_the_scan(
    shape: tuple[int, int], coils: int, sets: int
) -> None:
    given = proxy(shape, coils, sets)
    assert given.reference is not None
    (view,) = Supervised(augment=True).view(given, key())
    motion = draw_motion(shape, key().fold("move"))
    assert not torch.equal(motion.flatten(), torch.arange(motion.numel()))
    turned, seen = (of.flatten(-2)[..., motion] for of in (given.reference, coil_maps(given)))
    kspace = fft2c((seen * turned[:, None]).sum(0))
    assert torch.equal(view.shown, given.mask)
    torch.testing.assert_close(view.scan.kspace, kspace)
    torch.testing.assert_close(view.goal, kspace)
    assert view.image is not None
    torch.testing.assert_close(view.image, combined(kspace, seen), atol=1e-5, rtol=1e-5)
    if sets == 1:
        torch.testing.assert_close(view.image, turned, atol=1e-5, rtol=1e-5)
    assert torch.equal(coil_maps(view.scan), seen)


def test_every_epoch_moves_the_image_otherwise_and_the_same_epoch_alike() -> None:
    given, method = proxy((20, 20), 1), Supervised(augment=True)
    first, second, again = (method.view(given, key(epoch))[0].goal for epoch in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)


def test_what_is_moved_into_the_padding_is_neither_measured_nor_asked_for() -> None:
    full = proxy((20, 20), 3)
    padding = torch.zeros(20, 20, dtype=torch.bool)
    padding[:5] = True
    cut = replace(full.undersampled(~padding), padding=padding)
    cut = replace(cut, measured=~padding, kspace=torch.where(padding, 0, full.kspace))
    asked = False
    for epoch in range(6):
        (view,) = Supervised(augment=True).view(cut, key(epoch))
        assert not bool(view.scan.kspace[:, padding].any())
        assert not bool(view.goal[:, padding].any())
        assert view.image is not None
        torch.testing.assert_close(view.image, combined(view.goal, coil_maps(view.scan)))
        asked = asked or bool(view.goal.any())
    assert asked


def test_noise_moves_along_and_is_not_graded_where_it_is_known() -> None:
    noise = torch.randn(3, 20, 20, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    given = proxy((20, 20), 3, noise=noise)
    (view,) = Supervised(augment=True).view(given, key())
    (without,) = Supervised(augment=True).view(proxy((20, 20), 3), key())
    torch.testing.assert_close(view.goal, without.goal)
    there = ifft2c(view.scan.kspace - view.goal).abs().flatten(1).sort(1)[0]
    torch.testing.assert_close(there, ifft2c(noise).abs().flatten(1).sort(1)[0], atol=1e-5, rtol=1e-5)


def test_images_of_several_scans_are_moved_each_by_its_own() -> None:
    images = torch.stack([image((12, 10), 2, seed) for seed in (1, 2)])
    motions = torch.stack([draw_motion((12, 10), key(epoch)) for epoch in (1, 2)])
    together = move(images, motions)
    maps = torch.stack([images, 2 * images], 2)
    assert torch.equal(move(maps, motions)[:, :, 1], 2 * together)
    for one, motion, found in zip(images, motions, together, strict=True):
        assert torch.equal(found, move(one, motion))
        assert torch.equal(found[0].flatten().abs().sort()[0], one[0].flatten().abs().sort()[0])


def test_what_cannot_be_moved_is_refused() -> None:
    with pytest.raises(NorefError, match="off the Cartesian grid, where images cannot be moved"):
        Supervised(augment=True).view(replace(spokes(), reference=image((32, 24))), key())
    with pytest.raises(NorefError, match="no reference"):
        Supervised(augment=True).view(scan((20, 20), 1), key())
