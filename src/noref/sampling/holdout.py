"""Γ, the samples held out of every target: how good a reconstruction is without a reference."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noref.coils.calibration import acs_box
from noref.errors import NorefError
from noref.sampling.density import CAP, inverse_density
from noref.sampling.draw import draw_units, whole_readouts
from noref.scan import Scan, encoding_of
from noref.seeding import Key


def acs_mask(mask: Tensor) -> Tensor:
    """The fully sampled centre of a mask, bool `(ky, kx)`."""
    inside = torch.zeros_like(mask)
    inside[acs_box(mask)] = True
    return inside


def calibrated(scan: Scan) -> Tensor:
    """The samples of Ω that calibrate, bool `(ky, kx)`: its fully sampled centre, and none off the grid.

    There all read-outs cross the centre, and none is spared from being held out.
    """
    return acs_mask(scan.mask) if scan.trajectory is None else torch.zeros_like(scan.mask)


def all_calibrates(scan: Scan) -> bool:
    """Whether Ω has no samples outside its calibration region: of such a scan nothing can be held out."""
    return not bool((scan.mask & ~calibrated(scan)).any())


def hold_out(scan: Scan, share: float, seed: int) -> Scan:
    """The scan with Γ: a share of Ω outside the ACS, in the acquisition's own unit, fixed for life.

    The ACS is the scan's own: samples of Ω that touch the calibration region belong to it, never to Γ. Off
    the grid there is none, and Γ is made of whole read-outs.

    Args:
        scan: with Ω.
        share: of the samples outside the ACS, 0.05 to 0.1.
        seed: of the data set.

    Raises:
        NorefError: if Ω has no samples outside the ACS to hold out.
    """
    outside = scan.mask & ~calibrated(scan)
    gamma = draw_units(outside, outside, share, Key(seed, scan.id, "holdout"), lines=whole_readouts(scan))
    if not bool(gamma.any()) or torch.equal(gamma, scan.mask):
        raise NorefError(
            f"{scan.id}: no samples outside the calibration region, so nothing can be held out to validate "
            "with; check the mask, say how to undersample full scans, as by mask=lines, or set holdout=0"
        )
    return replace(scan, holdout=gamma)


def holdout_error(scan: Scan, image: Tensor, maps: Tensor | None = None) -> float:
    """Error on Γ of an image made from Ω∖Γ, `Σ_Γ w |y − F S x̂|² / Σ_Γ w |y|²`, `w = 1/p` capped.

    The Horvitz–Thompson estimate of the NMSE over all of k-space outside the ACS: unweighted, Γ sees almost
    only low frequencies on variable-density masks. Its floor is the share of noise in the held-out samples.

    Args:
        scan: with Γ and its density; without a density all samples weigh the same.
        image: complex64 `(sets, y, x)`.
        maps: complex64 `(sets, coils, y, x)` that the image was made with; the scan's own if None.

    Returns:
        the error; not a finite number where Γ holds no signal, or something that is no number.

    Raises:
        NorefError: if the scan has no Γ.
    """
    error, energy = holdout_squares(scan, image, maps)
    return float(error.sum() / energy.sum())


def holdout_squares(scan: Scan, image: Tensor, maps: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`w |y − F S x̂|²` and `w |y|²` of every sample, zero outside Γ; of their sums is `holdout_error` made.

    Args:
        scan: with Γ, as for `holdout_error`.
        image: complex64 `(sets, y, x)`.
        maps: complex64 `(sets, coils, y, x)` that the image was made with; the scan's own if None.

    Returns:
        two float32 `(ky, kx)`, the sums over the coils.

    Raises:
        NorefError: if the scan has no Γ.
    """
    if scan.holdout is None or not bool(scan.holdout.any()):
        raise NorefError(f"{scan.id}: no held-out samples to score with; set holdout above 0")
    encoding = encoding_of(scan, scan.holdout, maps)
    error = torch.where(scan.holdout, encoding.forward(image[None])[0] - scan.kspace, 0)
    held = torch.where(scan.holdout, scan.kspace, 0)
    weight = torch.ones(scan.shape) if scan.density is None else inverse_density(scan.density)
    return weight * error.abs().square().sum(0), weight * held.abs().square().sum(0)


def share_under_cap(scan: Scan) -> float:
    """Share of the inverse-density weight on Γ that is not cut off by the cap."""
    if scan.holdout is None or scan.density is None:
        return 1.0
    weight = inverse_density(scan.density)[scan.holdout]
    return float(weight[weight < CAP].sum() / weight.sum())
