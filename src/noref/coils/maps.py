"""Coil maps of a scan, from nothing but what may be shown of it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from noref.coils.calibration import calibration
from noref.coils.espirit import espirit, noise_floor
from noref.coils.gridded import gridded_calibration
from noref.errors import NorefError
from noref.physics import crop_centre, ifft2c, pad_centre
from noref.scan import Scan
from noref.seeding import Key

MIN_LINES = 12
"""Fewest calibration samples along either axis from which ESPIRiT is attempted."""

BLOCK = 24 * 24
"""Central samples that ESPIRiT uses. Maps are smooth: more samples cost more time and hold more noise."""


FOLDED = 0.9
"""Second eigenvalue above which two places are taken to lie on one another."""

SUSPECT = (0.1, 0.9)
"""Shares of the object between which a field of view is taken to be too small for it; see `folded`."""


def acs_maps(calibration: Tensor, shape: tuple[int, int]) -> Tensor:
    """Low-resolution coil images over their root sum of squares: complex64 `(1, coils, y, x)`.

    `S_c = I_c / √Σ_c |I_c|²` with `I = Fᴴ W y`, `W` a Hann window over the calibration region. The maps carry
    the phase of the object and are not cropped to it. Zero where every coil image is.

    Args:
        calibration: complex `(coils, ky, kx)`, its centre at `N // 2`.
        shape: `(y, x)` of the maps: the whole grid of the scan.

    Source: Roemer et al., The NMR phased array, MRM 16 (1990); McKenzie et al., MRM 47 (2002).
    """
    rows, columns = (_hann(size, calibration.device) for size in calibration.shape[-2:])
    images = ifft2c(pad_centre(calibration * rows[:, None] * columns, shape))
    return torch.nn.functional.normalize(images, dim=0, eps=torch.finfo(torch.float32).tiny)[None]


def estimate_maps(scan: Scan, method: Literal["espirit", "acs"] = "espirit", sets: int = 1) -> Tensor:
    """Coil maps of a scan on its whole grid, complex64 `(sets, coils, y, x)`.

    Made from the scan's separate calibration k-space, or else from the fully sampled centre of Ω∖Γ. Of that,
    ESPIRiT takes the central 24 × 24 samples, or as many in the shape that fewer lines leave; low-resolution
    images take a block at most twice as long as it is wide, beyond which it holds more noise than detail.
    One coil gets ones. Off the grid the centre is reconstructed coil by coil (`gridded_calibration`).

    Args:
        scan: `(coils, ky, kx)`, with or without maps.
        method: `espirit`, or `acs` for low-resolution coil images over their root sum of squares.
        sets: number of map sets; only ESPIRiT makes more than one.

    Raises:
        NorefError: if the calibration region is too small for the method, or the method cannot make the sets.
    """
    if scan.coils == 1 and sets == 1:
        return torch.ones(1, 1, *scan.matrix, dtype=scan.kspace.dtype, device=scan.kspace.device)
    off_grid = scan.trajectory is not None and scan.calibration is None
    region = gridded_calibration(scan) if off_grid else calibration(scan)
    lines, samples = region.shape[-2:]
    if sets > (scan.coils if method == "espirit" else 1):
        raise NorefError(f"{scan.id}: {sets} map sets from {scan.coils} coil(s) by {method}; ask for fewer")
    if method == "espirit" and min(lines, samples) < MIN_LINES:
        raise NorefError(
            f"{scan.id}: ESPIRiT needs {MIN_LINES} fully sampled central lines, found {lines} × {samples}; "
            "give a separate calibration scan, or take maps from the low-resolution images (maps=acs), which "
            "network.refine_maps=true improves"
        )
    if lines * samples == 0:
        raise NorefError(
            f"{scan.id}: the centre of k-space was not sampled, so no maps can be made of it; "
            "give a separate calibration scan or maps"
        )
    if method == "acs":
        longest = 2 * min(lines, samples)
        return acs_maps(crop_centre(region, (min(lines, longest), min(samples, longest))), scan.matrix)
    return espirit(_central(region), scan.matrix, sets=sets)


def folded(scan: Scan, noise: Tensor) -> float:
    """The share of the object on which a field of view too small for it has folded some more of it.

    There one set of maps cannot explain the calibration data: `G` of ESPIRiT has a second eigenvalue near 1,
    as many as places lie on one another. With `sets=2` each has maps of its own. Noise spans all kernels and
    so makes such eigenvalues, too: `G` is made of the kernels that stand out of it (`noise_floor`). Real
    heads in a whole field of view have 0 to 0.02, coils that see much alike up to 0.07, heads in 70 % of it
    0.12 and more. Above 0.9 it is more noise than was said, and nothing can be told. Zero for one coil, which
    cannot tell places apart.

    Args:
        scan: with a calibration region that ESPIRiT can use.
        noise: Σ of a sample of the region, complex `(coils, coils)`. Too large a Σ may hide what is folded.

    Raises:
        NorefError: if the calibration region is too small, the noise of other coils, or the scan off the
            Cartesian grid and without a calibration scan.
    """
    if scan.coils == 1:
        return 0.0
    if scan.trajectory is not None and scan.calibration is None:
        raise NorefError(f"{scan.id}: off the Cartesian grid nothing tells what is folded")
    if len(noise) != scan.coils:
        raise NorefError(f"{scan.id}: noise of {len(noise)} channels says nothing of {scan.coils} coils")
    region = calibration(scan)
    lines, samples = region.shape[-2:]
    if min(lines, samples) < MIN_LINES:
        raise NorefError(f"{scan.id}: {lines} × {samples} fully sampled central samples are too few to tell")
    centre = _central(region)
    floor = noise_floor(centre.shape, noise, Key(0, scan.id, "noise floor"))
    maps = espirit(centre, scan.matrix, sets=2, floor=floor, crop=FOLDED)
    first, second = maps.any(1).sum((-2, -1)).tolist()
    return second / first if first else 0.0


def _central(region: Tensor) -> Tensor:
    """The part of a calibration region that ESPIRiT takes."""
    lines, samples = region.shape[-2:]
    lines = min(lines, max(math.isqrt(BLOCK), BLOCK // samples))
    return crop_centre(region, (lines, min(samples, BLOCK // lines)))


def _hann(size: int, device: torch.device) -> Tensor:
    """`cos²(π (n − N//2) / (N + 1))`, `(N,)`: one at the centre, above zero at the ends."""
    offset = torch.arange(size, device=device) - size // 2
    return torch.cos(torch.pi * offset / (size + 1)).square()
