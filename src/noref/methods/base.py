"""What a network is shown and what it is graded on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from noref.errors import NorefError
from noref.losses import Objective
from noref.networks.base import Estimate, Network
from noref.physics import Encoding, constant_along_readout
from noref.scan import Role, Scan, ScanBatch, bucket, coil_maps, encode, on_device, padding_of, stack_known
from noref.seeding import Key

Losses = dict[str, Tensor]
"""Named terms, each a vector over the views of a batch; their sum is minimised."""

Further = Callable[["Method", Network, Estimate, "tuple[Views, ...]"], Losses]
"""What further passes add to the loss: of the method, the network, the first pass's estimate, and the views
of the further passes. Module-level functions, so that loading processes can hand them over."""


@dataclass(frozen=True)
class View:
    """One example: what of a scan is shown, and what the result is compared with.

    Attributes:
        scan: gives the input k-space, maps and padding.
        shown: bool `(ky, kx)`, the samples of the scan's k-space that the network sees.
        goal: complex64 `(coils, ky, kx)`, k-space to compare with.
        weight: float or bool `(ky, kx)`, how much each sample of the goal counts; 0 where it is not graded.
        density: float32 `(ky, kx)`, the probability with which each sample of the goal is there to grade, or
            None where all are.
        image: complex64 `(sets, y, x)`, image to compare with, or None.
        share: weight of this view in the optimiser step.
        guessed: bool `(ky, kx)`, the samples of the scan's k-space that are a teacher's guess, or None.
        keep_guesses: whether the network's data consistency holds on guesses, too.
        taken: int64 `(y, x)`, the pixel that each one of a moved image is taken from, or None: not moved.
        further: terms of further passes, and the views that each of them needs.
    """

    scan: Scan
    shown: Tensor
    goal: Tensor
    weight: Tensor
    density: Tensor | None = None
    image: Tensor | None = None
    share: float = 1.0
    guessed: Tensor | None = None
    keep_guesses: bool = True
    taken: Tensor | None = None
    further: tuple[tuple[Further, tuple[View, ...]], ...] = ()

    def scaled(self, share: float) -> View:
        """The same view with its weight in the step multiplied."""
        return replace(self, share=self.share * share)

    def also(self, term: Further, *views: View) -> View:
        """The same view with one more term of further passes."""
        return replace(self, further=(*self.further, (term, views)))

    @property
    def bucket(self) -> tuple[Hashable, ...]:
        """Views of equal bucket can be stacked."""
        return (
            *bucket(self.scan),
            self.scan.role,
            self.image is not None,
            *(term for term, _ in self.further),
        )


@dataclass(frozen=True)
class Views:
    """Views of one shape, stacked.

    Attributes:
        ids: of the scans.
        role: of all of them.
        kspace: input, complex64 `(batch, coils, ky, kx)`, zero where nothing is shown.
        shown: bool `(batch, ky, kx)`, samples shown, padding included.
        padding: bool `(batch, ky, kx)`, samples that are zero by zero-filling.
        kept: bool `(batch, ky, kx)`, those of them that the network's data consistency holds on.
        guessed: float32 `(batch,)`, the share of the samples shown that is a teacher's guess.
        maps: complex64 `(batch, sets, coils, y, x)`.
        goal: complex64 `(batch, coils, ky, kx)`.
        weight: float32 `(batch, ky, kx)`.
        density: float32 `(batch, ky, kx)`.
        image: complex64 `(batch, sets, y, x)` or None.
        share: float32 `(batch,)`.
        lines: whether what is shown and what is kept is made of whole lines along the read-out.
        freed: whether more is shown than kept.
        taken: int64 `(batch, y, x)` or None.
        trajectory: float32 `(batch, ky, kx, 2)`, or None on the Cartesian grid.
        weights: float32 `(batch, ky, kx)`, or None on the Cartesian grid.
        further: terms of further passes, and the views that each of them needs, stacked.
    """

    ids: tuple[str, ...]
    role: Role
    kspace: Tensor
    shown: Tensor
    padding: Tensor
    kept: Tensor
    guessed: Tensor
    maps: Tensor
    goal: Tensor
    weight: Tensor
    density: Tensor
    image: Tensor | None
    share: Tensor
    lines: bool
    freed: bool
    taken: Tensor | None = None
    trajectory: Tensor | None = None
    weights: Tensor | None = None
    further: tuple[tuple[Further, tuple[Views, ...]], ...] = ()

    @classmethod
    def of(cls, views: Sequence[View]) -> Views:
        """Stacks views of one bucket.

        Raises:
            ValueError: if they are of several.
        """
        if len({view.bucket for view in views}) != 1:
            raise ValueError("views of different shapes, or with and without image, cannot be stacked")
        images = [view.image for view in views if view.image is not None]
        taken = [view.taken for view in views if view.taken is not None]
        padding = _stack([padding_of(view.scan) for view in views])
        shown = _stack([view.shown for view in views]) | padding
        freed = [None if view.guessed is None or view.keep_guesses else view.guessed for view in views]
        kept = shown
        if any(guesses is not None for guesses in freed):
            free = _stack([_nowhere_if_none(g, v.shown) for g, v in zip(freed, views, strict=True)])
            kept = (shown & ~free) | padding
        return cls(
            ids=tuple(view.scan.id for view in views),
            role=views[0].scan.role,
            kspace=_stack([_samples(view.scan.kspace, view.shown) for view in views]),
            shown=shown,
            padding=padding,
            kept=kept,
            guessed=torch.tensor([_share(view.guessed, view.shown) for view in views]),
            maps=_stack([coil_maps(view.scan) for view in views]),
            goal=_stack([view.goal for view in views]),
            weight=_stack([view.weight.to(torch.float32) for view in views]),
            density=_stack(
                [torch.ones(view.scan.shape) if view.density is None else view.density for view in views]
            ),
            image=_stack(images) if images else None,
            share=torch.tensor([view.share for view in views]),
            lines=constant_along_readout(shown) and (kept is shown or constant_along_readout(kept)),
            freed=kept is not shown,
            taken=_stack(taken) if taken else None,
            trajectory=stack_known([view.scan.trajectory for view in views]),
            weights=stack_known([view.scan.weights for view in views]),
            further=tuple(
                (term, tuple(map(cls.of, zip(*(view.further[i][1] for view in views), strict=True))))
                for i, (term, _) in enumerate(views[0].further)
            ),
        )

    def encoding(self) -> Encoding:
        """The encoding operator of what is kept, which also knows what is shown."""
        shown = self.shown if self.freed else None
        return encode(self.kept, self.maps, self.trajectory, self.weights, shown, self.lines)

    def combined(self, kspace: Tensor) -> Tensor:
        """`Aᴴ Λ y`: the image `(batch, sets, y, x)` of the graded samples of k-space alone.

        By the maps that the views came with, goal and estimate alike: learned maps do not move the goal.
        """
        graded = self.weight > 0
        # Selected, not multiplied: what is not graded may be anything, NaN included.
        encoding = encode(graded, self.maps, self.trajectory, self.weights, lines=False)
        return encoding.adjoint(torch.where(graded[:, None], kspace, 0))

    def idle(self) -> Views:
        """The same views with no weight: keeps a rank that has nothing to do in step with the others."""
        return replace(self, share=torch.zeros_like(self.share))

    def to(self, device: torch.device | str) -> Views:
        """The same views on another device."""
        further = tuple((term, tuple(v.to(device) for v in views)) for term, views in self.further)
        return replace(on_device(self, device), further=further)

    def pin_memory(self) -> Views:
        """The same views in page-locked memory, from which a GPU copies while it computes.

        PyTorch's loaders ask for it by this name.
        """
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        pinned: dict[str, Any] = {
            name: tensor.pin_memory() for name, tensor in tensors.items() if isinstance(tensor, Tensor)
        }
        further = tuple((term, tuple(v.pin_memory() for v in views)) for term, views in self.further)
        return replace(self, **pinned, further=further)


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors along a new first axis; a single one is not copied.

    But for loading processes, which hand theirs over for good: a data set may keep it.
    """
    single = tensors[0][None] if len(tensors) == 1 else None
    if single is None:
        return torch.stack(list(tensors))
    return single if get_worker_info() is None else single.clone()


def _samples(kspace: Tensor, mask: Tensor) -> Tensor:
    """k-space `(coils, ky, kx)` where the mask holds it, zero elsewhere."""
    if not constant_along_readout(mask):
        return torch.where(mask, kspace, 0)
    # Few lines of many: half the time of looking at all.
    lines, samples = mask[:, 0].nonzero()[:, 0], torch.zeros_like(kspace)
    samples[:, lines] = kspace[:, lines]
    return samples


def _share(guessed: Tensor | None, shown: Tensor) -> float:
    """The share of what is shown that is guessed."""
    return 0.0 if guessed is None else int((guessed & shown).sum()) / max(int(shown.sum()), 1)


def _nowhere_if_none(mask: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if mask is None else mask


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
        raise NorefError(f"{scan.id}: sampled off the Cartesian grid, {why}; use recipe ssdu")


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
