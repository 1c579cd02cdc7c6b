"""What a reconstruction is graded by: k-space and image losses, one number per scan.

All ratios are formed per scan, and averaged over scans afterwards. With weights `w ≥ 0` per sample (zero
where a sample is not graded), `u` the goal and `v` the estimate:

    l1    Σ w |u − v|₁ / Σ w |u|₁        |·|₁ over real and imaginary parts
    l2    (Σ w |u − v|² / Σ w |u|²)^½
    nmse  Σ w |u − v|² / Σ w |u|²
    mse   Σ w |u − v|² / Σ w             mean over the samples that count, coils summed
    mae   Σ w |u − v|₁ / Σ w             likewise

Images are also graded by `ssim` (one minus it), and by `hfen1` and `hfen2`: `l1` and `nmse` of their edges,
the Laplacian of Gaussian. SSDU's loss is `½·l2 + ½·l1` (Yaman et al., MRM 2020, eq. 6); JSSL's, with `dual`,
is `2·l1 + 2·nmse` in k-space and `2·mae + 2·ssim + hfen1 + hfen2` of images (arXiv 2311.15856).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from noref.metrics import laplacian_of_gaussian, ssim
from noref.sampling.density import inverse_density

_TINY = 1e-12


def _parts(goal: Tensor, estimate: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Goal and error as real numbers, real and imaginary parts one after the other, and their weights."""
    error = goal - estimate
    if not goal.is_complex():
        return goal, error, weight
    # Written out: with a last axis that is broadcast CPUs take four times as long.
    pairs = weight[..., None].expand(*weight.shape, 2).contiguous()
    return torch.view_as_real(goal), torch.view_as_real(error), pairs


def _sum(weighted: Tensor) -> Tensor:
    return weighted.flatten(1).sum(1)


def _l1(goal: Tensor, estimate: Tensor, weight: Tensor) -> Tensor:
    goal, error, weight = _parts(goal, estimate, weight)
    return _sum(weight * error.abs()) / _sum(weight * goal.abs()).clamp_min(_TINY)


def _squares(goal: Tensor, estimate: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    goal, error, weight = _parts(goal, estimate, weight)
    return _sum(weight * error.square()), _sum(weight * goal.square())


def _nmse(goal: Tensor, estimate: Tensor, weight: Tensor) -> Tensor:
    error, power = _squares(goal, estimate, weight)
    return error / power.clamp_min(_TINY)


def _l2(goal: Tensor, estimate: Tensor, weight: Tensor) -> Tensor:
    return (_nmse(goal, estimate, weight) + _TINY).sqrt()


def _mse(goal: Tensor, estimate: Tensor, weight: Tensor) -> Tensor:
    return _squares(goal, estimate, weight)[0] / weight.flatten(1).sum(1).clamp_min(_TINY)


def _mae(goal: Tensor, estimate: Tensor, weight: Tensor) -> Tensor:
    _, error, pairs = _parts(goal, estimate, weight)
    return _sum(pairs * error.abs()) / weight.flatten(1).sum(1).clamp_min(_TINY)


def _ssim(goal: Tensor, estimate: Tensor, weight: Tensor) -> Tensor:
    del weight  # SSIM is a window's, not a pixel's
    return torch.stack([1 - ssim(g, e) for g, e in zip(goal, estimate, strict=True)])


def _hfen1(goal: Tensor, estimate: Tensor, weight: Tensor) -> Tensor:
    return _l1(laplacian_of_gaussian(goal), laplacian_of_gaussian(estimate), weight)


def _hfen2(goal: Tensor, estimate: Tensor, weight: Tensor) -> Tensor:
    return _nmse(laplacian_of_gaussian(goal), laplacian_of_gaussian(estimate), weight)


Term = Callable[[Tensor, Tensor, Tensor], Tensor]
TERMS: dict[str, Term] = {"l1": _l1, "l2": _l2, "nmse": _nmse, "mse": _mse, "mae": _mae}
IMAGE_TERMS: dict[str, Term] = {**TERMS, "ssim": _ssim, "hfen1": _hfen1, "hfen2": _hfen2}


@dataclass(frozen=True)
class Objective:
    """The weighted sum of losses that training minimises.

    Attributes:
        kspace: weight of each k-space term, by name.
        image: weight of each image term, on magnitudes, for scans that have a goal image.
        dual: JSSL's dual-domain form. Samples that were shown are put back into the k-space that is graded,
            `ŷ = M y + (1 − M) F S x̂`; and scans without a goal image are graded by the image terms too, on
            the combined images of the graded samples alone, `Aᴴ Λ y` and `Aᴴ Λ ŷ`.
        weighting: `density` multiplies each sample's weight with the inverse of the probability that it was
            acquired, so that the sum stands for all of k-space; `none` is the papers' plain mean, which on
            variable-density masks grades low frequencies almost alone.
        penalty: γ, the weight of what the network itself wants small; above 0 for networks that have such.
    """

    kspace: dict[str, float] = field(default_factory=lambda: {"l1": 0.5, "l2": 0.5})
    image: dict[str, float] = field(default_factory=dict)
    dual: bool = False
    weighting: Literal["density", "none"] = "density"
    penalty: float = 0.0

    def __post_init__(self) -> None:
        if not (self.kspace or self.image):
            raise ValueError("no loss at all; give loss.kspace or loss.image a term")
        if min((*self.kspace.values(), *self.image.values(), self.penalty)) < 0:
            raise ValueError("a loss of negative weight; give 0 or more")
        for given, known in ((self.kspace, TERMS), (self.image, IMAGE_TERMS)):
            for name in given:
                if name not in known:
                    raise ValueError(f"unknown loss {name!r}; there are {', '.join(known)}")

    def sample_weight(self, weight: Tensor, density: Tensor) -> Tensor:
        """Weights `(batch, ky, kx)` of the k-space terms."""
        return weight * inverse_density(density) if self.weighting == "density" else weight

    def grade_kspace(self, goal: Tensor, estimate: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Weighted k-space terms, each `(batch,)`.

        Args:
            goal: complex `(batch, coils, ky, kx)`.
            estimate: complex `(batch, coils, ky, kx)`.
            weight: `(batch, ky, kx)`; a scan without any graded sample gets zero.
        """
        # Selected, not multiplied: what is not graded may be anything, NaN included.
        kept = (weight > 0)[:, None]
        goal, estimate = torch.where(kept, goal, 0), torch.where(kept, estimate, 0)
        return {
            f"kspace_{name}": share * TERMS[name](goal, estimate, weight[:, None])
            for name, share in self.kspace.items()
        }

    def grade_image(self, goal: Tensor, estimate: Tensor) -> dict[str, Tensor]:
        """Weighted image terms on magnitudes of complex images `(batch, sets, y, x)`, each `(batch,)`."""
        magnitudes = goal.abs(), (estimate.abs().square() + _TINY).sqrt()
        ones = torch.ones_like(magnitudes[0])
        # Edges are found by a convolution: half precision is the network's alone.
        with torch.autocast(goal.device.type, enabled=False):
            return {
                f"image_{name}": share * IMAGE_TERMS[name](*magnitudes, ones)
                for name, share in self.image.items()
            }
