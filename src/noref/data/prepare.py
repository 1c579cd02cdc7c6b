"""From a scan as a file holds it to a scan that training and reconstruction can use."""

from __future__ import annotations

import cmath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from noref.coils.compression import Compression, compressed
from noref.coils.maps import estimate_maps
from noref.coils.whitening import whitened
from noref.errors import NorefError
from noref.physics import compensation
from noref.sampling.density import ring_density
from noref.sampling.frames import FRAME_MASKS, frame_masks
from noref.sampling.holdout import acs_mask, hold_out
from noref.sampling.masks import IN_POINTS, MASKS, acquisition_mask, mask_from_file, read_mask
from noref.scan import Role, Scan, coil_maps, encoding_of, full_readouts
from noref.seeding import Key

FEW = 32
"""Lines up to which multiplying with the waves is faster than the FFT."""

_DAMPING = 1e-3
"""Of the least-squares image of a full scan off the grid."""


class Preparation(BaseModel):
    """What is done to every scan of a data set before anyone trains on it.

    Attributes:
        mask: Ω: `acquired` (as the file has it), a kind of `sampling.masks`, of `sampling.frames` for frames
            of dynamic scans, or the path of a `.npy` mask, to undersample a full scan retrospectively; what
            was accelerated beside full ones stays as it is.
        acceleration: R of a retrospective mask, the ACS counted; of some the spacing, see `sampling.masks`.
        acs: its calibration lines, or their share of the matrix if below 1. Off the Cartesian grid there are
            none: kinds of lines choose among the read-outs.
        partial_fourier: share of the lines that it may hold, such as 0.75 for 6/8, on one side along ky.
        maps: `espirit` or `acs`; stored maps of a file are used as they are.
        sets: number of map sets.
        oversampling: `keep`, or `remove` the read-out's, so that the field of view is the clinical one.
        whiten: by the noise scan or, without one, by the border of k-space: noise of power 1 in every coil.
        coils: compress to so many virtual coils scans that have more; None keeps all.
        compression: `svd`, or `geometric`, which keeps more with as many where read-outs are whole.
        holdout: share of the samples outside the ACS that becomes Γ; targets only, and of full scans beside
            accelerated ones none, which have a reference.
        redraw: draw Ω anew each epoch; proxies only, a target's Ω is fixed for life.
        seed: of the data set: fixes Ω and Γ, whatever the training seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mask: str = "acquired"
    acceleration: float = Field(4.0, ge=1)
    acs: float = Field(0.08, ge=0)
    partial_fourier: float = Field(1.0, ge=0.5, le=1)
    maps: Literal["espirit", "acs"] = "espirit"
    sets: int = Field(1, ge=1)
    oversampling: Literal["keep", "remove"] = "keep"
    whiten: bool = False
    coils: int | None = Field(None, ge=1)
    compression: Compression = "svd"
    holdout: float = Field(0.07, ge=0, lt=1)
    redraw: bool = False
    seed: int = 0


def check_mask(how: Preparation) -> None:
    """Refuses a mask that there is none of, before any scan is read.

    Raises:
        NorefError: if its kind is unknown, or its file cannot be read.
    """
    if how.mask.endswith(".npy"):
        read_mask(Path(how.mask))
    elif how.mask != "acquired" and how.mask not in (*MASKS, *FRAME_MASKS):
        kinds = ", ".join((*MASKS, *FRAME_MASKS))
        raise NorefError(f"mask {how.mask!r} is unknown; give acquired, {kinds}, or a .npy file")


def undersample(scan: Scan, how: Preparation, epoch: int | None = None) -> Scan:
    """The scan with its Ω. Nothing is erased: `Scan.as_target` does that.

    Raises:
        NorefError: if the mask asks for samples that were not measured, or is of unknown kind.
    """
    if how.mask == "acquired":
        return scan
    mask = _asked_mask(scan, how, epoch)
    if not _was_measured(scan, mask):
        believed = (
            ", or acquired=all to believe lines that seem filled in" if scan.header.filled_lines else ""
        )
        raise NorefError(
            f"{scan.id}: already undersampled (R = {scan.acceleration:.1f}), cannot be undersampled again; "
            f"use mask=acquired{believed}"
        )
    return replace(scan, mask=mask & scan.measured)


def can_be_undersampled(scan: Scan, how: Preparation) -> bool:
    """Whether all that a mask asks for was measured.

    Raises:
        NorefError: as `undersample` does, but for what was not.
    """
    return how.mask == "acquired" or _was_measured(scan, _asked_mask(scan, how, None))


def _asked_mask(scan: Scan, how: Preparation, epoch: int | None) -> Tensor:
    if scan.trajectory is not None and how.mask in IN_POINTS:
        raise NorefError(f"{scan.id}: mask {how.mask}: off the Cartesian grid only read-outs; use mask=lines")
    check_mask(how)
    if how.mask in FRAME_MASKS:
        return _frame_mask(scan, how, epoch)
    if how.mask not in MASKS:
        return mask_from_file(Path(how.mask), scan.shape)
    key = Key(how.seed, scan.id, "mask", epoch if how.redraw and scan.role is Role.PROXY else None)
    acs, part = _acs(scan, how), how.partial_fourier
    return acquisition_mask(how.mask, scan.shape, how.acceleration, acs, key, part)


def _was_measured(scan: Scan, mask: Tensor) -> bool:
    known = scan.measured if scan.padding is None else scan.measured | scan.padding
    return not bool((mask & ~known).any())


def _frame_mask(scan: Scan, how: Preparation, epoch: int | None) -> Tensor:
    """The mask of one frame, drawn with those of all frames of its slice."""
    if scan.header.frame is None:
        raise NorefError(
            f"{scan.id}: mask {how.mask} is for frames of a dynamic scan, and none are told; of arrays name "
            "their axis, as in axes=frame,coils,ky,kx, or use mask=lines"
        )
    if how.partial_fourier < 1:
        raise NorefError(f"mask {how.mask}: is not for partial Fourier; leave out partial_fourier")
    number, count = scan.header.frame
    redrawn = epoch if how.redraw and scan.role is Role.PROXY else None
    key = Key(how.seed, _of_all_frames(scan, number), "mask", redrawn)
    return frame_masks(how.mask, count, scan.shape, how.acceleration, _acs(scan, how), key)[number]


def _of_all_frames(scan: Scan, number: int) -> str:
    """What the id has in common with those of the slice's other frames, or that of the first one."""
    volume, index = scan.id.rsplit("/", 1)
    if not scan.header.frame_part:
        return f"{volume}/{int(index) - number:03d}"
    # Files may have such a part in their own names, which come first.
    before, _, behind = f"{volume}.".rpartition(f".{scan.header.frame_part}.")
    return f"{before}.{behind}".rstrip(".") + f"/{index}"


def _acs(scan: Scan, how: Preparation) -> float:
    return how.acs if scan.trajectory is None else 0


def fully_sampled(scan: Scan) -> bool:
    """Whether everything outside the padding was measured; off the grid, as many read-outs as make that.

    A simulated scan that brings its noiseless k-space is as good.
    """
    if scan.trajectory is not None:
        enough = int(scan.measured.any(-1).sum()) >= full_readouts(scan.matrix)
        return enough or scan.clean is not None
    known = scan.measured if scan.padding is None else scan.measured | scan.padding
    return bool(known.numpy().all())


def combined(kspace: Tensor, maps: Tensor, mask: Tensor | None = None) -> Tensor:
    """`Σ_c S_c* Fᴴ y_c`: k-space `(coils, ky, kx)` and maps `(sets, coils, y, x)` to image `(sets, y, x)`.

    Args:
        kspace: of all coils.
        maps: of all coils.
        mask: bool `(ky, kx)`, the samples to make the image of; all if None.
    """
    ky = kspace.shape[-2]
    if mask is None:
        lines, chosen = torch.arange(ky), kspace
    else:
        lines = torch.from_numpy(np.flatnonzero(mask.numpy().any(-1)))
        chosen = torch.where(mask[lines], kspace[:, lines], 0)
    image = torch.zeros_like(maps[:, 0])
    if len(lines) == 0:
        return image
    # F of y* is (Fᴴ y)*, so that maps are taken as they are.
    rows = torch.fft.fftshift(
        torch.fft.fft(torch.fft.ifftshift(chosen.conj_physical(), dim=-1), norm="ortho"), dim=-1
    )
    columns = _few_lines(rows, lines, ky) if len(lines) <= FEW else _many_lines(rows, lines, ky)
    for coil, column in enumerate(columns):
        image.addcmul_(maps[:, coil], column)
    return image.conj_physical()


def _few_lines(rows: Tensor, lines: Tensor, ky: int) -> Iterator[Tensor]:
    """The centred transform along ky of some lines `(coils, lines, x)`, coil by coil, as a product."""
    waves = _turn((torch.arange(ky) - ky // 2)[:, None] * (ky // 2 - lines), ky, rows.dtype)
    waves /= ky**0.5
    for row in rows:
        yield waves @ row


def _many_lines(rows: Tensor, lines: Tensor, ky: int) -> Iterator[Tensor]:
    """The same by FFT; a coil at a time stays in the cache, and a phase of the lines moves the centre."""
    plane = rows.new_zeros(ky, rows.shape[-1])
    rows = rows * _turn((lines - ky // 2) * (ky // 2), ky, rows.dtype)[:, None]
    for row in rows:
        plane[(lines - ky // 2) % ky] = row
        yield torch.fft.fft(plane, dim=-2, norm="ortho")


def _turn(steps: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """`exp(2πi · steps / size)` of whole numbers."""
    angles = (steps % size).to(torch.float64) * (2 * torch.pi / size)
    return torch.polar(torch.ones_like(angles), angles).to(dtype)


def scale_of(scan: Scan) -> complex:
    """The 99.5th percentile and the mean phase of the combined image of the ACS, or of Ω∖Γ without an ACS.

    The phase of an image as a whole means nothing, it comes with the coils and the receiver. A network that
    was trained on a few phases fails on others: all scans get the same, zero.

    Raises:
        NorefError: if what may be read is all zero.
    """
    image = _first_look(scan)
    magnitude = image.abs()
    size = float(np.quantile(magnitude.numpy(), 0.995))
    if not size > 0:
        raise NorefError(f"{scan.id}: k-space is zero in the calibration region; check the file and its mask")
    # Weighted by their power, so that what is dark and has no phase does not vote.
    return cmath.rect(size, float((image * magnitude).sum().angle()))


def _first_look(scan: Scan) -> Tensor:
    """The combined image `(sets, y, x)` of the ACS, or of Ω∖Γ without an ACS; off the grid gridded."""
    if scan.trajectory is not None:
        return encoding_of(scan, scan.allowed).adjoint(scan.kspace[None])[0]
    centre = acs_mask(scan.allowed)
    calibrated = min(np.count_nonzero(centre.numpy().any(axis)) for axis in (0, 1)) >= 4
    return combined(scan.kspace, coil_maps(scan), centre if calibrated else scan.allowed)


def compensated(scan: Scan) -> Scan:
    """The scan off the grid with the weights of Ω, its k-space multiplied by them, and its density."""
    assert scan.trajectory is not None
    weights = compensation(scan.trajectory, scan.mask, scan.matrix).sqrt()
    scan = replace(scan, weights=weights, kspace=scan.kspace * weights)
    return replace(scan, density=ring_density(scan))


def reference_of(scan: Scan) -> Tensor:
    """`Aᴴ y` of the noiseless or the full scan, `(sets, y, x)`; off the grid the least-squares image."""
    if scan.clean is not None:
        return combined(scan.clean, coil_maps(scan))
    if scan.trajectory is None:
        return combined(scan.kspace, coil_maps(scan))
    encoding = encoding_of(scan, scan.measured)
    return encoding.solve(encoding.adjoint(scan.kspace[None]), _DAMPING)[0]


def prepare(scan: Scan, how: Preparation, epoch: int | None = None) -> Scan:
    """Ω, Γ, coils, maps, reference and scale, in this order; all but the reference from Ω∖Γ alone.

    Off the Cartesian grid the weights of the samples come before the maps, from where Ω lies alone.

    Args:
        scan: as read from a file, without read-out oversampling if that is to be removed.
        how: the data set's settings.
        epoch: draws a proxy's Ω, if it is drawn anew each epoch.

    Raises:
        NorefError: as the parts do.
    """
    scan = undersample(scan, how, epoch)
    if scan.role is Role.TARGET and how.holdout > 0:
        scan = hold_out(scan, how.holdout, how.seed)
    if how.whiten:
        scan = whitened(scan)
    if how.coils is not None:
        scan = compressed(scan, how.coils, how.compression)
    if scan.trajectory is not None:
        scan = compensated(scan)
    if scan.maps is None and scan.coils > 1:
        scan = replace(scan, maps=estimate_maps(scan, method=how.maps, sets=how.sets))
    if fully_sampled(scan):
        scan = replace(scan, reference=reference_of(scan))
    return scan.scaled(scale_of(scan))
