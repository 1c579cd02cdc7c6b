"""Two networks side by side, each shown a subset of its own."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.methods.base import Method, need_grid
from noref.methods.view import Losses, View, Views
from noref.networks.base import Estimate, Network
from noref.scan import Scan, ScanBatch
from noref.seeding import Key


def grade_second(method: Method, network: Network, estimate: Estimate, views: tuple[Views, ...]) -> Losses:
    """What the second network is graded on, and how far apart the two are where nothing was sampled."""
    del network
    parallel, (second,) = cast(Parallel, method), views
    other: Estimate = parallel.twin(second.kspace, second.encoding())
    graded = method.grade(other, second)
    for term, further in second.further:
        graded |= term(method, parallel.twin, other, further)
    losses = {f"second_{name}": loss for name, loss in graded.items()}
    unsampled = ~((second.weight > 0) | second.shown)[:, None]
    ours, theirs = (of.encoding.full().forward(of.image) for of in (estimate, other))
    apart = _power(torch.where(unsampled, ours - theirs, 0)) / _power(second.goal).clamp_min(1e-12)
    return {**losses, "difference": parallel.difference * apart}


def _power(kspace: Tensor) -> Tensor:
    return torch.view_as_real(kspace).square().flatten(1).sum(1)


def twin_of(network: Network) -> Network:
    """The network with its kernels' numbers in another order: another draw of the same first weights."""
    twin, generator = copy.deepcopy(network), Key(0, "", "twin").torch()
    with torch.no_grad():
        for weight in twin.parameters():
            if weight.dim() > 2:
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view(weight.shape))
    return twin


class Parallel(Method):
    """Two networks learn from two subsets of each scan (Hu et al., MICCAI 2021, arXiv 2109.12502).

    Each is graded as the inner method says, on all of Ω in the paper, and the two must agree elsewhere:
    `‖(1 − Ω)(F S x̂₁ − F S x̂₂)‖² / ‖y_Ω‖²`, of refined scans without the guesses that the second was shown.
    Either reconstructs all of Ω alone, as published: it is the first.
    Symmetry losses are the objective's penalty, of both.

    Args:
        inner: what to show to each and grade; `Subset` in the paper.
        difference: weight of their difference; 0.01 as published.
    """

    twin: Network

    def __init__(self, inner: Method, difference: float = 0.01) -> None:
        super().__init__()
        if not difference >= 0:
            raise NorefError(f"Parallel: difference is {difference}; give a weight of 0 or more")
        if any(isinstance(part, Parallel) for part in inner.modules()):
            raise NorefError("Parallel: its inner method has a second network too; use one or the other")
        self.inner, self.difference, self.stages = inner, difference, inner.stages

    def meet(self, network: Network) -> None:
        """Makes the second network, trained and saved with the method."""
        super().meet(network)
        self.twin = twin_of(network)

    def view(self, scan: Scan, key: Key) -> list[View]:
        """The inner method's views for the first network, each with one for the second."""
        need_grid(scan, "where two networks have no unsampled part to agree on")
        first, second = (self.inner.view(scan, key.fold(name)) for name in ("first", "second"))
        return [one.also(grade_second, other) for one, other in zip(first, second, strict=True)]

    def reconstruct(self, network: Network, batch: ScanBatch) -> Estimate:
        """As the inner method does, by the first network."""
        return self.inner.reconstruct(network, batch)
