"""Examples: what of a scan a network is shown, and what the result is compared with; one, and a batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from noref.networks.base import Estimate, Network
from noref.physics import Encoding, constant_along_readout
from noref.scan import Role, Scan, bucket, coil_maps, encode, on_device, padding_of, stack_known

if TYPE_CHECKING:
    from noref.methods.base import Method

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
        motion: int64 `(y, x)`, the pixel that each one of a moved image is taken from, or None: not moved.
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
    motion: Tensor | None = None
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
        motion: int64 `(batch, y, x)` or None.
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
    motion: Tensor | None = None
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
        motions = [view.motion for view in views if view.motion is not None]
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
            motion=_stack(motions) if motions else None,
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
