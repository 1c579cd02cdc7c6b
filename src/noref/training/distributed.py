"""One process or many, started by `torchrun` or by SLURM."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from noref.errors import NorefError
from noref.training.sharding import is_sharded

T = TypeVar("T")

_ALL = 2**20
"""MiB: more than any gradient that fits in memory."""

PATIENCE = timedelta(minutes=10)
"""How long processes wait for one another: longer than any of them loads or scores while the others wait."""


class PeerLost(NorefError):
    """Another process of the same run has died, or can no longer be reached.

    Attributes:
        first: whether this process is the first to notice: it is the one to say so.
    """

    def __init__(self, message: str, first: bool) -> None:
        super().__init__(message)
        self.first = first


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def speaks() -> bool:
    """Whether this process is the one to talk to the user, also before and after it is one of a group."""
    return int(os.environ.get("RANK", "0")) == 0


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU of this process, or the CPU.

    Raises:
        NorefError: if there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if name == "cuda":
            name = f"cuda:{os.environ.get('LOCAL_RANK', torch.cuda.current_device())}"
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise NorefError(f"training.device={name}: not usable ({reason}); give auto, cpu or cuda") from None
    return device


def place(network: nn.Module, device: torch.device) -> None:
    """Moves a network to a device, laid out as convolutions compute fastest.

    Other layouts give other bits: training and reconstruction have the same.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload] # an overload PyTorch leaves out


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Joins the processes that `torchrun` started; does nothing for a single one.

    Raises:
        NorefError: if they do not find one another.
        PeerLost: if another process dies, at once; if one hangs or its machine is gone, after `PATIENCE`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        reason = str(error).splitlines()[0]
        raise NorefError(
            f"{where}: the {os.environ['WORLD_SIZE']} processes do not meet there ({reason}); "
            "start them with torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and a free MASTER_PORT"
        ) from None
    try:
        yield
    except RuntimeError as error:
        if not _is_of_peers(error):
            raise
        raise PeerLost(
            f"process {rank()} of {world_size()}: another one has ended or does not answer; see what it said "
            "and start the same command again (a training goes on with --resume)",
            _first_to_notice(),
        ) from error
    finally:
        dist.destroy_process_group()


def _is_of_peers(error: RuntimeError) -> bool:
    """Whether an exchange between processes failed; gloo has no exception of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "pair closure" in str(error)


def _first_to_notice() -> bool:
    """Whether no other process has asked this yet, as far as can be told."""
    try:
        return dist.distributed_c10d._get_default_store().add("noref/lost", 1) == 1
    except RuntimeError:  # kept by the process that is gone
        return True


def collected(values: list[T]) -> list[list[T]]:
    """What every process gives, by rank, on the first process; nothing elsewhere."""
    if world_size() == 1:
        return [values]
    everywhere: list[list[T]] | None = [[] for _ in range(world_size())] if rank() == 0 else None
    dist.gather_object(values, everywhere)
    return everywhere or []


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def total_by_name(values: dict[str, float]) -> dict[str, float]:
    """The sums over all processes, which need not have the same names."""
    gathered = [values]
    if world_size() > 1:
        gathered = [{} for _ in range(world_size())]
        dist.all_gather_object(gathered, values)
    names = sorted({name for given in gathered for name in given})
    return {name: sum(given.get(name, 0.0) for given in gathered) for name in names}


def decided(find: Callable[[], T]) -> T:
    """What the first process finds, told to all; so is its error.

    On a network file system, each process may see another state of a folder for a while.
    """
    if world_size() == 1:
        return find()
    told: list[T | Exception | None] = [None]
    if rank() == 0:
        try:
            told = [find()]
        except (NorefError, OSError) as error:
            told = [error]
    dist.broadcast_object_list(told)
    if isinstance(told[0], Exception):
        raise told[0]
    return cast(T, told[0])


def barrier() -> None:
    """Waits until all processes are here."""
    if world_size() > 1:
        dist.barrier()


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """The module, with gradients averaged over the processes where there are several."""
    if world_size() == 1 or is_sharded(module):
        return module
    cuda = device.type == "cuda"
    return DistributedDataParallel(
        module,
        device_ids=[device.index] if cuda else None,
        # Exchanging takes a CPU from the pass that it would overlap with: all at once, after it.
        bucket_cap_mb=25 if cuda else _ALL,
        # Gradients are summed where they lie.
        gradient_as_bucket_view=True,
    )


def exchanges(module: nn.Module) -> bool:
    """Whether a pass through the module averages gradients over the processes."""
    return isinstance(module, DistributedDataParallel)


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Averages the gradients over the processes, unless passes through the module have done so.

    What none has a gradient of is left without, as in a single process.
    """
    if world_size() == 1 or exchanges(module) or is_sharded(module):
        return
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=grads[0].device)
    # As one vector: an exchange costs a round trip, however little it moves.
    flat = total(torch.cat([there.to(grads[0].dtype), *(grad.flatten() for grad in grads)]))
    found, *sums = torch.split(flat, [len(grads), *(grad.numel() for grad in grads)])
    for parameter, grad, summed, number in zip(parameters, grads, sums, found.tolist(), strict=True):
        parameter.grad = grad.copy_(summed.view(grad.shape) / world_size()) if number else None


def unsynchronised(module: nn.Module, last: bool) -> AbstractContextManager[None]:
    """A context in which gradients stay local, for all but the last micro-batch of a step.

    Sharded modules exchange theirs after every one: no process has room for a whole gradient.
    """
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()
