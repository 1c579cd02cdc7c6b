"""The physical limit of a network's step: its convolutions alone, forwards and backwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_BACKWARD = torch.ops.aten.convolution_backward.default


@dataclass(frozen=True)
class Convolution:
    """One convolution of a step.

    Attributes:
        input: shape.
        weight: shape.
        output: shape.
        biased: whether a bias is added.
        how: stride, padding, dilation, whether transposed, output padding, groups.
        wanted: gradients of input, weight and bias.
        dtype: it is computed in.
    """

    input: tuple[int, ...]
    weight: tuple[int, ...]
    output: tuple[int, ...]
    biased: bool
    how: tuple[Any, ...]
    wanted: tuple[bool, bool, bool]
    dtype: torch.dtype


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call] # PyTorch's
    """Notes every convolution whose gradient is computed: once, however often checkpoints repeat it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.seen: list[Convolution] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if func is _BACKWARD:
            gradient, x, weight, bias, *given, wanted = args
            how = tuple(tuple(value) if isinstance(value, list) else value for value in given)
            shapes = tuple(x.shape), tuple(weight.shape), tuple(gradient.shape)
            self.seen.append(Convolution(*shapes, bool(bias), how, tuple(wanted), x.dtype))
        return func(*args, **(kwargs or {}))


def recorded(step: Callable[[], object]) -> list[Convolution]:
    """The convolutions of a step that computes a gradient on the CPU, the last first."""
    recorder = _Recorder()
    with recorder:
        step()
    return recorder.seen


def replayed(convolutions: list[Convolution], device: str) -> Callable[[], None]:
    """A function that computes them, and nothing else, each in the memory format in which it is faster."""
    tensors: dict[tuple[tuple[int, ...], torch.dtype, torch.memory_format], Tensor] = {}

    def tensor(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
        if (shape, dtype, layout) not in tensors:
            # Small numbers that are not zero: what hardware computes with as with a network's.
            made = torch.randn(shape, device=device).to(dtype)
            tensors[shape, dtype, layout] = made.contiguous(memory_format=layout)
        return tensors[shape, dtype, layout]

    def compute(one: Convolution, layout: torch.memory_format) -> None:
        x, weight, gradient = (
            tensor(shape, one.dtype, layout) for shape in (one.input, one.weight, one.output)
        )
        bias = gradient.new_zeros(one.output[1]) if one.biased else None
        torch.ops.aten.convolution(x, weight, bias, *one.how)
        sizes = [one.output[1]] if one.biased else None
        _BACKWARD(gradient, x, weight, sizes, *one.how, list(one.wanted))

    def seconds(one: Convolution, layout: torch.memory_format) -> float:
        times = []
        for _ in range(3):
            start = time.process_time() if device == "cpu" else time.perf_counter()
            compute(one, layout)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append((time.process_time() if device == "cpu" else time.perf_counter()) - start)
        return min(times[1:])

    layouts = (torch.contiguous_format, torch.channels_last)
    faster = {
        one: min(layouts, key=lambda layout, one=one: seconds(one, layout))  # type: ignore[misc] # of a default
        for one in Counter(convolutions)
    }
    for key in list(tensors):
        if key[2] not in faster.values():
            del tensors[key]

    def run() -> None:
        for one in convolutions:
            compute(one, faster[one])

    return run
