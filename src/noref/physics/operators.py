"""The multi-coil Fourier operators as custom operators on (real, imaginary) pairs.

Complex arithmetic lives inside these operators only: the compiler differentiates complex-valued unrolled
networks wrongly, and looks through an `autograd.Function`, so each one is a `torch.library.custom_op` with
its own backward. Shapes, all contiguous:

    image   real `(batch, 2·sets, y, x)`        pairs as channels
    kspace  real `(batch, coils, ky, kx, 2)`    `torch.view_as_real` of complex k-space
    maps    real `(batch, sets, coils, y, x, 2)` coil maps with `D_x` folded in
    weight  real `(batch, ky, kx, 2)`           mask times `D_k`
    mask    real `(batch, ky, kx)`

For `AᴴA` a mask that is constant along the read-out is given as `(batch, ky, 1)`, and the maps beside it with
the phase-encode axis last, `(batch, sets, coils, x, y, 2)`: that axis alone is transformed, which where it is
contiguous takes a third of the time. Off the Cartesian grid it is given as `(batch, 2·y, 2·x)`, the spectrum
of the Toeplitz operator `Fᴴ M W² F` (`noncartesian.toeplitz_spectrum`).

The backward of a linear operator is its adjoint; with respect to the maps it is recomputed, so that
constant maps cost no saved tensor. Gradients with respect to masks do not exist.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noref.physics.pairs import to_complex, to_pairs


def expand(image: Tensor, maps: Tensor) -> Tensor:
    """Coil images `Σ_s S_sc x_s`: `(batch, sets, y, x)` to `(batch, coils, y, x)`."""
    if maps.shape[1] == 1:
        return maps[:, 0] * image
    return (maps * image[:, :, None]).sum(1)


def combine(conjugates: Tensor, maps: Tensor) -> Tensor:
    """`Σ_c S_sc* z_c` of `z_c*`: `(batch, coils, y, x)`, overwritten, to `(batch, sets, y, x)`.

    Written as conj(Σ S z*): a lazy `.conj()` of the maps would lose its conjugation when called from
    compiled code, and a physical one would copy them.
    """
    if maps.shape[1] == 1:
        return conjugates.mul_(maps[:, 0]).sum(1, keepdim=True).conj_physical_()
    return (maps * conjugates[:, None]).sum(2).conj_physical_()


def _made_of_lines(mask: Tensor) -> bool:
    return mask.shape[-1] == 1


def beside_maps(image: Tensor, mask: Tensor) -> Tensor:
    """Image pairs as complex `(batch, sets, …)`, axes in the order of the maps that come with this mask."""
    return to_complex(image.mT if _made_of_lines(mask) else image)


def back_to_pairs(image: Tensor, mask: Tensor) -> Tensor:
    """The inverse of `beside_maps`."""
    return to_pairs(image.mT if _made_of_lines(mask) else image)


def normal(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """`AᴴA x` of complex images and maps, their axes in the same order."""
    return combine(_projected_conjugates(expand(image, maps), mask), maps)


def _projected_conjugates(coils: Tensor, mask: Tensor) -> Tensor:
    """`(Fᴴ M F z)*` of coil images; only along the phase-encode axis where the mask allows it.

    `F (M F z)*`: multiplying by the mask conjugates on the way, which saves a pass over all coils.
    """
    if mask.shape[-1] > coils.shape[-1]:
        return _convolved_conjugates(coils, mask)
    lines = _made_of_lines(mask)
    dim = (-1,) if lines else (-2, -1)
    kspace = torch.fft.fftn(coils, dim=dim, norm="ortho")
    real = mask.mT if lines else mask
    torch.view_as_real(kspace).mul_(torch.stack((real, -real), -1)[:, None])
    projected: Tensor = torch.fft.fftn(kspace, dim=dim, norm="ortho")
    return projected


def _convolved_conjugates(coils: Tensor, spectrum: Tensor) -> Tensor:
    """`(T z)*` of coil images, T Toeplitz with the spectrum of its embedding in twice the matrix.

    Axis by axis: rows that are zero before, or not needed after, are not transformed.
    """
    y, x = coils.shape[-2:]
    wide = torch.fft.fft(torch.fft.fft(coils, n=2 * x, dim=-1), n=2 * y, dim=-2)
    torch.view_as_real(wide).mul_(torch.stack((spectrum, -spectrum), -1)[:, None])
    high = torch.fft.fft(wide, dim=-2, norm="forward")[..., :y, :]
    convolved: Tensor = torch.fft.fft(high, dim=-1, norm="forward")[..., :x]
    return convolved.contiguous()


def _sample(coils: Tensor, weight: Tensor) -> Tensor:
    kspace: Tensor = torch.fft.fft2(coils, norm="ortho").mul_(weight[:, None])
    return kspace


def _spread(kspace: Tensor, weight: Tensor) -> Tensor:
    coils: Tensor = torch.fft.ifft2(kspace * torch.conj_physical(weight)[:, None], norm="ortho")
    return coils


def _image_like(image: Tensor, maps: Tensor) -> Tensor:
    return image.new_empty(maps.shape[0], 2 * maps.shape[1], *maps.shape[3:5])


@torch.library.custom_op("noref::sense_normal", mutates_args=())
def sense_normal(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """`AᴴA x = Σ_c S_c* Fᴴ M F S_c x`, image pairs in and out."""
    return back_to_pairs(normal(beside_maps(image, mask), torch.view_as_complex(maps), mask), mask)


@torch.library.custom_op("noref::sense_forward", mutates_args=())
def sense_forward(image: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    """`A x = M F S x`: image pairs to k-space pairs."""
    coils = expand(to_complex(image), torch.view_as_complex(maps))
    return torch.view_as_real(_sample(coils, torch.view_as_complex(weight))).contiguous()


@torch.library.custom_op("noref::sense_adjoint", mutates_args=())
def sense_adjoint(kspace: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    """`Aᴴ y = Σ_c S_c* Fᴴ M y_c`: k-space pairs to image pairs."""
    coils = _spread(torch.view_as_complex(kspace), torch.view_as_complex(weight))
    return to_pairs(combine(coils.conj_physical_(), torch.view_as_complex(maps)))


@sense_normal.register_fake
def _(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001 - the signature is the operator's
    return torch.empty_like(image, memory_format=torch.contiguous_format)


@sense_forward.register_fake
def _(image: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    return image.new_empty(maps.shape[0], maps.shape[2], *weight.shape[1:3], 2)


@sense_adjoint.register_fake
def _(kspace: Tensor, maps: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG001 - the signature is the operator's
    return _image_like(kspace, maps)


@torch.library.custom_op("noref::sense_normal_maps_gradient", mutates_args=())
def sense_normal_maps_gradient(gradient: Tensor, image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """Gradient of `Re⟨g, AᴴA x⟩` with respect to the maps: `conj(g) z_c + conj(x) P S_c g`, `z = P S x`."""
    complex_maps = torch.view_as_complex(maps)
    g, x = beside_maps(gradient, mask), beside_maps(image, mask)
    z = _projected_conjugates(expand(x, complex_maps), mask)
    w = _projected_conjugates(expand(g, complex_maps), mask)
    product = g[:, :, None] * z[:, None] + x[:, :, None] * w[:, None]
    return torch.view_as_real(product.conj_physical_()).contiguous()


@torch.library.custom_op("noref::sense_maps_gradient", mutates_args=())
def sense_maps_gradient(image: Tensor, kspace: Tensor, weight: Tensor) -> Tensor:
    """`conj(x_s) Fᴴ M y_c` per set and coil: the maps' gradient of both `A` and `Aᴴ`."""
    coils = _spread(torch.view_as_complex(kspace), torch.view_as_complex(weight))
    product = to_complex(image).conj_physical()[:, :, None] * coils[:, None]
    return torch.view_as_real(product).contiguous()


@sense_normal_maps_gradient.register_fake
def _(gradient: Tensor, image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001 - as above
    return torch.empty_like(maps, memory_format=torch.contiguous_format)


@sense_maps_gradient.register_fake
def _(image: Tensor, kspace: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG001 - as above
    batch, coils = kspace.shape[:2]
    return image.new_empty(batch, image.shape[1] // 2, coils, *image.shape[2:], 2)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001 - PyTorch's signature
    """Saves the input image or k-space only where learned maps will need it."""
    data, maps, mask = inputs
    ctx.save_for_backward(data if ctx.needs_input_grad[1] else None, maps, mask)


def _normal_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    image, maps, mask = ctx.saved_tensors
    gradient = gradient.contiguous()
    to_image = sense_normal(gradient, maps, mask) if ctx.needs_input_grad[0] else None
    to_maps = sense_normal_maps_gradient(gradient, image, maps, mask) if ctx.needs_input_grad[1] else None
    return to_image, to_maps, None


def _forward_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    image, maps, weight = ctx.saved_tensors
    gradient = gradient.contiguous()
    to_image = sense_adjoint(gradient, maps, weight) if ctx.needs_input_grad[0] else None
    to_maps = sense_maps_gradient(image, gradient, weight) if ctx.needs_input_grad[1] else None
    return to_image, to_maps, None


def _adjoint_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    kspace, maps, weight = ctx.saved_tensors
    gradient = gradient.contiguous()
    to_kspace = sense_forward(gradient, maps, weight) if ctx.needs_input_grad[0] else None
    to_maps = sense_maps_gradient(gradient, kspace, weight) if ctx.needs_input_grad[1] else None
    return to_kspace, to_maps, None


sense_normal.register_autograd(_normal_backward, setup_context=_keep)
sense_forward.register_autograd(_forward_backward, setup_context=_keep)
sense_adjoint.register_autograd(_adjoint_backward, setup_context=_keep)
