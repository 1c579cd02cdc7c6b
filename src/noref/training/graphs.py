"""CUDA graphs: a pass over views of a shape that was met before is replayed, not launched anew."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor, nn

from noref.errors import NorefError
from noref.methods.base import Views
from noref.seeding import Key

_EAGER = 2
"""Passes over views of a kind before its graph: what libraries prepare at first must not be part of it."""

_ALIKE = 1e-3
"""Largest relative difference of a graph's gradient from the eager one; TF32 and bf16 repeat themselves."""


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
    gradients: list[Tensor | None]

    def replay(self, views: Views, scale: Tensor) -> None:
        for mine, given in zip(tensors_of(self.views), tensors_of(views), strict=True):
            mine.copy_(given, non_blocking=True)
        self.scale.copy_(scale)
        self.graph.replay()


class Graphs:
    """Passes of one module on a GPU, each kind of views as a CUDA graph from its third pass on.

    Small networks keep a GPU waiting for the next operator; a graph launches all of them at once. Kinds are
    told apart by roles, shapes and further passes. The first replay of each is compared with the eager pass.
    A method that looks at numbers while it computes cannot be captured: it stays eager, with a warning.
    """

    def __init__(self) -> None:
        self.met: dict[Hashable, int] = {}
        self.graphs: dict[Hashable, _Graph] = {}
        self.possible = True
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(
        self, module: nn.Module, views: Views, key: Key, scale: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Pass`."""
        kind = kind_of(views)
        if kind not in self.graphs:
            self.met[kind] = self.met.get(kind, 0) + 1
            if not self.possible or self.met[kind] <= _EAGER:
                return eager(module, views, key, scale)
            if (made := self._captured(module, views, key, scale)) is None:
                return eager(module, views, key, scale)
            self.graphs[kind] = made
        graph = self.graphs[kind]
        graph.replay(views, scale)
        _add(list(module.parameters()), graph.gradients)
        return graph.loss, graph.terms

    def _captured(self, module: nn.Module, views: Views, key: Key, scale: Tensor) -> _Graph | None:
        """The pass as a graph, compared with the eager one; None if it cannot be captured."""
        parameters = list(module.parameters())
        so_far = [parameter.grad for parameter in parameters]
        try:
            expected = self._gradients(parameters, module, views, key, scale)
            graph, scale = torch.cuda.CUDAGraph(), scale.clone()
            for parameter in parameters:
                parameter.grad = None
            with torch.cuda.graph(graph, pool=self.pool):
                loss, terms = eager(module, views, key, scale)
            gradients = [parameter.grad for parameter in parameters]
        except RuntimeError as error:
            self.possible = False
            reason = str(error).splitlines()[0]
            warnings.warn(f"training without CUDA graphs: not possible here ({reason})", stacklevel=2)
            return None
        finally:
            for parameter, before in zip(parameters, so_far, strict=True):
                parameter.grad = before
        made = _Graph(graph, views, scale, loss, terms, gradients)
        graph.replay()
        difference = _difference(expected, gradients)
        if not difference < _ALIKE:
            raise NorefError(
                f"a CUDA graph's gradients differ from the eager ones by {difference:.1e}; "
                "train with training.graphs=false"
            )
        return made

    @staticmethod
    def _gradients(
        parameters: list[nn.Parameter], module: nn.Module, views: Views, key: Key, scale: Tensor
    ) -> list[Tensor | None]:
        for parameter in parameters:
            parameter.grad = None
        eager(module, views, key, scale)
        return [parameter.grad for parameter in parameters]


def tensors_of(views: Views) -> list[Tensor]:
    """All tensors of views, those of further passes behind."""
    own = [value for f in fields(views) if isinstance(value := getattr(views, f.name), Tensor)]
    return own + [tensor for _, passes in views.further for one in passes for tensor in tensors_of(one)]


def kind_of(views: Views) -> Hashable:
    """What views must share for one graph: all but the numbers in their tensors."""
    shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors_of(views))
    further = tuple((term, tuple(map(kind_of, passes))) for term, passes in views.further)
    return views.role, views.image is None, views.lines, views.freed, shapes, further


def _add(parameters: list[nn.Parameter], gradients: list[Tensor | None]) -> None:
    """Adds gradients to what the parameters have; the graph's own are overwritten by its next replay."""
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient


def _difference(expected: list[Tensor | None], found: list[Tensor | None]) -> float:
    """`‖a − b‖ / ‖a‖` over all parameters."""
    pairs = [(a, b) for a, b in zip(expected, found, strict=True) if a is not None and b is not None]
    if len(pairs) != sum(one is not None for one in expected):
        return float("inf")
    apart = torch.stack([(a - b).square().sum() for a, b in pairs]).sum().sqrt()
    size = torch.stack([a.square().sum() for a, _ in pairs]).sum().sqrt()
    return float(apart / size.clamp_min(1e-30))
