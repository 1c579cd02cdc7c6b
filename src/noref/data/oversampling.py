"""Cutting off what a read-out was sampled too densely for: air beside the image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.physics import constant_along_readout, crop_centre, fft1c, ifft1c, pad_centre
from noref.scan import Scan


def without_oversampling(scan: Scan) -> Scan:
    """The scan with the read-out's field of view cut to the clinical one, `header.crop`.

    The inverse FFT along the read-out, its centre, and the FFT back: pixels and the noise of a sample keep
    their values. As it is without a crop, and off the Cartesian grid.

    Raises:
        NorefError: if only a part of the read-out was sampled: cutting would smear its end.
    """
    crop = scan.header.crop
    if crop is None or crop[1] >= scan.shape[1] or scan.trajectory is not None:
        return scan
    if not all(constant_along_readout(mask) for mask in (scan.measured, scan.mask)):
        raise NorefError(
            f"{scan.id}: the echo is partial, or points were sampled, so the read-out cannot be cut; set "
            "oversampling=keep"
        )
    ky, before = scan.shape
    kx = crop[1]

    def cut(kspace: Tensor) -> Tensor:
        return fft1c(crop_centre(ifft1c(kspace), (kspace.shape[-2], kx)))

    calibration = scan.calibration
    if calibration is not None:
        lines, samples = calibration.shape[-2:]
        whole = cut(pad_centre(calibration, (lines, max(samples, before))))
        calibration = crop_centre(whole, (lines, max(samples * kx // before, 1)))
    return replace(
        scan,
        # Zeros stay zeros: lines that were not measured are known by them.
        kspace=torch.where(scan.measured[:, :kx], cut(scan.kspace), 0),
        measured=scan.measured[:, :kx].clone(),
        mask=scan.mask[:, :kx].clone(),
        holdout=None if scan.holdout is None else scan.holdout[:, :kx].clone(),
        padding=None if scan.padding is None else scan.padding[:, :kx].clone(),
        maps=None if scan.maps is None else crop_centre(scan.maps, (ky, kx)).contiguous(),
        calibration=calibration,
        clean=None if scan.clean is None else cut(scan.clean),
        reference=None if scan.reference is None else crop_centre(scan.reference, (ky, kx)).contiguous(),
        header=replace(scan.header, crop=None if crop == (ky, kx) else crop),
    )
