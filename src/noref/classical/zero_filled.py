"""What the scan gives without any reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from noref.physics import Encoding


@dataclass(frozen=True)
class ZeroFilled:
    """`Aᴴ y`: the coil-combined image with zeros for every sample that was not acquired."""

    name: str = "zero-filled"
    strengths: tuple[float, ...] = ()

    def __call__(
        self,
        kspace: Tensor,
        encoding: Encoding,
        strength: float = 0.0,  # noqa: ARG002 - nothing to regularise
        start: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Reconstructs a batch.

        Args:
            kspace: complex64 `(batch, coils, ky, kx)`; samples outside the encoding's mask are not read.
            encoding: of the samples.
            strength: not used.
            start: not used.

        Returns:
            complex64 `(batch, sets, y, x)`.
        """
        return encoding.adjoint(kspace)
