"""Training steps of networks, which rows are made of: a pass forwards, a loss, its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from noref.networks import Network
from noref.physics import cartesian
from noref.training.distributed import place

from .limit import recorded, replayed
from .problem import Problem
from .row import Array, Setting, Side, Work

BOTH = ("cpu", "cuda")
Make = Callable[[Setting], Network]


def parameters(network: nn.Module) -> int:
    """Their number."""
    return sum(p.numel() for p in network.parameters())


def problem(setting: Setting, coils: int = 8, kind: str = "lines") -> Problem:
    """The slice of every step: 256×256, as the plan's table has it."""
    size = setting.size(256, 32)
    return Problem((size, size), min(coils, setting.size(coils, 2)), kind)


def seeded(make: Callable[[], Any]) -> Any:
    """What all sides make alike: the first weights of a seed."""
    torch.manual_seed(0)
    return make()


def graded(images: Iterable[Tensor], target: Tensor) -> Tensor:
    """The mean absolute error of all images, complex, real and imaginary parts apart."""
    return torch.stack([torch.view_as_real(image - target).abs().mean() for image in images]).sum()


def work(
    network: nn.Module, images: Callable[[], list[Tensor]], target: Tensor, half: bool = False, note: str = ""
) -> Work:
    """A training step: images, their loss, its gradient.

    Args:
        network: whose gradient is computed.
        images: a pass forwards, complex images, the one to compare last.
        target: to compare with.
        half: compute convolutions in bfloat16.
        note: of the work.
    """

    def forward() -> list[Tensor]:
        with torch.autocast(target.device.type, torch.bfloat16, enabled=half):
            return images()

    def run() -> None:
        torch.autograd.backward(graded(forward(), target))
        network.zero_grad()

    def output() -> Array:
        with torch.no_grad():
            return forward()[-1].cpu().numpy()

    return Work(run, output, parameters(network), note)


def noref_step(
    make: Make, coils: int, kind: str, half: bool = False, compared: Make | None = None
) -> Callable[[Setting], Work]:
    """The step of noref: encoding, network and gradient.

    Args:
        make: the network.
        coils: of the scan.
        kind: of the mask.
        half: compute convolutions in bfloat16.
        compared: makes the network whose output is compared, if that is another one.
    """

    def build(setting: Setting) -> Work:
        given = problem(setting, coils, kind)
        tensors = given.kspace, given.mask, given.maps[None], given.target
        kspace, mask, maps, target = (tensor[None].to(setting.device) for tensor in tensors)

        def of(make: Make) -> Work:
            network: Network = seeded(lambda: make(setting))
            place(network, torch.device(setting.device))

            def images() -> list[Tensor]:
                estimate = network(kspace, cartesian(mask, maps))
                return [*estimate.steps, estimate.image]

            return work(network, images, target, half)

        return of(make) if compared is None else replace(of(make), output=of(compared).output)

    return build


def limit(build: Callable[[Setting], Work]) -> Callable[[Setting], Work]:
    """The convolutions alone of a step."""

    def alone(setting: Setting) -> Work:
        convolutions = recorded(build(Setting(setting.folder, "cpu", setting.small)).run)
        return Work(replayed(convolutions, setting.device), note=f"{len(convolutions)} convolutions")

    return alone


def limits(
    single: Callable[[Setting], Work], half: Callable[[Setting], Work], versus: str = "noref, bf16"
) -> tuple[Side, Side]:
    """The limits of a float32 step, the first of the row, and of a bf16 step."""
    return (
        Side("convolutions alone", limit(single), devices=BOTH),
        Side("convolutions alone, bf16", limit(half), versus=versus, devices=BOTH),
    )


def network_sides(
    make: Make,
    *peers: Side,
    coils: int = 8,
    kind: str = "lines",
    record: Make | None = None,
    compared: Make | None = None,
) -> tuple[Side, ...]:
    """Sides of noref in float32 and bf16, peers, and the convolutions alone.

    Args:
        make: the network of noref.
        peers: their sides.
        coils: of the scan.
        kind: of the mask.
        record: makes a network with the same convolutions in less memory, to count them.
        compared: makes the network whose output is compared, if that is another one.
    """
    single, half = (noref_step(make, coils, kind, precision, compared) for precision in (False, True))
    counted, counted_half = (
        noref_step(record or make, coils, kind, precision) for precision in (False, True)
    )
    return (
        Side("noref", single, devices=BOTH),
        Side("noref, bf16", half, devices=BOTH),
        *peers,
        *limits(counted, counted_half),
    )


def copy_convolutions(ours: nn.Module, theirs: nn.Module) -> None:
    """Copies the weights of all convolutions, in the order in which both declare those of one kind."""

    def kinds(network: nn.Module) -> Iterable[nn.Module]:
        found = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        groups: dict[tuple[bool, tuple[int, ...]], list[nn.Module]] = {}
        for module in found:
            groups.setdefault((isinstance(module, nn.Conv2d), tuple(module.kernel_size)), []).append(module)
        return chain.from_iterable(groups[kind] for kind in sorted(groups))

    with torch.no_grad():
        for a, b in zip(kinds(ours), kinds(theirs), strict=True):
            b.load_state_dict(a.state_dict())
