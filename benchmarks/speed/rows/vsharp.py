"""Steps of vSHARP, every image graded, of the size that papers compare and of the published one."""

from __future__ import annotations

import functools
from collections.abc import Callable

from noref.networks import VSHARP

from ..row import Row, Setting, Side
from ..steps import BOTH, graph_sides, limits, network_sides, noref_step


def _vsharp(setting: Setting, checkpointing: bool = False) -> VSHARP:
    steps, gradient_steps, features = setting.size(8, 2), setting.size(6, 2), setting.size(16, 4)
    return VSHARP(steps, gradient_steps, features, checkpointing=checkpointing)


def _paper(setting: Setting, checkpointing: bool = False) -> VSHARP:
    steps, gradient_steps, features = setting.size(12, 2), setting.size(10, 2), setting.size(32, 4)
    return VSHARP(steps, gradient_steps, features, checkpointing=checkpointing)


def _checkpointed(make: Callable[..., VSHARP], kind: str) -> tuple[Side, ...]:
    """The same network with and without checkpoints."""
    saving = functools.partial(make, checkpointing=True)
    single, half = (noref_step(saving, 8, kind, precision) for precision in (False, True))
    return (
        Side("noref, checkpointed", single, devices=BOTH, why="computes every step twice"),
        Side("noref, checkpointed, bf16", half, devices=BOTH),
        *graph_sides("noref, checkpointed", saving, 8, kind),
        *limits(single, half, "noref, checkpointed, bf16"),
    )


_DIRECT = {"DIRECT": 3365.0}

ROWS = (
    Row(
        "vsharp",
        "vSHARP 8 × 6, U-Net 16, 1-D masks, step",
        network_sides(_vsharp),
        target=1900,
        aim="≤ 1.7 GB",
        recorded=_DIRECT,
        memory_gb=6,
        quick=True,
    ),
    Row(
        "vsharp-points",
        "vSHARP 8 × 6, U-Net 16, 2-D masks, step",
        network_sides(_vsharp, kind="random2d"),
        target=2350,
        aim="≤ 1.7 GB",
        recorded=_DIRECT,
        memory_gb=6,
    ),
    Row(
        "vsharp-checkpointed",
        "vSHARP 8 × 6, U-Net 16, 1-D masks, checkpointed step",
        _checkpointed(_vsharp, "lines"),
        aim="≤ 1.5 GB",
        recorded=_DIRECT,
        memory_gb=5,
    ),
    Row(
        "vsharp-paper",
        "vSHARP 12 × 10, U-Net 32 (paper size), step",
        network_sides(_paper, record=functools.partial(_paper, checkpointing=True)),
        target=6800,
        recorded={"DIRECT": 9200},
        memory_gb=14,
    ),
    Row(
        "vsharp-paper-checkpointed",
        "vSHARP 12 × 10, U-Net 32 (paper size), checkpointed step",
        _checkpointed(_paper, "lines"),
        target=8700,
        aim="≤ 4 GB",
        recorded={"DIRECT": 9200},
        memory_gb=12,
    ),
)
