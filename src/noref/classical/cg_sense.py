"""Iterative SENSE: regularised least squares by conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noref.physics import Encoding, conjugate_gradients, to_complex, to_pairs


@dataclass(frozen=True)
class CGSense:
    """`min_x ½‖A x − y‖² + λ/2 ‖x‖²`, that is `(AᴴA + λ) x = Aᴴ y` (Pruessmann et al., MRM 2001, 46:638).

    Maps of unit norm make the largest eigenvalue of `AᴴA` 1, so that λ is relative to it.

    Attributes:
        strengths: values of λ to choose from, strongest first.
        iterations: of conjugate gradients, at most.
        tolerance: stop once the residual is below this share of `Aᴴ y`.
    """

    name: str = "cg-sense"
    strengths: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
    iterations: int = 50
    tolerance: float = 1e-4
    evenly_spaced: ClassVar[bool] = False

    def __call__(
        self, kspace: Tensor, encoding: Encoding, strength: float, start: Tensor | None = None
    ) -> Tensor:
        """Reconstructs a batch; see `Classical`."""
        solution = conjugate_gradients(
            lambda x: encoding.normal_pairs(x).add_(x, alpha=strength),
            encoding.adjoint_pairs(torch.view_as_real(kspace)),
            iterations=self.iterations,
            tolerance=self.tolerance,
            start=None if start is None else to_pairs(start),
        )
        return to_complex(solution)
