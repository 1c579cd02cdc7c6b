"""Cutting the read-out's oversampling leaves the image as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import synthetic
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noref.coils.maps import estimate_maps
from noref.data.oversampling import without_oversampling
from noref.physics import crop_centre, fft1c, fft2c, ifft1c, ifft2c, pad_centre
from noref.scan import Header, Scan


def oversampled(lines: int, readout: int, kept: int, coils: int = 2) -> Scan:
    """A scan of an object that fills no more than the centre of its read-out, with all that goes along."""
    inside = synthetic.scan((lines, kept), coils)
    full = torch.ones(lines, readout, dtype=torch.bool)
    kspace = fft2c(pad_centre(ifft2c(inside.kspace), (lines, readout)))
    return Scan("a/b/000", kspace, full, full, clean=2 * kspace, header=Header(crop=(lines, kept)))


@settings(deadline=None, max_examples=30)
@given(lines=st.integers(5, 16), kept=st.integers(3, 16), more=st.integers(1, 17), coils=st.integers(1, 3))
def test_the_image_is_its_own_centre(lines: int, kept: int, more: int, coils: int) -> None:
    scan = oversampled(lines, kept + more, kept, coils)
    cut = without_oversampling(scan)
    assert cut.shape == (lines, kept)
    assert cut.header.crop is None
    torch.testing.assert_close(ifft2c(cut.kspace), crop_centre(ifft2c(scan.kspace), (lines, kept)))
    # Of whole echoes no number depends on what is done for partial ones.
    assert torch.equal(cut.kspace, fft1c(crop_centre(ifft1c(scan.kspace), (lines, kept))))
    assert cut.clean is not None
    torch.testing.assert_close(cut.clean, 2 * cut.kspace)
    # Nothing lay outside.
    energy = float(scan.kspace.abs().square().sum())
    assert float(cut.kspace.abs().square().sum()) == pytest.approx(energy, rel=1e-4)


def test_what_was_not_measured_stays_away() -> None:
    scan = oversampled(16, 24, 12)
    lines = torch.zeros_like(scan.mask)
    lines[::3] = lines[6:10] = True
    padding = torch.zeros_like(scan.mask)
    padding[:2] = True
    scan = replace(scan.undersampled(lines & ~padding), padding=padding, holdout=lines & ~padding)
    cut = without_oversampling(scan)
    for name in ("measured", "mask", "padding", "holdout"):
        before, after = getattr(scan, name), getattr(cut, name)
        assert torch.equal(after, before[:, :12]), name
    assert not cut.kspace[:, ~cut.measured].any()
    assert cut.kspace[:, cut.measured].all()
    assert without_oversampling(cut) is cut


def test_calibration_and_maps_keep_their_field_of_view() -> None:
    scan = oversampled(40, 96, 48)
    block = scan.kspace[:, 8:32, 24:72]
    cut = without_oversampling(replace(scan, calibration=block, maps=estimate_maps(scan)))
    assert cut.calibration is not None
    assert cut.calibration.shape == (2, 24, 24)
    whole = without_oversampling(scan).kspace[:, 8:32, 12:36]
    # The block's ends lack their neighbours.
    torch.testing.assert_close(
        cut.calibration[..., 4:20], whole[..., 4:20], rtol=0, atol=0.02 * float(whole.abs().max())
    )
    assert cut.maps is not None
    assert torch.equal(cut.maps, crop_centre(estimate_maps(scan), (40, 48)))


def test_noise_keeps_its_power() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 60, 120, dtype=torch.complex64, generator=generator)
    full = torch.ones(60, 120, dtype=torch.bool)
    cut = without_oversampling(Scan("a/b/0", noise, full, full, header=Header(crop=(60, 60))))
    assert float(cut.kspace.abs().square().mean()) == pytest.approx(1, abs=0.05)


def test_nothing_is_cut_without_a_crop() -> None:
    scan = replace(oversampled(8, 12, 6), header=Header())
    assert without_oversampling(scan) is scan
