"""Generalised autocalibrating partially parallel acquisitions: missing lines by linear interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from noref.classical.lines import Predictor, interpolate
from noref.physics import Encoding


@dataclass(frozen=True)
class GRAPPA:
    """`ŷ = Σ w y` over the coils and neighbours of a sample (Griswold et al., MRM 2002, 47:1202).

    The weights of a missing line, `min_W ‖Y W − Z‖² + λ ‖W‖²`, are fitted on the ACS, where `Z` is known as
    well as its neighbours `Y`: the acquired lines beside it (`noref.classical.lines`), `width` samples of
    each. λ is `strength` times the mean eigenvalue of `YᴴY`, chosen by Γ: held-out lines are missing lines,
    twice as far from the acquired ones as the farthest others. The filled k-space is combined with the maps.

    Attributes:
        strengths: values to choose from, strongest first.
        width: of the kernel along the read-out, odd.
    """

    name: str = "grappa"
    strengths: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    width: int = 5
    evenly_spaced: ClassVar[bool] = True

    def __call__(
        self,
        kspace: Tensor,
        encoding: Encoding,
        strength: float,
        start: Tensor | None = None,  # noqa: ARG002 - solved directly
    ) -> Tensor:
        """Reconstructs a batch; see `Classical`.

        Raises:
            NorefError: if the lines are not evenly spaced, or the ACS is too short for their distance.
        """
        learner = partial(self._learn, strength=strength)
        return interpolate(kspace, encoding, learner, self.name.upper())

    def _learn(self, sources: Tensor, targets: Tensor, strength: float) -> Predictor:
        left, right = self._neighbours(sources), targets.movedim(1, -1).flatten(0, 1)
        # The normal equations square the condition: in double precision nothing is lost.
        left, right = left.to(torch.complex128), right.to(torch.complex128)
        normal = left.mH @ left
        normal.diagonal().add_(strength * normal.diagonal().real.mean())
        weights = torch.linalg.solve(normal, left.mH @ right).to(sources.dtype)
        return lambda beside: (
            (self._neighbours(beside) @ weights).view(len(beside), beside.shape[-1], -1).movedim(-1, 1)
        )

    def _neighbours(self, sources: Tensor) -> Tensor:
        """`Y`: lines `(lines, sources, coils, kx)` to `(lines · kx, sources · coils · width)`."""
        edge = self.width // 2
        windows = torch.nn.functional.pad(sources, (edge, edge)).unfold(-1, self.width, 1)
        return windows.movedim(3, 1).flatten(2).flatten(0, 1)
