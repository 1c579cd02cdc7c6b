"""The encoding operator off the Cartesian grid, `A_M = M W F S`: radial, spiral, or any other trajectory.

`F` is the transform at the places of a trajectory (`nufft`), `W` multiplies every sample by the root of its
density compensation w (`compensation`), and the k-space that comes with it was multiplied by the same. Then
`Aᴴ` is gridding, `AᴴA` has eigenvalues up to 1 as on the grid, and squared errors of samples add up to that
of the part of k-space that they cover.

`AᴴA = Sᴴ T S`, `T` block Toeplitz: a convolution with `Σ_j M_j w_j exp(2πi k_j·n/N)/(Ny Nx)`, computed by FFT
on twice the matrix (Fessler et al., IEEE TSP 2005, 53:3393).

The custom operators take and give (real, imaginary) pairs, as those in `operators`:

    image       real `(batch, 2·sets, y, x)`
    kspace      real `(batch, coils, ky, kx, 2)`
    maps        real `(batch, sets, coils, y, x, 2)`
    trajectory  real `(batch, ky, kx, 2)`, cycles per field of view along y and x
    weight      real `(batch, ky, kx)`, `M √w`
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from noref.physics.encoding import Encoding
from noref.physics.nufft import Shape, nufft, nufft_adjoint
from noref.physics.operators import combine, expand
from noref.physics.pairs import to_complex, to_pairs
from noref.seeding import Key

_PIPE_MENON, _POWER = 15, 40
"""Iterations of the density compensation, to a per cent, and of its largest eigenvalue."""


@dataclass(frozen=True)
class NonCartesianEncoding(Encoding):
    """How a batch of images becomes the samples of a trajectory: `A_M x = M W F Σ_s S_s x_s`.

    Build it with `noncartesian`.

    Attributes:
        folded: maps, real `(batch, sets, coils, y, x, 2)`; nothing is folded in.
        mask: bool `(batch, ky, kx)`, the samples that data consistency holds on.
        trajectory: real `(batch, ky, kx, 2)`, cycles per field of view along y and x.
        weights: real `(batch, ky, kx)`, the root of the density compensation.
        shown: None: guesses have no place off the grid.
    """

    folded: Tensor
    mask: Tensor
    trajectory: Tensor
    weights: Tensor
    shown: None = None
    on_grid: ClassVar[bool] = False

    @cached_property
    def maps(self) -> Tensor:
        """Coil maps, complex `(batch, sets, coils, y, x)`."""
        return torch.view_as_complex(self.folded)

    @cached_property
    def _weight(self) -> Tensor:
        return (self.mask * self.weights).contiguous()

    @cached_property
    def kernel(self) -> tuple[Tensor, Tensor]:
        """What `operators.sense_normal` makes `AᴴA` of; see `Encoding`."""
        return self.folded, toeplitz_spectrum(self._weight.square(), self.trajectory, *self.shape)

    def with_mask(self, mask: Tensor, lines: bool | None = None) -> NonCartesianEncoding:
        """The same coils with another mask, bool `(batch, ky, kx)`, of the samples of the trajectory."""
        del lines  # nothing is cheaper for whole spokes
        return replace(self, mask=mask)

    def beginning(self) -> NonCartesianEncoding:
        """The same operator: nothing but samples is shown."""
        return self

    def with_maps(self, maps: Tensor) -> NonCartesianEncoding:
        """The same samples with other maps, complex `(batch, sets, coils, y, x)`."""
        return replace(self, folded=torch.view_as_real(maps.resolve_conj()).contiguous())

    def turned(self, phase: Tensor) -> NonCartesianEncoding:
        """`A·diag(p)`: images with the phase `p`, complex `(batch, sets, y, x)`, left out."""
        return self.with_maps(self.maps * phase[:, :, None])

    def to(self, device: torch.device | str) -> NonCartesianEncoding:
        """The same operator on another device."""
        return replace(
            self,
            folded=self.folded.to(device),
            mask=self.mask.to(device),
            trajectory=self.trajectory.to(device),
            weights=self.weights.to(device),
        )

    def forward_pairs(self, image: Tensor) -> Tensor:
        """`A x`: pairs `(batch, 2·sets, y, x)` to real k-space `(batch, coils, ky, kx, 2)`."""
        kspace: Tensor = spoke_forward(image.contiguous(), self.folded, self.trajectory, self._weight)
        return kspace

    def adjoint_pairs(self, kspace: Tensor) -> Tensor:
        """`Aᴴ y`: real k-space `(batch, coils, ky, kx, 2)` to pairs `(batch, 2·sets, y, x)`."""
        image: Tensor = spoke_adjoint(kspace.contiguous(), self.folded, self.trajectory, self._weight)
        return image

    def put_back(self, image: Tensor, kspace: Tensor) -> Tensor:
        """`SᴴS x + Aᴴ(y − A x)`; see `Encoding`."""
        within = combine(expand(image, self.maps).conj_physical(), self.maps)
        return within + self.adjoint(kspace - self.forward(image))


def noncartesian(
    mask: Tensor, maps: Tensor, trajectory: Tensor, weights: Tensor | None = None
) -> NonCartesianEncoding:
    """The encoding operator of a batch off the Cartesian grid.

    Args:
        mask: bool `(batch, ky, kx)`, of the samples.
        maps: complex `(batch, sets, coils, y, x)`, on the grid of the image.
        trajectory: real `(batch, ky, kx, 2)`, cycles per field of view along y and x.
        weights: real `(batch, ky, kx)`, the root of the density compensation, by which the k-space that comes
            with it was multiplied; ones if None.

    Raises:
        ValueError: if mask, maps and trajectory do not fit one another.
    """
    if trajectory.shape != (*mask.shape, 2) or mask.shape[0] != maps.shape[0]:
        raise ValueError(
            f"a trajectory of {tuple(trajectory.shape)} and a mask of {tuple(mask.shape)} do not fit one "
            f"another and maps of {tuple(maps.shape)}"
        )
    folded = torch.view_as_real(maps.resolve_conj()).contiguous()
    weights = torch.ones_like(trajectory[..., 0]) if weights is None else weights
    return NonCartesianEncoding(folded, mask, trajectory.to(folded.dtype), weights.to(folded.dtype))


@torch.library.custom_op("noref::toeplitz_spectrum", mutates_args=())
def toeplitz_spectrum(weight: Tensor, trajectory: Tensor, y: int, x: int) -> Tensor:
    """Eigenvalues of the circulant of twice the matrix in which `Fᴴ diag(w) F` is embedded.

    Args:
        weight: w, real `(batch, ky, kx)`.
        trajectory: real `(batch, ky, kx, 2)`, cycles per field of view along y and x.
        y: rows of the images.
        x: their columns.

    Returns:
        real `(batch, 2·y, 2·x)`, in the FFT's order.
    """
    twice = (2 * y, 2 * x)
    # On twice the field of view the same wave has twice the cycles.
    kernel = nufft_adjoint(_as_complex(weight)[:, None], 2 * trajectory, twice)[:, 0]
    # Lags of the whole matrix occur in no image; zero, they leave the spectrum real.
    kernel[:, 0] = 0
    kernel[:, :, 0] = 0
    spectrum: Tensor = torch.fft.fft2(torch.fft.ifftshift(kernel, dim=(-2, -1))).real
    # The adjoint is orthonormal on twice the matrix, F on the matrix.
    return (spectrum * (2 / math.sqrt(y * x))).contiguous()


@toeplitz_spectrum.register_fake
def _(weight: Tensor, trajectory: Tensor, y: int, x: int) -> Tensor:  # noqa: ARG001 - the signature is the operator's
    return weight.new_empty(weight.shape[0], 2 * y, 2 * x)


def compensation(trajectory: Tensor, mask: Tensor, shape: Shape) -> Tensor:
    """Density compensation w of a trajectory: the area of k-space that each sample stands for.

    The fixed point of `w_j Σ_i M_i w_i ψ(k_j − k_i) = w_j`, ψ(k) = sinc²(k_y) sinc²(k_x) the transform of the
    field of view's autocorrelation (Pipe & Menon, MRM 1999, 41:179; the kernel, Johnson & Pipe, MRM 2009,
    61:439), divided by the largest eigenvalue of `Fᴴ M diag(w) F`. Full Cartesian sampling gives ones. Where
    samples lie apart, each stands for itself and for nothing that was not sampled, as after zero-filling.

    Args:
        trajectory: real `(ky, kx, 2)`, cycles per field of view along y and x.
        mask: bool `(ky, kx)`, M, the samples that share k-space; those outside are given the area that they
            would have among them.
        shape: `(y, x)` of the image.

    Returns:
        float32 `(ky, kx)`, above 0.
    """
    twice = (2 * shape[0], 2 * shape[1])
    places = 2 * trajectory[None]
    triangle = [1 - (torch.arange(2 * n, device=trajectory.device) - n).abs() / n for n in shape]
    window = triangle[0][:, None] * triangle[1]
    shared = mask.to(torch.float32)
    weight = torch.ones_like(shared)
    for _ in range(_PIPE_MENON):
        samples = _as_complex(weight * shared)[None, None]
        # Orthonormal there and back on twice the matrix divides by 4 Ny Nx, and ψ(0) is to be 1.
        density = 4 * nufft(window * nufft_adjoint(samples, places, twice), places)[0, 0].real
        # A sample of M is there itself: less is rounding. One outside may have nothing near it.
        weight = (weight / torch.maximum(density, weight * shared)).clamp_max(1)
    return weight / _largest_eigenvalue(weight * shared, trajectory, shape)


def _largest_eigenvalue(weight: Tensor, trajectory: Tensor, shape: Shape) -> float:
    """Of `Fᴴ diag(w) F`, by the power method."""
    ones = torch.ones(1, 1, 1, *shape, dtype=torch.complex64, device=weight.device)
    encoding = noncartesian(weight[None] > 0, ones, trajectory[None], weight[None].sqrt())
    generator = Key(0, "", "largest eigenvalue").torch()
    image = torch.randn(1, 2, *shape, generator=generator).to(weight.device)
    value = torch.ones(())
    for _ in range(_POWER):
        image = encoding.normal_pairs(image)
        value = image.norm()
        image = image / value
    return float(value)


def _as_complex(real: Tensor) -> Tensor:
    return torch.complex(real, torch.zeros_like(real))


@torch.library.custom_op("noref::spoke_forward", mutates_args=())
def spoke_forward(image: Tensor, maps: Tensor, trajectory: Tensor, weight: Tensor) -> Tensor:
    """`A x = M W F S x`: image pairs to k-space pairs."""
    samples = nufft(expand(to_complex(image), torch.view_as_complex(maps)), trajectory)
    return torch.view_as_real(samples.mul_(weight[:, None])).contiguous()


@torch.library.custom_op("noref::spoke_adjoint", mutates_args=())
def spoke_adjoint(kspace: Tensor, maps: Tensor, trajectory: Tensor, weight: Tensor) -> Tensor:
    """`Aᴴ y = Σ_c S_c* Fᴴ W M y_c`: k-space pairs to image pairs."""
    coils = _spread(kspace, maps, trajectory, weight)
    return to_pairs(combine(coils.conj_physical_(), torch.view_as_complex(maps)))


@torch.library.custom_op("noref::spoke_maps_gradient", mutates_args=())
def spoke_maps_gradient(
    image: Tensor, kspace: Tensor, maps: Tensor, trajectory: Tensor, weight: Tensor
) -> Tensor:
    """`conj(x_s) Fᴴ W M y_c` per set and coil: the maps' gradient of both `A` and `Aᴴ`."""
    coils = _spread(kspace, maps, trajectory, weight)
    product = to_complex(image).conj_physical()[:, :, None] * coils[:, None]
    return torch.view_as_real(product).contiguous()


def _spread(kspace: Tensor, maps: Tensor, trajectory: Tensor, weight: Tensor) -> Tensor:
    shape = (maps.shape[3], maps.shape[4])
    return nufft_adjoint(torch.view_as_complex(kspace) * weight[:, None], trajectory, shape)


@spoke_forward.register_fake
def _(image: Tensor, maps: Tensor, trajectory: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG001 - the signature is the operator's
    return image.new_empty(maps.shape[0], maps.shape[2], *weight.shape[1:3], 2)


@spoke_adjoint.register_fake
def _(kspace: Tensor, maps: Tensor, trajectory: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG001 - as above
    return kspace.new_empty(maps.shape[0], 2 * maps.shape[1], *maps.shape[3:5])


@spoke_maps_gradient.register_fake
def _(image: Tensor, kspace: Tensor, maps: Tensor, trajectory: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG001 - as above
    return torch.empty_like(maps, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001 - PyTorch's signature
    """Saves the input image or k-space only where learned maps will need it."""
    data, maps, trajectory, weight = inputs
    ctx.save_for_backward(data if ctx.needs_input_grad[1] else None, maps, trajectory, weight)


def _forward_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    image, *rest = ctx.saved_tensors
    gradient = gradient.contiguous()
    to_image = spoke_adjoint(gradient, *rest) if ctx.needs_input_grad[0] else None
    to_maps = spoke_maps_gradient(image, gradient, *rest) if ctx.needs_input_grad[1] else None
    return to_image, to_maps, None, None


def _adjoint_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    kspace, *rest = ctx.saved_tensors
    gradient = gradient.contiguous()
    to_kspace = spoke_forward(gradient, *rest) if ctx.needs_input_grad[0] else None
    to_maps = spoke_maps_gradient(gradient, kspace, *rest) if ctx.needs_input_grad[1] else None
    return to_kspace, to_maps, None, None


spoke_forward.register_autograd(_forward_backward, setup_context=_keep)
spoke_adjoint.register_autograd(_adjoint_backward, setup_context=_keep)
