"""What self-supervision costs beside supervision: views and steps of both, as training makes them."""

from __future__ import annotations

import functools

import torch

from noref.data.prepare import combined
from noref.methods import Method, Split, Supervised, Views
from noref.networks import VSHARP
from noref.scan import Role, Scan
from noref.seeding import Key
from noref.training.distributed import place
from noref.training.step import Step

from ..row import Row, Setting, Side, Work
from ..steps import BOTH, parameters, problem, seeded


def _scan(setting: Setting) -> Scan:
    given = problem(setting)
    return Scan(
        "object/scan/0",
        kspace=given.full,
        measured=torch.ones_like(given.mask),
        mask=given.mask,
        maps=given.maps[None],
        reference=combined(given.full, given.maps[None]),
        role=Role.PROXY,
    )


def _step(setting: Setting, method: Method, as_target: bool) -> Work:
    network = VSHARP(setting.size(8, 2), setting.size(6, 2), setting.size(16, 4))
    step: Step = seeded(lambda: Step(method, network))
    place(network, torch.device(setting.device))
    scan = _scan(setting)
    if as_target:
        scan = scan.as_target()
    key = Key(0, scan.id, "view", 0)

    def run() -> None:
        views = Views.of(method.view(scan, key)).to(setting.device)
        loss, _ = step(views, key)
        torch.autograd.backward(loss)
        step.zero_grad()

    return Work(run, parameters=parameters(network))


ROWS = (
    Row(
        "supervision",
        "vSHARP 8 × 6, U-Net 16: self-supervised beside supervised step",
        (
            Side(
                "noref, supervised",
                functools.partial(_step, method=Supervised(), as_target=False),
                devices=BOTH,
            ),
            Side(
                "noref, self-supervised",
                functools.partial(_step, method=Split(), as_target=True),
                devices=BOTH,
            ),
        ),
        aim="ratio ≤ 1.03 (DIRECT 1.08–1.11)",
        memory_gb=5,
    ),
)
