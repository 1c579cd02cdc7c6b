"""The centred orthonormal Fourier transform, and the phases that turn it into a plain FFT.

With the centre at `c = N // 2`, the centred transform factors as `F_c = D_k F D_x` with

    D_x[n] = exp(2πi c n / N),    D_k[k] = exp(2πi c (k − c) / N),

two sign patterns for even `N`. Folding `D_x` into the coil maps and `D_k` into the mask removes every
shift from the operators.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

AXES = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """Centred orthonormal 2-D FFT over the last two axes: image `(…, y, x)` to k-space `(…, ky, kx)`."""
    shifted = torch.fft.ifftshift(image, dim=AXES)
    kspace: Tensor = torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=AXES)
    return kspace


def ifft2c(kspace: Tensor) -> Tensor:
    """Inverse of `fft2c`: k-space `(…, ky, kx)` to image `(…, y, x)`."""
    shifted = torch.fft.ifftshift(kspace, dim=AXES)
    image: Tensor = torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=AXES)
    return image


def fft1c(rows: Tensor) -> Tensor:
    """Centred orthonormal FFT over the last axis, the read-out: `(…, x)` to `(…, kx)`."""
    shifted = torch.fft.ifftshift(rows, dim=-1)
    kspace: Tensor = torch.fft.fftshift(torch.fft.fft(shifted, norm="ortho"), dim=-1)
    return kspace


def ifft1c(kspace: Tensor) -> Tensor:
    """Inverse of `fft1c`: `(…, kx)` to `(…, x)`."""
    shifted = torch.fft.ifftshift(kspace, dim=-1)
    rows: Tensor = torch.fft.fftshift(torch.fft.ifft(shifted, norm="ortho"), dim=-1)
    return rows


def _axis_phases(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    centre = size // 2
    index = torch.arange(size, device=device)
    # Integer arithmetic modulo the period keeps even sizes at exactly ±1.
    image = (centre * index) % size
    frequency = (centre * (index - centre)) % size
    turn = 2j * torch.pi / size
    d_x, d_k = torch.exp(turn * image.to(torch.complex128)), torch.exp(turn * frequency.to(torch.complex128))
    if size % 2 == 0:
        return d_x.real.round().to(torch.complex128), d_k.real.round().to(torch.complex128)
    return d_x, d_k


# Never forgotten: a CUDA graph may read them.
@cache
@torch.inference_mode(False)
def centring_phases(
    shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """`D_x` and `D_k`, each `(y, x)` complex, of the centred transform of images of this shape."""
    rows_x, rows_k = _axis_phases(shape[0], device)
    columns_x, columns_k = _axis_phases(shape[1], device)
    d_x = rows_x[:, None] * columns_x[None, :]
    d_k = rows_k[:, None] * columns_k[None, :]
    return d_x.to(dtype), d_k.to(dtype)


def crop_centre(array: Tensor, shape: tuple[int, int]) -> Tensor:
    """The central `shape` of the last two axes; the centre sample `N // 2` stays the centre."""
    for axis, size in zip(AXES, shape, strict=True):
        if size > array.shape[axis]:
            raise ValueError(f"cannot crop an axis of {array.shape[axis]} to {size}")
        array = array.narrow(axis, array.shape[axis] // 2 - size // 2, size)
    return array


def pad_centre(array: Tensor, shape: tuple[int, int]) -> Tensor:
    """Zeros around the last two axes; the adjoint of `crop_centre`."""
    if any(array.shape[axis] > size for axis, size in zip(AXES, shape, strict=True)):
        raise ValueError(f"cannot pad {tuple(array.shape[-2:])} to {shape}")
    out = array.new_zeros(*array.shape[:-2], *shape)
    crop_centre(out, (array.shape[-2], array.shape[-1])).copy_(array)
    return out
