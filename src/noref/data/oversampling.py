"""Cutting off what a read-out was sampled too densely for: air beside the image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noref.data.partial_echo import cut_partial
from noref.errors import NorefError
from noref.physics import constant_along_readout, crop_centre, fft1c, ifft1c, pad_centre
from noref.scan import Scan, padding_of


def without_oversampling(scan: Scan) -> Scan:
    """The scan with the read-out's field of view cut to the clinical one, `header.crop`.

    The inverse FFT along the read-out, its centre, and the FFT back: pixels and the noise of a sample keep
    their values. As it is without a crop, and off the Cartesian grid. Of partial echoes, and of those with
    zeros around them, see `cut_weights`: the few samples next to the end that it cannot tell are not measured
    any more, or zeros as those beyond are.

    Raises:
        NorefError: if points of read-outs were sampled, or too little of them to be cut.
    """
    crop = scan.header.crop
    if crop is None or crop[1] >= scan.shape[1] or scan.trajectory is not None:
        return scan
    ky, before = scan.shape
    kx = crop[1]
    whole = all(constant_along_readout(mask) for mask in (scan.measured, scan.mask))
    calibration = scan.calibration
    if calibration is not None:
        lines, samples = calibration.shape[-2:]
        wide = _cut(pad_centre(calibration, (lines, max(samples, before))), kx)
        calibration = crop_centre(wide, (lines, max(samples * kx // before, 1)))
    return replace(
        _whole_lines(scan, kx) if whole else _parts_of_lines(scan, kx),
        maps=None if scan.maps is None else crop_centre(scan.maps, (ky, kx)).contiguous(),
        calibration=calibration,
        clean=None if scan.clean is None else _cut(scan.clean, kx),
        reference=None if scan.reference is None else crop_centre(scan.reference, (ky, kx)).contiguous(),
        header=replace(scan.header, crop=None if crop == (ky, kx) else crop),
    )


def _cut(kspace: Tensor, kx: int) -> Tensor:
    return fft1c(crop_centre(ifft1c(kspace), (kspace.shape[-2], kx)))


def _whole_lines(scan: Scan, kx: int) -> Scan:
    """With k-space and masks of whole read-outs cut."""
    return replace(
        scan,
        # Zeros stay zeros: lines that were not measured are known by them.
        kspace=torch.where(scan.measured[:, :kx], _cut(scan.kspace, kx), 0),
        measured=scan.measured[:, :kx].clone(),
        mask=scan.mask[:, :kx].clone(),
        holdout=None if scan.holdout is None else scan.holdout[:, :kx].clone(),
        padding=None if scan.padding is None else scan.padding[:, :kx].clone(),
    )


def _parts_of_lines(scan: Scan, kx: int) -> Scan:
    """With k-space and masks of partial echoes cut, and of zeros around them."""
    for mask in (scan.mask, scan.holdout):
        # A sample of the cut read-out is made of all that was measured of it.
        if mask is not None and not torch.equal(mask, mask.any(-1, keepdim=True) & scan.measured):
            raise NorefError(_points(scan))
    try:
        kspace, measured, padding = cut_partial(scan.kspace, scan.measured, padding_of(scan), kx)
    except ValueError:
        raise NorefError(_points(scan)) from None
    if not measured[:, kx // 2].any():
        raise NorefError(
            f"{scan.id}: too little of the echo was measured for its read-outs of {scan.shape[1]} samples to "
            f"be cut to {kx}; set oversampling=keep"
        )
    return replace(
        scan,
        kspace=kspace,
        measured=measured,
        mask=scan.mask.any(-1, keepdim=True) & measured,
        holdout=None if scan.holdout is None else scan.holdout.any(-1, keepdim=True) & measured,
        padding=None if scan.padding is None else padding,
    )


def _points(scan: Scan) -> str:
    return (
        f"{scan.id}: points along the read-out were sampled, or are to be shown, so it cannot be cut; set "
        "oversampling=keep"
    )
