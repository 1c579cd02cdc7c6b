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
from .row import GRAPH, Array, Setting, Side, Work

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
    network: nn.Module,
    images: Callable[[], list[Tensor]],
    target: Tensor,
    half: bool = False,
    note: str = "",
    graph: bool = False,
) -> Work:
    """A training step: images, their loss, its gradient.

    Args:
        network: whose gradient is computed.
        images: a pass forwards, complex images, the one to compare last.
        target: to compare with.
        half: compute convolutions in bfloat16.
        note: of the work.
        graph: replay the step as a CUDA graph, as training does.
    """

    def forward() -> list[Tensor]:
        with torch.autocast(target.device.type, torch.bfloat16, enabled=half):
            return images()

    def run() -> None:
        torch.autograd.backward(graded(forward(), target))
        network.zero_grad()

    if graph:
        run = replayed_as_graph(run)

    def output() -> Array:
        with torch.no_grad():
            return forward()[-1].cpu().numpy()

    return Work(run, output, parameters(network), note)


def replayed_as_graph(run: Callable[[], None]) -> Callable[[], None]:
    """The same work, launched as one graph."""
    for _ in range(3):
        run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def noref_step(
    make: Make,
    coils: int,
    kind: str,
    half: bool = False,
    compared: Make | None = None,
    graph: bool = False,
) -> Callable[[Setting], Work]:
    """The step of noref: encoding, network and gradient.

    Args:
        make: the network.
        coils: of the scan.
        kind: of the mask.
        half: compute convolutions in bfloat16.
        compared: makes the network whose output is compared, if that is another one.
        graph: replay the step as a CUDA graph.
    """

    def build(setting: Setting) -> Work:
        given = problem(setting, coils, kind)
        tensors = given.kspace, given.mask, given.maps[None], given.target
        kspace, mask, maps, target = (tensor[None].to(setting.device) for tensor in tensors)
        # A loader knows this of every scan, and no GPU has to be asked.
        lines = kind == "lines"

        def of(make: Make) -> Work:
            network: Network = seeded(lambda: make(setting))
            place(network, torch.device(setting.device))

            def images() -> list[Tensor]:
                estimate = network(kspace, cartesian(mask, maps, lines=lines))
                return [*estimate.steps, estimate.image]

            return work(network, images, target, half, graph=graph)

        return of(make) if compared is None else replace(of(make), output=of(compared).output)

    return build


def limit(build: Callable[[Setting], Work]) -> Callable[[Setting], Work]:
    """The convolutions alone of a step."""

    def alone(setting: Setting) -> Work:
        convolutions = recorded(build(Setting(setting.folder, "cpu", setting.small)).run)
        run = replayed(convolutions, setting.device)
        if setting.device == "cuda":
            run = replayed_as_graph(run)
        return Work(run, note=f"{len(convolutions)} convolutions")

    return alone


def limits(
    single: Callable[[Setting], Work], half: Callable[[Setting], Work], versus: str = "noref, bf16"
) -> tuple[Side, Side]:
    """The limits of a float32 step, the first of the row, and of a bf16 step."""
    return (
        Side("convolutions alone", limit(single), devices=BOTH),
        Side("convolutions alone, bf16", limit(half), versus=versus, devices=BOTH),
    )


def graph_sides(name: str, make: Make, coils: int, kind: str) -> tuple[Side, ...]:
    """The steps of noref's side of that name as CUDA graphs, in float32 and in bf16."""
    single, half = (noref_step(make, coils, kind, precision, graph=True) for precision in (False, True))
    return (
        Side(f"{name}{GRAPH}", single, devices=("cuda",)),
        Side(f"{name}, bf16{GRAPH}", half, devices=("cuda",)),
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
        *graph_sides("noref", make, coils, kind),
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
