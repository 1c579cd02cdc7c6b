"""The centred orthonormal Fourier transform at any place in k-space, by FINUFFT, and its adjoint.

    (F x)(k) = 1/√(Ny Nx) Σ_n x[n] exp(−2πi k·(n − c)/N),    c = N // 2,

k in cycles per field of view, along y and along x. Where k is whole it is `fft2c`. FINUFFT (Barnett et al.,
SIAM J. Sci. Comput. 2019, 41:C479) on CPUs, cuFINUFFT (Shih et al., PDSEC 2021) on GPUs, both the extra
`noncartesian`; neither is differentiated through.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from noref.errors import NorefError

Shape = tuple[int, int]

_EPS = {torch.complex64: 1e-6, torch.complex128: 1e-13}
"""Relative error that is asked for; single precision adds its own."""


def nufft(images: Tensor, trajectory: Tensor) -> Tensor:
    """`F`: complex images `(batch, coils, y, x)` to samples `(batch, coils, …)`.

    Args:
        images: of all coils.
        trajectory: real `(batch, …, 2)`, cycles per field of view along y and x.

    Raises:
        NorefError: if FINUFFT is not installed.
    """
    shape = (images.shape[-2], images.shape[-1])
    samples = images.new_empty(*images.shape[:2], math.prod(trajectory.shape[1:-1]))
    for out, image, angles in zip(samples, images, _angles(trajectory, shape), strict=True):
        out.copy_(_transform(2, image, angles, shape))
    return samples.view(*images.shape[:2], *trajectory.shape[1:-1]) / math.sqrt(math.prod(shape))


def nufft_adjoint(samples: Tensor, trajectory: Tensor, shape: Shape) -> Tensor:
    """`Fᴴ`: complex samples `(batch, coils, …)` to images `(batch, coils, y, x)`.

    Args:
        samples: of all coils.
        trajectory: real `(batch, …, 2)`, cycles per field of view along y and x.
        shape: `(y, x)` of the images.

    Raises:
        NorefError: if FINUFFT is not installed.
    """
    images = samples.new_empty(*samples.shape[:2], *shape)
    for out, sample, angles in zip(images, samples.flatten(2), _angles(trajectory, shape), strict=True):
        out.copy_(_transform(1, sample, angles, shape))
    return images / math.sqrt(math.prod(shape))


def _angles(trajectory: Tensor, shape: Shape) -> Tensor:
    """`2π k / N`, `(batch, 2, samples)`; turned here, as single precision would lose what lies far out."""
    turns = (
        trajectory.flatten(1, -2).mT.to(torch.float64)
        / torch.tensor(shape, dtype=torch.float64, device=trajectory.device)[:, None]
    )
    return (2 * torch.pi) * (turns - turns.round())


def _transform(kind: int, data: Tensor, angles: Tensor, shape: Shape) -> Tensor:
    """FINUFFT's type 1 (samples to image, sign +) or 2 (image to samples, sign −) of all coils at once."""
    module, data = _module(data.is_cuda), data.detach().contiguous()
    call = module.nufft2d1 if kind == 1 else module.nufft2d2
    # Its x is the first axis of the image, our y.
    arguments: list[Tensor] = [*angles.to(data.real.dtype).contiguous(), data]
    options: dict[str, Any] = {"eps": _EPS[data.dtype], "isign": 1 if kind == 1 else -1}
    size = [shape] if kind == 1 else []
    if data.is_cuda:
        stream = torch.cuda.current_stream(data.device).cuda_stream
        options |= {"gpu_device_id": data.device.index, "gpu_stream": stream}
        return call(*arguments, *size, **options)  # type: ignore[no-any-return]
    # A coil to a thread: sums over samples are always in the same order.
    options |= {"nthreads": torch.get_num_threads(), "spread_thread": 2, "showwarn": 0}
    return torch.from_numpy(call(*(tensor.numpy() for tensor in arguments), *size, **options))


def _module(on_gpu: bool) -> ModuleType:
    """FINUFFT, or its version for GPUs; imported when it is needed.

    Raises:
        NorefError: if it is not installed.
    """
    try:
        if on_gpu:
            import cufinufft

            return cufinufft  # type: ignore[no-any-return]
        import finufft
    except ImportError:
        name = "cufinufft" if on_gpu else "finufft"
        raise NorefError(
            f"{name}: not installed, and needed to leave the Cartesian grid; pip install noref[noncartesian]"
        ) from None
    return finufft  # type: ignore[no-any-return]
