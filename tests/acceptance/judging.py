"""Scans to be judged by, and reconstructions of known quality."""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy import ndimage
from synthetic import image, scan, undersampled
from torch import Tensor

from noref.acceptance.candidates import Applied, Made, by_classical
from noref.sampling.density import sampling_density
from noref.sampling.holdout import hold_out
from noref.scan import Scan, coil_maps, encoding_of

SHAPE = (64, 48)


def target(
    seed: int = 0,
    *,
    shape: tuple[int, int] = SHAPE,
    coils: int = 4,
    sets: int = 1,
    noise: float = 0.05,
    kind: str = "random2d",
    acceleration: float = 3.0,
    share: float = 0.1,
    told: bool = True,
) -> Scan:
    """A prepared scan: undersampled, with Γ, density, maps, and noise that it may know of."""
    full = scan(shape, coils, seed, sets=sets, noise=noise)
    one = hold_out(undersampled(full, kind, acceleration, 10, seed), share, seed)
    cov = noise**2 * torch.eye(coils, dtype=torch.complex64)
    return replace(one, density=sampling_density([one.allowed]), noise_cov=cov if told else None)


def whole(seed: int = 0, *, coils: int = 4, noise: float = 0.05, shape: tuple[int, int] = SHAPE) -> Scan:
    """A scan of which all was measured: what `Aᴴ` reconstructs perfectly."""
    cov = noise**2 * torch.eye(coils, dtype=torch.complex64)
    return replace(scan(shape, coils, seed, noise=noise), noise_cov=cov)


def truth(seed: int = 0, shape: tuple[int, int] = SHAPE, sets: int = 1) -> Tensor:
    """The noiseless object, `(sets, y, x)`."""
    return image(shape, sets, seed)


def adjoint(one: Scan) -> Made:
    """`Aᴴ y`."""
    maps = coil_maps(one)
    kspace = torch.where(one.mask, one.kspace, 0)
    return Made(encoding_of(one, one.mask).adjoint(kspace[None])[0], maps)


def smoothing(of: Applied, width: float) -> Applied:
    """The same, blurred."""

    def blurred(one: Scan) -> Made:
        made = of(one)
        parts = [
            torch.from_numpy(ndimage.gaussian_filter(part.numpy(), (0, width, width)))
            for part in (made.image.real, made.image.imag)
        ]
        return replace(made, image=torch.complex(*parts))

    return blurred


def inventing(of: Applied, size: float) -> Applied:
    """The same, with a texture that no scan had anything to do with, always the same."""

    def invented(one: Scan) -> Made:
        made = of(one)
        texture = torch.randn(
            made.image.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(3)
        )
        return replace(made, image=made.image + size * texture)

    return invented


def wavelets(one: Scan) -> Applied:
    """Wavelets, their strength chosen for a scan."""
    return by_classical("wavelet")(one)
