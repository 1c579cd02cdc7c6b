"""What the scan gives without any reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noref.physics import Encoding


@dataclass(frozen=True)
class ZeroFilled:
    """`Aᴴ y`: the coil-combined image with zeros for every sample that was not acquired."""

    name: str = "zero-filled"
    strengths: tuple[float, ...] = ()
    evenly_spaced: ClassVar[bool] = False

    def __call__(
        self,
        kspace: Tensor,
        encoding: Encoding,
        strength: float = 0.0,  # noqa: ARG002 - nothing to regularise
        start: Tensor | None = None,  # noqa: ARG002 - nothing to iterate
    ) -> Tensor:
        """Reconstructs a batch; see `Classical`."""
        return encoding.adjoint(kspace)
