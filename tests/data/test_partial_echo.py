"""The read-outs of partial echoes are cut: what is kept is what the full echo would have given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noref import formats
from noref.data.oversampling import without_oversampling
from noref.data.partial_echo import NOISE_ERROR, SIGNAL_ERROR, cut_partial, cut_weights
from noref.data.prepare import fully_sampled
from noref.data.recognised import recognised
from noref.errors import NorefError
from noref.physics import crop_centre, fft1c, fft2c, ifft1c, ifft2c, pad_centre
from noref.scan import Header, Scan

SIZES = [(96, 48), (97, 48), (96, 47), (81, 41), (128, 96), (100, 67)]


def oversampled(shape: tuple[int, int], before: int, coils: int = 2) -> Scan:
    """A noiseless scan of an object that fills no more than the centre of its read-out."""
    full = torch.ones(shape[0], before, dtype=torch.bool)
    kspace = fft2c(pad_centre(ifft2c(synthetic.scan(shape, coils).kspace), (shape[0], before)))
    return Scan("a/b/000", kspace, full, full, header=Header(crop=shape))


def echo(scan: Scan, first: int, last: int | None = None) -> Scan:
    """With the samples from `first` up to `last` of every read-out."""
    mask = torch.zeros_like(scan.mask)
    mask[:, first:last] = True
    return scan.undersampled(mask)


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("share", [0.05, 0.25, 0.4])
def test_the_weights_keep_their_promises(before: int, after: int, share: float) -> None:
    first = round(share * before)
    weights, good = cut_weights(before, after, first, before)
    whole = fft1c(crop_centre(ifft1c(torch.eye(before) + 0j), (before, after))).mT
    signal = (weights @ whole[:, first:].mH - torch.eye(after)[good]).abs().square().sum(-1).sqrt()
    assert float(signal.max()) <= SIGNAL_ERROR + 1e-5
    noise = weights @ weights.mH - torch.eye(len(weights))
    assert float(noise.abs().max()) <= NOISE_ERROR + 1e-5, "power and correlation of white noise"
    # No more than a few samples are lost, next to the end of the echo and at the other end.
    kept = good.nonzero().flatten().tolist()
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert kept[0] <= math.ceil((first - before // 2) * after / before) + after // 2 + 9
    assert kept[-1] >= after - 10


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_the_weights_of_the_full_echo_are_its_cut(before: int, after: int) -> None:
    weights, good = cut_weights(before, after, 0, before)
    assert good.all()
    kspace = torch.randn(3, 5, before, dtype=torch.complex64)
    expected = fft1c(crop_centre(ifft1c(kspace), (5, after)))
    torch.testing.assert_close(kspace @ weights.mT, expected, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=30)
@given(
    after=st.integers(40, 60),
    more=st.integers(16, 70),
    share=st.floats(0.02, 0.3),
    coils=st.integers(1, 4),
    late=st.booleans(),
)
def test_what_is_kept_is_of_the_full_echo(
    after: int, more: int, share: float, coils: int, late: bool
) -> None:
    before = after + more
    scan = oversampled((9, after), before, coils)
    missing = max(round(share * before), 1)
    partial = echo(scan, 0, before - missing) if late else echo(scan, missing)
    whole, cut = without_oversampling(scan), without_oversampling(partial)
    assert cut.shape == whole.shape
    assert cut.header.crop is None
    assert torch.equal(cut.mask, cut.measured)
    assert bool(cut.mask[:, after // 2].all())
    assert not cut.kspace[:, ~cut.measured].any()
    error = torch.where(cut.measured, cut.kspace - whole.kspace, 0)
    kept = torch.where(cut.measured, whole.kspace, 0)
    assert float(error.norm()) < 0.01 * float(kept.norm())
    # In the image, of which the last pixels on either side may differ most.
    difference = ifft2c(error).abs()[..., 2:-2]
    assert float(difference.max()) < 0.02 * float(ifft2c(kept).abs().max())


def test_noise_stays_white() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4000, 96, dtype=torch.complex64, generator=generator)
    full = torch.ones(4000, 96, dtype=torch.bool)
    scan = echo(Scan("a/b/0", noise, full, full, header=Header(crop=(4000, 48))), 24)
    cut = without_oversampling(scan)
    samples = cut.kspace[0][:, cut.measured[0]]
    covariance = samples.mH @ samples / len(samples)
    torch.testing.assert_close(covariance, torch.eye(len(covariance)) + 0j, atol=0.1, rtol=0)
    assert float(samples.abs().square().mean()) == pytest.approx(1, abs=0.02)


def test_whole_and_partial_lines_stand_side_by_side() -> None:
    scan = oversampled((12, 48), 96)
    mask = torch.ones_like(scan.mask)
    mask[::3], mask[1::3, :30], mask[2::3, 70:] = True, False, False
    mask[4:6] = False
    cut = without_oversampling(scan.undersampled(mask))
    whole = without_oversampling(scan)
    assert cut.measured[::3].all()
    torch.testing.assert_close(cut.kspace[:, ::3], whole.kspace[:, ::3])
    assert not cut.measured[4:6].any()
    for row, first, last in ((1, 30, 96), (2, 0, 70)):
        assert torch.equal(cut.measured[row], cut_weights(96, 48, first, last)[1])
    assert not torch.equal(cut.measured[1], cut.measured[2])


def test_what_is_held_out_stays_so() -> None:
    scan = echo(oversampled((12, 48), 96), 24)
    lines = torch.zeros_like(scan.mask)
    lines[::2] = True
    shown = replace(scan, mask=scan.mask & lines)
    cut = without_oversampling(replace(shown, holdout=shown.mask & (torch.arange(12) == 4)[:, None]))
    assert cut.holdout is not None
    assert torch.equal(cut.mask.any(1), lines[:, 0])
    assert cut.holdout.any(1).nonzero().flatten().tolist() == [4]
    for mask in (cut.mask, cut.holdout):
        assert torch.equal(mask, mask.any(-1, keepdim=True) & cut.measured)
    kspace = scan.kspace.clone()
    kspace[:, 4] = 0
    without = without_oversampling(replace(shown, kspace=kspace))
    others = torch.arange(12) != 4
    assert torch.equal(without.kspace[:, others], cut.kspace[:, others])


def padded(scan: Scan, ends: int) -> Scan:
    """With zeros around the read-outs, as an interpolation puts them there."""
    padding = torch.zeros_like(scan.mask)
    padding[:, :ends] = padding[:, -ends:] = True
    return replace(scan.undersampled(~padding), padding=padding)


def test_zeros_around_read_outs_stay_known() -> None:
    scan = padded(oversampled((12, 64), 128), 20)
    assert fully_sampled(scan)
    cut = without_oversampling(scan)
    assert cut.padding is not None
    assert torch.equal(cut.padding, ~cut.measured)
    assert int(cut.measured[0].sum()) >= 44 - 16
    assert cut.padding[:, :10].all()
    assert cut.padding[:, -10:].all()
    lines = (torch.arange(12) % 2 == 0)[:, None]
    some = without_oversampling(scan.undersampled(lines & scan.mask))
    assert torch.equal(some.padding, cut.padding), "of lines that were not measured, too"
    assert torch.equal(some.mask, cut.mask & lines)
    # Of a partial echo beside them, what was not measured is none.
    partial = without_oversampling(echo(scan, 40))
    assert partial.padding is not None
    between = ~partial.measured & ~partial.padding
    assert between[:, 12:20].all()
    assert partial.padding[:, :9].all()
    assert partial.padding[:, -10:].all()


def test_a_partial_echo_is_still_recognised() -> None:
    scan = echo(oversampled((32, 64), 128), 32)
    assert recognised(scan) == recognised(without_oversampling(scan)) == ["partial echo"]


def with_hole(scan: Scan) -> Scan:
    mask = torch.ones_like(scan.mask)
    mask[3, 50:52] = False
    return scan.undersampled(mask)


def shown_in_part(scan: Scan) -> Scan:
    mask = scan.mask.clone()
    mask[3, :20] = False
    return replace(scan, mask=mask)


@pytest.mark.parametrize("made", [with_hole, shown_in_part])
def test_points_are_refused_in_one_line(made: Callable[[Scan], Scan]) -> None:
    with pytest.raises(NorefError, match=r"a/b/000: points along the read-out .*set oversampling=keep"):
        without_oversampling(made(oversampled((12, 48), 96)))


def test_an_echo_that_hardly_reaches_the_centre_is_refused_in_one_line() -> None:
    with pytest.raises(NorefError, match=r"a/b/000: too little of the echo .*set oversampling=keep"):
        without_oversampling(echo(oversampled((12, 48), 96), 46))


def cut_of(kspace: Tensor) -> Tensor:
    """Half of the read-out's field of view, as if all had been measured."""
    return fft1c(crop_centre(ifft1c(kspace), (kspace.shape[-2], kspace.shape[-1] // 2)))


@pytest.mark.real_data
@pytest.mark.parametrize("share", [0.125, 0.25, 0.375])
def test_real_echoes(real_data: Path, share: float) -> None:
    """A phantom whose read-outs were sampled twice as densely, with the noise that lies outside."""
    scan = formats.read(real_data / "twix" / "gre_2ch_phantom.dat")[0]
    first = round(share * scan.shape[1])
    cut, whole = without_oversampling(echo(scan, first)), without_oversampling(scan)
    error = (cut.kspace - whole.kspace)[:, cut.measured]
    noise = float(whole.kspace[:, :8, -20:].abs().square().mean().sqrt())
    assert float(error.abs().square().mean().sqrt()) < 0.12 * noise
    by_sample = (cut.kspace - whole.kspace).abs().square().mean((0, 1)).sqrt()
    assert float(by_sample[cut.measured[0]].max()) < 0.3 * noise
    assert int(cut.measured[0].sum()) >= round((1 - share) * 160) - 10
    # Zeros in its place would be in error by as much, next to the end, and more where the signal is.
    filled = cut_of(echo(scan, first).kspace)
    lost = round(share * 160)
    assert float((filled - whole.kspace)[..., lost].abs().square().mean().sqrt()) > 0.4 * noise


@pytest.mark.real_data
def test_real_heads(real_data: Path) -> None:
    """Sixteen coils, in air that holds no noise: what is left is the error of the signal."""
    (path,) = (real_data / "multicoil").glob("mchiew_brain_16ch_full_96*")
    head = formats.read(path, axes="kx,ky,-,coils")[0]
    wide = fft2c(pad_centre(ifft2c(head.kspace), (96, 192)))
    full = torch.ones(96, 192, dtype=torch.bool)
    scan = Scan("a/b/0", wide, full, full, header=Header(crop=(96, 96)))
    for first in (24, 48, 72):
        cut = without_oversampling(echo(scan, first))
        error = torch.where(cut.measured, cut.kspace - head.kspace, 0).abs().square().sum((0, 1)).sqrt()
        held = head.kspace.abs().square().sum((0, 1)).sqrt()
        assert float((error / held)[cut.measured[0]].max()) < 0.02
        assert float(error.norm()) < 0.0015 * float(held.norm())
        zeros = (cut_of(echo(scan, first).kspace) - head.kspace).abs().square().sum((0, 1)).sqrt()
        assert float(zeros[cut.measured[0]].norm()) > 4 * float(error.norm())


def test_one_line_of_one_coil() -> None:
    kspace, measured = torch.randn(1, 1, 64, dtype=torch.complex64), torch.zeros(1, 64, dtype=torch.bool)
    measured[:, 8:] = True
    cut, kept, padding = cut_partial(kspace, measured, torch.zeros_like(measured), 32)
    assert cut.shape == (1, 1, 32)
    assert torch.equal(kept[0], cut_weights(64, 32, 8, 64)[1])
    assert not padding.any()
