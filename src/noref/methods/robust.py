"""Robust SSDU: learns to remove noise as well, from noisy scans alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch

from noref.data.noise import air_power, noise_level
from noref.errors import NorefError
from noref.methods.base import need_grid
from noref.methods.view import View
from noref.methods.weighted import Weighted
from noref.networks.base import Estimate, Network
from noref.sampling.partition import Partition
from noref.scan import Scan, ScanBatch
from noref.seeding import Key


class Robust(Weighted):
    """Weighted SSDU from even noisier input (Millard & Chiew, arXiv 2210.01696).

    The network sees `Θ (y + n₂)`, `n₂ ~ CN(0, α²σ²)`, and squared errors of `F S x̂` weigh `(1 − K)⁻¹` on Λ,
    against y, and 1 on Θ, against `y − n₂/α²`. The noise of that has nothing to do with the input's: the best
    x̂ is the mean of the noiseless images, `E[x | Θ (y + n₂)]`.

    This is the paper's loss, `((1 + α²)/α²)² |v − y|²` on Θ, in terms of what it makes of v in the end,
    `F S x̂ = ((1 + α²) v − Θ(y + n₂))/α²`. Its v holds `1/(1 + α²)` of the input's noise; of several coils no
    image does. With `v = F S x̂` the correction would leave `(1 − λ)/(α⁴ + (1 + 2α²) λ)` of the noise where
    AᴴA has an eigenvalue λ: nothing with one coil (λ is 0 or 1), nearly all at λ = ¼, α = 0.75. Only squared
    errors teach a mean: loss terms `nmse` or `mse`.

    Args:
        partition: divides Ω into Θ and Λ, drawn anew each epoch.
        alpha: α, the added noise as a multiple of the scan's.
        sigma: σ, standard deviation of the complex noise in a coil's sample, in the file's units (1 after
            prewhitening). If None that of the median coil in the scan's noise covariance, or without one an
            estimate, `data.noise.noise_level`: an upper bound, too high where signal reaches all of the
            border of k-space and of the image. With `air` that of the air around the object,
            `data.noise.air_power`: for scans that were filtered along the read-out, the border of whose
            k-space holds less noise than the rest.
    """

    def __init__(
        self,
        partition: Partition = Partition(),  # noqa: B008 - frozen
        alpha: float = 0.75,
        sigma: float | Literal["air"] | None = None,
    ) -> None:
        super().__init__(partition)
        if not alpha > 0 or (isinstance(sigma, int | float) and not sigma > 0):
            raise NorefError(f"Robust: alpha is {alpha}, sigma {sigma}; give numbers above 0")
        if isinstance(sigma, str) and sigma != "air":
            raise NorefError(f"Robust: sigma is {sigma!r}; give a number, `air` or null")
        self.alpha, self.sigma = alpha, sigma

    def meet(self, network: Network) -> None:
        """Refuses losses that teach no mean, and networks that put back their input, noise included."""
        super().meet(network)
        loss = self.objective
        if loss.dual or loss.image or not set(loss.kspace) <= {"nmse", "mse"}:
            raise NorefError(
                "Robust: squared errors in k-space alone teach it to remove noise; set "
                "loss={kspace: {nmse: 1}}, without loss.image and loss.dual"
            )
        for part in network.modules():
            if isinstance(part, Network) and part.keeps_samples:
                raise NorefError(
                    f"Robust: {type(part).__name__} ends in hard data consistency, which keeps the noise; "
                    "choose another network"
                )

    def view(self, scan: Scan, key: Key) -> list[View]:
        """One view: Θ shown with more noise, all of Ω graded.

        A teacher's guess is shown with as much noise as a measured sample, and graded without any.
        """
        need_grid(scan, "where its samples' noise is not the same for all")
        (view,) = super().view(scan, key)
        kspace, generator = scan.kspace, key.fold("noise").torch()
        noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
        spread = torch.where(scan.measured, self.alpha, math.hypot(1, self.alpha)) * self.noise(scan)
        added = torch.where(view.shown, spread * noise, 0)
        return [
            replace(
                view,
                scan=replace(scan, kspace=kspace + added),
                goal=torch.where(scan.measured, kspace - added / self.alpha**2, kspace),
                weight=torch.where(view.shown, 1.0, view.weight),
            )
        ]

    def noise(self, scan: Scan) -> float:
        """σ in the units of the scan's k-space."""
        if self.sigma == "air":
            air = air_power(scan)
            if air is None:
                raise NorefError(
                    f"{scan.id}: the centre of k-space that was sampled whole is too small to show the air; "
                    "give method.sigma a number"
                )
            return float(air.median().sqrt())
        if self.sigma is not None:
            return self.sigma / abs(scan.scale)
        if scan.noise_cov is not None:
            return float(scan.noise_cov.diagonal().real.median().sqrt())
        level, found = noise_level(scan)
        if level is None:
            raise NorefError(f"{scan.id}: {found}, so its noise cannot be estimated; give method.sigma")
        return level

    def reconstruct(self, network: Network, batch: ScanBatch) -> Estimate:
        """The network's image of Ω within the coil maps: nothing else of it was graded."""
        estimate: Estimate = network(batch.kspace, batch.encoding())
        return replace(estimate, image=estimate.encoding.full().normal(estimate.image))
