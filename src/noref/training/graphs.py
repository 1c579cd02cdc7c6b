"""CUDA graphs: a pass over views of a shape that was met before is replayed, not launched anew."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from noref.methods.view import Views
from noref.seeding import Key

_EAGER = 2
"""Passes over views of a kind before its graph: what libraries prepare at first must not be part of it."""

_ALIKE = 1e-3
"""Largest relative difference of a graph's gradient from the eager one."""

_GRAPHS = 64
"""Kinds of views that have a graph: each holds the views that it reads."""


class Pass(Protocol):
    """Adds `scale` times the gradient of a micro-batch to the parameters; returns its loss and terms."""

    def __call__(
        self, module: nn.Module, views: Views, key: Key, scale: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Views on the device that the module is on; the loss is detached and not scaled."""


def eager(module: nn.Module, views: Views, key: Key, scale: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """A pass, operator by operator."""
    graded, terms = module(views, key)
    (graded * scale).backward()
    return graded.detach(), terms


@dataclass(frozen=True)
class _Graph:
    """A captured pass: what it reads, and what it leaves behind."""

    graph: torch.cuda.CUDAGraph
    views: Views
    scale: Tensor
    loss: Tensor
    terms: dict[str, Tensor]
    used: list[int]

    def replay(self, views: Views, scale: Tensor) -> None:
        for mine, given in zip(tensors_of(self.views), tensors_of(views), strict=True):
            mine.copy_(given, non_blocking=True)
        self.scale.copy_(scale)
        self.graph.replay()


class Graphs:
    """Passes of one module on a GPU, each kind of views as a CUDA graph from its third pass on.

    Small networks keep a GPU waiting for the next operator; a graph launches all of them at once. Kinds are
    told apart by roles, shapes and further passes. All graphs add to one gradient, in memory of their own.
    The first replay of each is compared with the eager pass. What cannot be captured, such as a method that
    looks at numbers while it computes, or does not agree, stays eager, with a warning.

    Args:
        module: a `Step` that is not wrapped.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parameters = list(module.parameters())
        self.gradients: list[Tensor] = []
        self.met: dict[Hashable, int] = {}
        self.graphs: dict[Hashable, _Graph] = {}
        self.refused: set[Hashable] = set()
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(
        self, module: nn.Module, views: Views, key: Key, scale: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Pass`."""
        if views.trajectory is not None:
            # cuFINUFFT sorts a trajectory's samples when it is called, which no graph can hold.
            return eager(module, views, key, scale)
        kind = kind_of(views)
        if kind not in self.graphs and not self._due(kind):
            return eager(module, views, key, scale)
        if kind not in self.graphs:
            made = self._captured(module, views, key, scale)
            if made is None:
                self.refused.add(kind)
                return eager(module, views, key, scale)
            self.graphs[kind] = made
        graph = self.graphs[kind]
        self._begin(graph.used)
        graph.replay(views, scale)
        return graph.loss, graph.terms

    def _due(self, kind: Hashable) -> bool:
        """Whether to capture a kind that has no graph."""
        self.met[kind] = self.met.get(kind, 0) + 1
        return kind not in self.refused and self.met[kind] > _EAGER and len(self.graphs) < _GRAPHS

    def _begin(self, used: list[int]) -> None:
        """Has the gradients so far where graphs add to them."""
        fresh = []
        for index in used:
            parameter, mine = self.parameters[index], self.gradients[index]
            if parameter.grad is None:
                fresh.append(mine)
            elif parameter.grad is not mine:
                mine.copy_(parameter.grad)
            parameter.grad = mine
        _zero(fresh)

    def _captured(self, module: nn.Module, views: Views, key: Key, scale: Tensor) -> _Graph | None:
        """The pass as a graph, compared with the eager one; None, with a warning, if there can be none."""
        so_far = [None if p.grad is None else p.grad.clone() for p in self.parameters]
        try:
            made = self._compared(module, views, key, scale)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            warnings.warn(f"training without CUDA graphs: not possible here ({reason})", stacklevel=3)
            return None
        finally:
            for parameter, before in zip(self.parameters, so_far, strict=True):
                parameter.grad = before
        return made

    def _compared(self, module: nn.Module, views: Views, key: Key, scale: Tensor) -> _Graph | None:
        for parameter in self.parameters:
            parameter.grad = None
        loss, _ = eager(module, views, key, scale)
        expected = [parameter.grad for parameter in self.parameters]
        used = [index for index, gradient in enumerate(expected) if gradient is not None]
        if not self.gradients:
            self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        for index in used:
            self.parameters[index].grad = self.gradients[index]
        graph, views, scale = torch.cuda.CUDAGraph(), _copied(views), scale.clone()
        # Other threads go on with what they do on the device: a loader's pins memory.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            of_graph, terms = eager(module, views, key, scale)
        made = _Graph(graph, views, scale, of_graph, terms, used)
        _zero([self.gradients[index] for index in used])
        graph.replay()
        pairs = [(loss, of_graph)]
        pairs += [
            (gradient, self.gradients[i]) for i, gradient in enumerate(expected) if gradient is not None
        ]
        difference = _difference(pairs[:1]) + _difference(pairs[1:])
        # Of what is no number anyway, the engine tells.
        if difference >= _ALIKE:
            warnings.warn(
                f"training without a CUDA graph, whose gradients differ by {difference:.1e} from eager ones",
                stacklevel=4,
            )
            return None
        return made


def _zero(tensors: list[Tensor]) -> None:
    """All of them at once, as optimisers do: a launch for each would take longer than a small graph."""
    if tensors:
        torch._foreach_zero_(tensors)


def tensors_of(views: Views) -> list[Tensor]:
    """All tensors of views, those of further passes behind."""
    own = [value for f in fields(views) if isinstance(value := getattr(views, f.name), Tensor)]
    return own + [tensor for _, passes in views.further for one in passes for tensor in tensors_of(one)]


def _copied(views: Views) -> Views:
    """The same views in memory that nothing else reads."""
    tensors = {f.name: getattr(views, f.name) for f in fields(views)}
    own: dict[str, Any] = {name: t.clone() for name, t in tensors.items() if isinstance(t, Tensor)}
    further = tuple((term, tuple(map(_copied, passes))) for term, passes in views.further)
    return replace(views, **own, further=further)


def kind_of(views: Views) -> Hashable:
    """What views must share for one graph: all but the numbers in their tensors."""
    shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors_of(views))
    further = tuple((term, tuple(map(kind_of, passes))) for term, passes in views.further)
    return views.role, views.image is None, views.lines, views.freed, shapes, further


def _difference(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """`‖a − b‖ / ‖a‖` over all of them."""
    apart = torch.stack([(a - b).square().sum() for a, b in pairs]).sum().sqrt()
    size = torch.stack([a.square().sum() for a, _ in pairs]).sum().sqrt()
    return float(apart / size.clamp_min(1e-30))
