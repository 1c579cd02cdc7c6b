"""Ways to train: what a network is shown, and how the result is graded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from noref.errors import NorefError
from noref.losses import Objective
from noref.methods.view import Losses, View, Views
from noref.networks.base import Estimate, Network
from noref.scan import Scan, ScanBatch
from noref.seeding import Key


def graded_images(estimate: Estimate) -> list[tuple[Tensor, float]]:
    """All images that are graded, and their weights: 1 for the last, for steps before log-spaced from 0.1."""
    images = (*estimate.steps, estimate.image)
    shares = torch.logspace(-1, 0, len(images)) if len(images) > 1 else torch.ones(1)
    return list(zip(images, shares.tolist(), strict=True))


def consistent(estimate: Estimate, batch: ScanBatch) -> Estimate:
    """The estimate with the measured samples put back, `Aᴴ(y + (1 − M) F S x̂)`, S the maps it ended with.

    Args:
        estimate: of the samples in the batch's mask.
        batch: what was measured.
    """
    encoding = estimate.encoding.with_mask(batch.encoding().mask)
    return replace(estimate, image=encoding.put_back(estimate.image, batch.kspace))


class Method(nn.Module):
    """A way to train. Subclasses say what to show and grade in `view`; grading itself is written once, here.

    Attributes:
        objective: the losses; set for a method and all methods inside it by `minimise`.
        stages: how many times training starts over on data that the method has rewritten.
        stage: the current one, from 0.
        update: whether every stage has a teacher of its own; otherwise all have the first.
    """

    objective: Objective = Objective()
    stages: int = 1
    stage: int = 0
    update: bool = True

    def minimise(self, objective: Objective) -> None:
        """Sets the losses of this method and of every method inside it."""
        for module in self.modules():
            if isinstance(module, Method):
                module.objective = objective

    def view(self, scan: Scan, key: Key) -> list[View]:
        """What to show and grade of one scan. Pure: the same scan and key give the same views.

        Args:
            scan: a target as `Scan.as_target` gives it, or a proxy.
            key: of the training seed, the scan and the epoch.
        """
        raise NotImplementedError

    def loss(self, network: Network, views: Views, key: Key) -> Losses:
        """Terms to minimise, each `(batch,)`: of one pass, and of the further ones that views ask for.

        On a GPU it may be replayed as it was computed once for such views: what depends on the scan, or is
        drawn, belongs in `view`.
        """
        del key  # what is drawn by scan is drawn in `view`
        estimate = network(views.kspace, views.encoding())
        losses = self.grade(estimate, views)
        for term, further in views.further:
            losses |= term(self, network, estimate, further)
        return losses

    def grade(self, estimate: Estimate, views: Views) -> Losses:
        """The objective on the final image and, with log-spaced weights from 0.1 to 1, on unrolled steps.

        Raises:
            NorefError: if the objective weighs a penalty, and the network gives none.
        """
        encoding = estimate.encoding.full()
        weight = self.objective.sample_weight(views.weight, views.density)
        both = self.objective.dual and views.image is None
        partial = views.combined(views.goal) if both else None
        losses: Losses = {}
        for image, share in graded_images(estimate):
            kspace = encoding.forward(image)
            if self.objective.dual:
                kspace = torch.where(views.kept[:, None], views.kspace, kspace)
            terms = self.objective.grade_kspace(views.goal, kspace, weight)
            if views.image is not None:
                terms |= self.objective.grade_image(views.image, image)
            elif partial is not None:
                terms |= self.objective.grade_image(partial, views.combined(kspace))
            for name, term in terms.items():
                losses[name] = losses[name] + share * term if name in losses else share * term
        if self.objective.penalty > 0:
            if estimate.penalty is None:
                raise NorefError(
                    f"loss.penalty={self.objective.penalty:g}: the network gives nothing to weigh by it; "
                    "set loss.penalty=0, or network.symmetry=true with istanet"
                )
            losses["penalty"] = self.objective.penalty * estimate.penalty
        return losses

    def reconstruct(self, network: Network, batch: ScanBatch) -> Estimate:
        """The final reconstruction, from all samples of a batch."""
        estimate: Estimate = network(batch.kspace, batch.encoding())
        return estimate

    def meet(self, network: Network) -> None:
        """Receives the network, before there is an optimiser and before trained weights are loaded.

        Raises:
            NorefError: if this method, or one inside, cannot train it.
        """
        for child in self.children():
            if isinstance(child, Method):
                child.meet(network)

    def prepare(self, masks: Mapping[tuple[int, int], Sequence[Tensor]]) -> None:
        """Receives the target's masks Ω∖Γ, by shape, once before training."""
        for child in self.children():
            if isinstance(child, Method):
                child.prepare(masks)

    def begin(self, stage: int, teacher: Mapping[str, Tensor]) -> None:
        """Starts a stage.

        Args:
            stage: from 0.
            teacher: images `(sets, y, x)` by scan id, made by the network at the end of the stage before;
                empty in stage 0.
        """
        self.stage = stage
        for child in self.children():
            if isinstance(child, Method):
                child.begin(stage, teacher)

    def extra_repr(self) -> str:
        """The settings, for logs."""
        return ", ".join(f"{name}={value}" for name, value in self._settings().items())

    def _settings(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_") and name not in ("training", "objective", "bank", "teacher")
        }


def need_grid(scan: Scan, why: str) -> None:
    """Refuses a scan off the Cartesian grid, for a method that fills k-space in, or draws masks of it.

    Raises:
        NorefError: if it is.
    """
    if scan.trajectory is not None:
        raise NorefError(
            f"{scan.id}: sampled off the Cartesian grid, {why}; use recipe default or jssl-default"
        )


class Around(Method):
    """A method around one other, which grades, and reconstructs.

    Args:
        inner: the other.
    """

    def __init__(self, inner: Method) -> None:
        super().__init__()
        self.inner, self.stages = inner, inner.stages

    def loss(self, network: Network, views: Views, key: Key) -> Losses:
        """As the inner method does."""
        return self.inner.loss(network, views, key)

    def reconstruct(self, network: Network, batch: ScanBatch) -> Estimate:
        """As the inner method does."""
        return self.inner.reconstruct(network, batch)
