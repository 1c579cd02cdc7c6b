"""What networks, methods and classical reconstructions know of an encoding operator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor

from noref.physics.operators import sense_normal
from noref.physics.pairs import to_complex, to_pairs
from noref.physics.solve import sense_solve


class Encoding(ABC):
    """How a batch of images becomes the samples of a mask, `A_M x`, and back.

    On the Cartesian grid and off it, k-space is complex `(batch, coils, ky, kx)`, the read-out last, and
    masks are bool `(batch, ky, kx)`: off the grid a line of ky is a spoke, or one read-out of any shape.
    Methods named `…_pairs` take and give images as (real, imaginary) channels, the form networks use.

    Attributes:
        folded: coil maps, real `(batch, sets, coils, y, x, 2)`, with what the operator folds into them.
        mask: bool `(batch, ky, kx)`, the samples that data consistency holds on.
        shown: bool `(batch, ky, kx)`, samples in the k-space that comes with it: those of the mask, and
            guesses that an image may begin with but need not agree with. None if there are no guesses.
        on_grid: whether samples lie on the Cartesian grid, so that k-space is an image that can be filled in.
    """

    folded: Tensor
    mask: Tensor
    shown: Tensor | None
    on_grid: ClassVar[bool]

    @property
    def sets(self) -> int:
        """Number of map sets, the channels of a complex image."""
        return self.folded.shape[1]

    @property
    def coils(self) -> int:
        """Number of coils."""
        return self.folded.shape[2]

    @property
    def shape(self) -> tuple[int, int]:
        """Image matrix `(y, x)`."""
        return self.folded.shape[3], self.folded.shape[4]

    @property
    @abstractmethod
    def maps(self) -> Tensor:
        """Coil maps as users know them, complex `(batch, sets, coils, y, x)`."""

    @abstractmethod
    def with_mask(self, mask: Tensor, lines: bool | None = None) -> Self:
        """The same coils with another mask, bool `(batch, ky, kx)`; `lines` as for `cartesian`."""

    @abstractmethod
    def with_maps(self, maps: Tensor) -> Self:
        """The same samples with other maps, complex `(batch, sets, coils, y, x)`."""

    @abstractmethod
    def turned(self, phase: Tensor) -> Self:
        """`A·diag(p)`: images with the phase `p`, complex `(batch, sets, y, x)`, left out."""

    @abstractmethod
    def beginning(self) -> Self:
        """The operator of all that is shown: what a first image is made with."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same operator on another device."""

    @abstractmethod
    def forward_pairs(self, image: Tensor) -> Tensor:
        """`A x`: pairs `(batch, 2·sets, y, x)` to real k-space `(batch, coils, ky, kx, 2)`."""

    @abstractmethod
    def adjoint_pairs(self, kspace: Tensor) -> Tensor:
        """`Aᴴ y`: real k-space `(batch, coils, ky, kx, 2)` to pairs `(batch, 2·sets, y, x)`."""

    @property
    @abstractmethod
    def kernel(self) -> tuple[Tensor, Tensor]:
        """What `operators.sense_normal` makes `AᴴA` of: coil maps beside a mask or a spectrum, see there."""

    def normal_pairs(self, image: Tensor) -> Tensor:
        """`AᴴA x` on pairs `(batch, 2·sets, y, x)`."""
        normal: Tensor = sense_normal(image.contiguous(), *self.kernel)
        return normal

    def solve_pairs(
        self, right: Tensor, damping: float | Tensor, *, iterations: int = 50, tolerance: float = 1e-6
    ) -> Tensor:
        """`(AᴴA + λ)⁻¹ b` by conjugate gradients on pairs, with an implicit gradient."""
        damping = torch.as_tensor(damping, dtype=right.dtype, device=right.device).reshape(1)
        solution: Tensor = sense_solve(right.contiguous(), damping, *self.kernel, iterations, tolerance)
        return solution

    def restrict(self, mask: Tensor) -> Self:
        """The same coils with the samples that are in both masks."""
        return self.with_mask(self.mask & mask)

    def full(self) -> Self:
        """The same coils, every sample: `F S` on the grid; off it all that the trajectory holds."""
        return self.with_mask(torch.ones_like(self.mask), lines=True)

    def forward(self, image: Tensor) -> Tensor:
        """`A x`: complex image `(batch, sets, y, x)` to complex k-space `(batch, coils, ky, kx)`."""
        return torch.view_as_complex(self.forward_pairs(to_pairs(image)))

    def adjoint(self, kspace: Tensor) -> Tensor:
        """`Aᴴ y`: complex k-space `(batch, coils, ky, kx)` to complex image `(batch, sets, y, x)`."""
        return to_complex(self.adjoint_pairs(torch.view_as_real(kspace.resolve_conj())))

    def normal(self, image: Tensor) -> Tensor:
        """`AᴴA x` on complex images `(batch, sets, y, x)`."""
        return to_complex(self.normal_pairs(to_pairs(image)))

    def solve(
        self, right: Tensor, damping: float | Tensor, *, iterations: int = 50, tolerance: float = 1e-6
    ) -> Tensor:
        """`(AᴴA + λ)⁻¹ b` on complex images `(batch, sets, y, x)`."""
        return to_complex(
            self.solve_pairs(to_pairs(right), damping, iterations=iterations, tolerance=tolerance)
        )

    def consistent(self, image: Tensor, kspace: Tensor) -> Tensor:
        """Data consistency, `M y + (1 − M) A x`, A of every sample: complex `(batch, coils, ky, kx)`."""
        return torch.where(self.mask[:, None], kspace, self.full().forward(image))

    @abstractmethod
    def put_back(self, image: Tensor, kspace: Tensor) -> Tensor:
        """`SᴴS x + Aᴴ(y − A x)`: the image `(batch, sets, y, x)` with what was measured put back.

        On the Cartesian grid it is `Sᴴ Fᴴ (M y + (1 − M) F S x)`.

        Args:
            image: complex `(batch, sets, y, x)`.
            kspace: complex `(batch, coils, ky, kx)`.
        """
