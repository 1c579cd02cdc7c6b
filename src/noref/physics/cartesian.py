"""The Cartesian encoding operator `A_M = M F S`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from noref.physics.encoding import Encoding
from noref.physics.fourier import centring_phases
from noref.physics.operators import sense_adjoint, sense_forward


@dataclass(frozen=True)
class CartesianEncoding(Encoding):
    """How a batch of images becomes the samples of a mask: `A_M x = M F Σ_s S_s x_s`.

    Build it with `cartesian`; `restrict` and `full` derive operators with other masks without touching the
    maps.

    Attributes:
        folded: maps with the centring phase folded in, real `(batch, sets, coils, y, x, 2)`.
        mask: bool `(batch, ky, kx)`, the samples that data consistency holds on.
        phases: `D_k` of the centred transform, complex `(ky, kx)`.
        lines: whether every mask, and what is shown, is constant along the read-out, so that `AᴴA` needs no
            FFT there.
        shown: bool `(batch, ky, kx)`, samples in the k-space that comes with it: those of the mask, and
            guesses that an image may begin with but need not agree with. None if there are no guesses.
    """

    folded: Tensor
    mask: Tensor
    phases: Tensor
    lines: bool
    shown: Tensor | None = None
    on_grid: ClassVar[bool] = True

    @cached_property
    def maps(self) -> Tensor:
        """Coil maps as users know them, complex `(batch, sets, coils, y, x)`."""
        folded = torch.view_as_complex(self.folded)
        d_x, _ = centring_phases(self.shape, folded.dtype, folded.device)
        return folded * d_x.conj()

    @cached_property
    def kernel(self) -> tuple[Tensor, Tensor]:
        """What `operators.sense_normal` makes `AᴴA` of; see `Encoding`."""
        maps = self.folded.transpose(3, 4).contiguous() if self.lines else self.folded
        mask = self.mask[..., :1] if self.lines else self.mask
        return maps, mask.to(maps.dtype).contiguous()

    @cached_property
    def _weight(self) -> Tensor:
        return torch.view_as_real(self.mask * self.phases).contiguous()

    def with_mask(self, mask: Tensor, lines: bool | None = None) -> CartesianEncoding:
        """The same coils with another mask, bool `(batch, ky, kx)`; `lines` as for `cartesian`."""
        lines = constant_along_readout(mask) if lines is None else lines
        return replace(self, mask=mask, lines=lines, shown=None)

    def beginning(self) -> CartesianEncoding:
        """The operator of all that is shown: what a first image is made with."""
        return self if self.shown is None else self.with_mask(self.shown, self.lines)

    def with_maps(self, maps: Tensor) -> CartesianEncoding:
        """The same samples with other maps, complex `(batch, sets, coils, y, x)`."""
        d_x, _ = centring_phases(self.shape, maps.dtype, maps.device)
        return replace(self, folded=torch.view_as_real(maps * d_x).contiguous())

    def turned(self, phase: Tensor) -> CartesianEncoding:
        """`A·diag(p)`: images with the phase `p`, complex `(batch, sets, y, x)`, left out."""
        folded = torch.view_as_complex(self.folded) * phase[:, :, None]
        return replace(self, folded=torch.view_as_real(folded).contiguous())

    def to(self, device: torch.device | str) -> CartesianEncoding:
        """The same operator on another device."""
        return replace(
            self,
            folded=self.folded.to(device),
            mask=self.mask.to(device),
            phases=self.phases.to(device),
            shown=None if self.shown is None else self.shown.to(device),
        )

    def forward_pairs(self, image: Tensor) -> Tensor:
        """`A x`: pairs `(batch, 2·sets, y, x)` to real k-space `(batch, coils, ky, kx, 2)`."""
        kspace: Tensor = sense_forward(image.contiguous(), self.folded, self._weight)
        return kspace

    def adjoint_pairs(self, kspace: Tensor) -> Tensor:
        """`Aᴴ y`: real k-space `(batch, coils, ky, kx, 2)` to pairs `(batch, 2·sets, y, x)`."""
        image: Tensor = sense_adjoint(kspace.contiguous(), self.folded, self._weight)
        return image

    def put_back(self, image: Tensor, kspace: Tensor) -> Tensor:
        """`Sᴴ Fᴴ (M y + (1 − M) F S x)`; see `Encoding`."""
        return self.full().adjoint(self.consistent(image, kspace))


def constant_along_readout(mask: Tensor) -> bool:
    """Whether a mask `(…, ky, kx)` is made of whole lines along the read-out, the last axis."""
    if mask.device.type == "cpu":
        # NumPy compares and reduces booleans many times as fast.
        held = mask.numpy()
        return bool((held == held[..., :1]).all())
    return bool((mask == mask[..., :1]).all())


def cartesian(
    mask: Tensor, maps: Tensor, shown: Tensor | None = None, lines: bool | None = None
) -> CartesianEncoding:
    """The Cartesian encoding operator of a batch.

    Args:
        mask: bool `(batch, ky, kx)`.
        maps: complex `(batch, sets, coils, y, x)`, on the grid of the mask.
        shown: bool `(batch, ky, kx)`, the mask and guesses beside it, or None without guesses.
        lines: whether all of these are made of whole lines along the read-out. None looks, for which a GPU
            must be waited for; False is never wrong.

    Raises:
        ValueError: if mask and maps have different matrices or batch sizes.
    """
    if mask.shape[-2:] != maps.shape[-2:] or mask.shape[0] != maps.shape[0]:
        raise ValueError(f"a mask of {tuple(mask.shape)} does not fit maps of {tuple(maps.shape)}")
    d_x, d_k = centring_phases((maps.shape[-2], maps.shape[-1]), maps.dtype, maps.device)
    folded = torch.view_as_real(maps * d_x).contiguous()
    if lines is None:
        lines = all(constant_along_readout(one) for one in (mask, shown) if one is not None)
    return CartesianEncoding(folded, mask, d_k, lines, shown)
