"""A scan is what a scanner measured: one slice's k-space and all that is known about it.

Axes are fixed: `(…, coils, ky, kx)`, read-out last. No code counts axes from the left, so that frames and
partitions go in front. Off the Cartesian grid ky counts the read-outs (spokes, arms of a spiral), kx the
samples of each, and the trajectory says where they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.physics import Encoding, cartesian, noncartesian

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


class Role(StrEnum):
    """What a scan is to the training: undersampled target, or fully sampled proxy."""

    TARGET = "target"
    PROXY = "proxy"


@dataclass(frozen=True)
class Header:
    """Geometry and timing that files carry along.

    Attributes:
        crop: matrix `(rows, columns)` of the clinical image, after the read-out oversampling is cut off.
        spacing: millimetres between pixels along y and x, and between slices.
        thickness: millimetres of the slice; None where only the distance between slices is known.
        position: millimetres, LPS, of the centre of the image.
        directions: unit vectors, LPS, along x (columns), along y (rows), and of the slice normal.
        protocol: what the file calls the acquisition.
        acceleration: by parallel imaging, as the file tells it; lines between those may have been filled in.
        repetition_time: milliseconds.
        echo_time: milliseconds.
        inversion_time: milliseconds.
        flip_angle: degrees.
        matrix: `(y, x)` of the image of a scan off the Cartesian grid; on it the k-space says so itself.
        field_strength: teslas.
        filled_lines: lines that the file held and parallel imaging had computed, left out of k-space.
        average: number of the average, from 0, as are the numbers that follow.
        contrast: number of the echo.
        phase: number of the cardiac phase.
        repetition: number of the repetition.
        set: number of the set of another preparation, such as a flow encoding.
        whitened_by: where the noise was found that the scan was whitened by: `noise scans`, or the region of
            k-space; empty if it was not.
        frame: number of this frame of a dynamic scan among those of its slice, and how many these are.
        frame_part: the part between dots of the scan's name that tells frames apart, such as `phase3`; empty
            where their numbers as slices do, and follow each other.
    """

    crop: tuple[int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    thickness: float | None = None
    position: tuple[float, float, float] | None = None
    directions: tuple[tuple[float, float, float], ...] | None = None
    protocol: str = ""
    acceleration: float = 1.0
    repetition_time: float | None = None
    echo_time: float | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    matrix: tuple[int, int] | None = None
    field_strength: float | None = None
    filled_lines: int = 0
    average: int = 0
    contrast: int = 0
    phase: int = 0
    repetition: int = 0
    set: int = 0
    whitened_by: str = ""
    frame: tuple[int, int] | None = None
    frame_part: str = ""


@dataclass(frozen=True)
class Scan:
    """One slice as it was measured, with the maps and masks that say how to read it.

    Ω is `mask`, Γ is `holdout`, a part of Ω. `as_target` gives the only form in which a target may reach a
    method.

    Attributes:
        id: subject/scan/slice.
        kspace: complex64 `(…, coils, ky, kx)`, centred, zero where nothing was measured, nor filled in.
        measured: bool `(…, ky, kx)`, what was really sampled.
        mask: bool `(…, ky, kx)`, Ω, what may be shown: a part of `measured`, and beside it, where a method
            fills a scan in, what a teacher guesses.
        holdout: bool `(…, ky, kx)`, Γ, or None.
        padding: bool `(…, ky, kx)`, known zeros: consistent data, but neither graded nor counted in R.
        trajectory: float32 `(…, readouts, samples, 2)`, where samples off the Cartesian grid were taken, in
            cycles per field of view along y and x of the image, whose matrix is `header.matrix`; or None.
            k-space is then `(coils, readouts, samples)`, and its masks `(readouts, samples)`.
        weights: float32 `(…, readouts, samples)`, the root of the density compensation that k-space off the
            grid was multiplied by; None on the grid, or as read from a file.
        maps: complex64 `(sets, coils, y, x)` with `Σ_c |S_c|² = 1` on the object, or None.
        calibration: complex64 `(coils, ky, kx)` of a separate calibration scan, or None.
        noise_cov: complex64 `(coils, coils)` of the noise in a sample of k-space, `E[n nᴴ]`, or None.
        density: float32 `(…, ky, kx)`, the probability with which Ω∖Γ holds a sample, or None; off the grid
            the share of k-space around it that Ω∖Γ covers.
        scale: what k-space and reference were divided by, a complex number; 1 as read from a file.
        reference: complex64 `(sets, y, x)`, `Aᴴy` of the full scan with the same maps, or None.
        clean: complex64 `(coils, ky, kx)`, the noiseless k-space of a simulated scan, always on the Cartesian
            grid: what its reference is made of, and nothing else.
        rss: float32 `(rows, columns)`, the root sum of squares a file came with; never mixed in.
        role: target or proxy.
        raw: whether the k-space was measured, not made from images.
        header: geometry and timing.
    """

    id: str
    kspace: Tensor
    measured: Tensor
    mask: Tensor
    holdout: Tensor | None = None
    padding: Tensor | None = None
    trajectory: Tensor | None = None
    weights: Tensor | None = None
    maps: Tensor | None = None
    calibration: Tensor | None = None
    noise_cov: Tensor | None = None
    density: Tensor | None = None
    scale: complex = 1.0
    reference: Tensor | None = None
    clean: Tensor | None = None
    rss: Tensor | None = None
    role: Role = Role.TARGET
    raw: bool = True
    header: Header = field(default_factory=Header)

    @property
    def shape(self) -> tuple[int, int]:
        """k-space matrix `(ky, kx)`."""
        return self.kspace.shape[-2], self.kspace.shape[-1]

    @property
    def matrix(self) -> tuple[int, int]:
        """Image matrix `(y, x)`: that of k-space on the Cartesian grid.

        Raises:
            NorefError: off the grid, if neither maps nor header say it.
        """
        if self.trajectory is None:
            return self.shape
        if self.maps is not None:
            return self.maps.shape[-2], self.maps.shape[-1]
        if self.header.matrix is None:
            raise NorefError(f"{self.id}: off the Cartesian grid, of no known matrix; give matrix=N")
        return self.header.matrix

    @property
    def coils(self) -> int:
        """Number of coils."""
        return self.kspace.shape[-3]

    @property
    def subject(self) -> str:
        """The first part of the id: what splits must keep together."""
        return self.id.split("/", 1)[0]

    @property
    def allowed(self) -> Tensor:
        """Ω∖Γ, bool `(…, ky, kx)`: all that training may read."""
        return self.mask if self.holdout is None else self.mask & ~self.holdout

    @property
    def acceleration(self) -> float:
        """`R`: positions inside the padding over samples in Ω, the ACS counted.

        Off the grid it is π/2·N, the spokes of a full radial scan, over the read-outs in Ω.
        """
        if self.trajectory is not None:
            return full_readouts(self.matrix) / max(int(self.mask.any(-1).sum()), 1)
        positions = self.mask.numel() if self.padding is None else int((~self.padding).sum())
        return positions / max(int(self.mask.sum()), 1)

    def undersampled(self, mask: Tensor) -> Scan:
        """The same scan with only the samples of `mask`, bool `(…, ky, kx)`, left in k-space and Ω."""
        kept = self.mask & mask
        holdout = None if self.holdout is None else self.holdout & kept
        # Zero where nothing was measured or filled in: if that is all to leave out, nothing is copied.
        same = torch.equal(kept, self.measured | self.mask)
        kspace = self.kspace if same else torch.where(kept.unsqueeze(-3), self.kspace, 0)
        return replace(self, kspace=kspace, measured=self.measured & kept, mask=kept, holdout=holdout)

    def as_target(self) -> Scan:
        """What a self-supervised method may see: k-space zero outside Ω∖Γ, no Γ, no reference."""
        shown = self.undersampled(self.allowed)
        return replace(shown, holdout=None, reference=None, clean=None, rss=None)

    def scaled(self, scale: complex) -> Scan:
        """k-space, calibration and reference divided by `scale`, which is remembered."""
        # Multiplied, as complex division takes three times as long.
        by = 1 / scale
        return replace(
            self,
            kspace=self.kspace * by,
            calibration=None if self.calibration is None else self.calibration * by,
            reference=None if self.reference is None else self.reference * by,
            clean=None if self.clean is None else self.clean * by,
            noise_cov=None if self.noise_cov is None else self.noise_cov / abs(scale) ** 2,
            scale=self.scale * scale,
        )


def coil_maps(scan: Scan) -> Tensor:
    """The scan's maps `(sets, coils, y, x)`; ones for a single coil without maps.

    Raises:
        ValueError: if a multi-coil scan has no maps.
    """
    if scan.maps is not None:
        return scan.maps
    if scan.coils > 1:
        raise ValueError(f"{scan.id}: {scan.coils} coils but no maps")
    return torch.ones(1, 1, *scan.matrix, dtype=scan.kspace.dtype)


def full_readouts(matrix: tuple[int, int]) -> float:
    """π/2·N: full spokes whose ends lie a cycle per field of view apart."""
    return math.pi / 2 * max(matrix)


def encode(
    mask: Tensor,
    maps: Tensor,
    trajectory: Tensor | None = None,
    weights: Tensor | None = None,
    shown: Tensor | None = None,
    lines: bool | None = None,
) -> Encoding:
    """The encoding operator of a batch, on the Cartesian grid or, with a trajectory, off it.

    Args:
        mask: bool `(batch, ky, kx)`.
        maps: complex `(batch, sets, coils, y, x)`.
        trajectory: float32 `(batch, ky, kx, 2)`, or None.
        weights: float32 `(batch, ky, kx)` of a trajectory, or None.
        shown: as for `cartesian`.
        lines: as for `cartesian`.
    """
    if trajectory is None:
        return cartesian(mask, maps, shown, lines)
    return noncartesian(mask, maps, trajectory, weights)


def encoding_of(scan: Scan, mask: Tensor, maps: Tensor | None = None) -> Encoding:
    """The encoding operator of some samples of one scan, a batch of one.

    Args:
        scan: with maps, if it has several coils.
        mask: bool `(ky, kx)`.
        maps: complex64 `(sets, coils, y, x)`; the scan's own if None.
    """
    trajectory, weights = (None if t is None else t[None] for t in (scan.trajectory, scan.weights))
    return encode(mask[None], (coil_maps(scan) if maps is None else maps)[None], trajectory, weights)


@dataclass(frozen=True)
class ScanBatch:
    """Scans of one shape, stacked along a leading axis.

    Attributes:
        ids: one per scan.
        kspace: complex64 `(batch, coils, ky, kx)`.
        mask: bool `(batch, ky, kx)`, the samples in k-space.
        padding: bool `(batch, ky, kx)`, known zeros.
        maps: complex64 `(batch, sets, coils, y, x)`.
        trajectory: float32 `(batch, ky, kx, 2)`, or None on the Cartesian grid.
        weights: float32 `(batch, ky, kx)`, or None on the Cartesian grid.
    """

    ids: tuple[str, ...]
    kspace: Tensor
    mask: Tensor
    padding: Tensor
    maps: Tensor
    trajectory: Tensor | None = None
    weights: Tensor | None = None

    @classmethod
    def of(cls, scans: Sequence[Scan]) -> ScanBatch:
        """Stacks scans of equal coils, sets and matrix; Ω becomes the mask."""
        return cls(
            ids=tuple(scan.id for scan in scans),
            kspace=torch.stack([scan.kspace for scan in scans]),
            mask=torch.stack([scan.mask for scan in scans]),
            padding=torch.stack([padding_of(scan) for scan in scans]),
            maps=torch.stack([coil_maps(scan) for scan in scans]),
            trajectory=stack_known([scan.trajectory for scan in scans]),
            weights=stack_known([scan.weights for scan in scans]),
        )

    def encoding(self, mask: Tensor | None = None) -> Encoding:
        """The encoding operator of Ω, or of `mask`, bool `(batch, ky, kx)`; padding counts as measured."""
        measured = (self.mask if mask is None else mask) | self.padding
        return encode(measured, self.maps, self.trajectory, self.weights)

    def to(self, device: torch.device | str) -> ScanBatch:
        """The same batch on another device."""
        return on_device(self, device)


def stack_known(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """Tensors that all scans of a batch have, or none, along a new first axis."""
    known = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(known) if known else None


def on_device(record: Record, device: torch.device | str) -> Record:
    """A copy of a dataclass with all its tensors on a device."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    tensors = {k: v.to(device, non_blocking=True) for k, v in values.items() if isinstance(v, Tensor)}
    return replace(record, **tensors)


def padding_of(scan: Scan) -> Tensor:
    """The scan's padding, bool `(ky, kx)`; nowhere if it has none."""
    return torch.zeros_like(scan.mask) if scan.padding is None else scan.padding


def shown_whole(scan: Scan) -> bool:
    """Whether Ω is all of the Cartesian grid, but for the padding."""
    return scan.trajectory is None and bool((scan.mask | padding_of(scan)).all())


def bucket(scan: Scan) -> tuple[int, ...]:
    """What scans must share to be stacked: map sets, coils, off the grid the image's matrix, and shape."""
    matrix = () if scan.trajectory is None else scan.matrix
    return (1 if scan.maps is None else scan.maps.shape[0], scan.coils, *matrix, *scan.shape)
