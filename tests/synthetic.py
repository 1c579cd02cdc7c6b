"""Tiny scans made in memory: random smooth objects seen through random smooth coils."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noref.physics import cartesian, noncartesian
from noref.sampling.masks import acquisition_mask
from noref.sampling.spokes import radial, turned
from noref.scan import Header, Role, Scan, coil_maps
from noref.seeding import Key

Shape = tuple[int, int]


def smooth(count: int, shape: Shape, order: float, generator: torch.Generator) -> Tensor:
    """Random complex fields `(count, y, x)` without frequencies above `order` cycles per image."""
    spectrum = torch.randn(count, *shape, dtype=torch.complex64, generator=generator)
    ky, kx = (torch.fft.fftfreq(n, 1 / n) for n in shape)
    kept = ky[:, None] ** 2 + kx**2 <= order**2
    return torch.fft.ifft2(spectrum * kept, norm="forward") / kept.sum().sqrt()


def maps(shape: Shape, coils: int, sets: int = 1, seed: int = 0) -> Tensor:
    """Smooth coil maps `(sets, coils, y, x)` with `Σ_c |S_c|² = 1`."""
    generator = torch.Generator().manual_seed(seed)
    fields = smooth(sets * coils, shape, 1.5, generator).view(sets, coils, *shape)
    return fields / fields.abs().square().sum(1, keepdim=True).sqrt().clamp_min(1e-6)


def image(shape: Shape, sets: int = 1, seed: int = 0) -> Tensor:
    """A complex object `(sets, y, x)`: smooth, with sharp borders and air around it."""
    generator = torch.Generator().manual_seed(seed)
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    disc = (y[:, None] ** 2 + x**2 < 0.8).float()
    edges = (smooth(1, shape, 3, generator).real > 0).float()
    return smooth(sets, shape, 4, generator) * disc + 0.7 * disc * edges + 0.5 * disc


def scan(
    shape: Shape = (32, 24),
    coils: int = 2,
    seed: int = 0,
    *,
    sets: int = 1,
    noise: float = 0.0,
    keep_maps: bool = True,
    role: Role = Role.TARGET,
) -> Scan:
    """A fully sampled scan; no two seeds have the same object, coils or id.

    Args:
        shape: k-space matrix `(ky, kx)`.
        coils: number of coils; one coil has no maps.
        seed: of object, coils and noise.
        sets: number of map sets.
        noise: standard deviation per complex sample.
        keep_maps: whether the scan has the maps it was made with.
        role: target or proxy.
    """
    seen = maps(shape, coils, sets, seed) if coils > 1 else torch.ones(sets, 1, *shape, dtype=torch.complex64)
    full = torch.ones(shape, dtype=torch.bool)
    kspace = cartesian(full[None], seen[None]).forward(image(shape, sets, seed)[None])[0]
    generator = torch.Generator().manual_seed(1000 + seed)
    kspace = kspace + noise * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    return Scan(
        id=f"subject{seed}/scan/0",
        kspace=kspace,
        measured=full,
        mask=full,
        maps=seen if keep_maps and coils > 1 else None,
        role=role,
    )


def spokes(
    shape: Shape = (32, 24),
    coils: int = 2,
    seed: int = 0,
    *,
    number: int = 15,
    noise: float = 0.0,
    keep_maps: bool = True,
    role: Role = Role.TARGET,
) -> Scan:
    """The same object, sampled along golden-angle spokes, turned by an angle of the seed's own.

    Args:
        shape: image matrix `(y, x)`.
        coils: number of coils; one coil has no maps.
        seed: of object, coils, angle and noise.
        number: of spokes.
        noise: standard deviation per complex sample.
        keep_maps: whether the scan has the maps it was made with.
        role: target or proxy.
    """
    full = scan(shape, coils, seed)
    seen = coil_maps(full)
    places = turned(radial(number, 2 * max(shape), golden=True), float(seed))
    everywhere = torch.ones(places.shape[:2], dtype=torch.bool)
    kspace = noncartesian(everywhere[None], seen[None], places[None]).forward(image(shape, 1, seed)[None])[0]
    generator = torch.Generator().manual_seed(1000 + seed)
    return replace(
        full,
        kspace=kspace + noise * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator),
        measured=everywhere,
        mask=everywhere,
        trajectory=places,
        maps=seen if keep_maps and coils > 1 else None,
        clean=full.kspace,
        role=role,
        header=Header(matrix=shape),
    )


def undersampled(
    full: Scan, kind: str = "lines", acceleration: float = 3.0, acs: float = 8, seed: int = 0
) -> Scan:
    """The scan as a scanner that measured only the samples of one mask would have left it."""
    mask = acquisition_mask(kind, full.shape, acceleration, acs, Key(seed, full.id, "mask"))
    return replace(full.undersampled(mask), measured=mask)
