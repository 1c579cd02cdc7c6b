"""Weights, gradients and optimiser divided among the processes (FSDP), for networks that one cannot hold.

PyTorch's part of it takes a second to import, which only sharded trainings spend.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from noref.errors import NorefError
from noref.networks.base import Network

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def shard(step: nn.Module, device: torch.device) -> None:
    """Divides a module's parameters among the processes, in place.

    The weights of an unrolled step are whole on every process only while that step computes. What is no block
    of a network, such as learned step sizes, is whole during a pass.

    Args:
        step: with all its weights, the same on every process.
        device: of this process.

    Raises:
        NorefError: for parameters that cannot be divided.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for name, parameter in step.named_parameters():
        if parameter.ndim == 0:
            raise NorefError(
                f"training.shard: {name} is a single number, which cannot be divided; train without shard"
            )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    step.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # left out by PyTorch
    # Of changing what steps return in place; no network does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    for network in [module for module in step.modules() if isinstance(module, Network)]:
        # What a network around another one has beside it is small.
        if not any(isinstance(child, Network) for child in network.children()):
            for block in network.blocks():
                fully_shard(block, mesh=mesh)
    root = fully_shard(step, mesh=mesh)
    # The outermost module must be the first to be called, and scoring calls the network inside.
    register_fsdp_forward_method(step, "eval")
    step.eval()
    root.reshard()
    step.train()


def is_sharded(module: nn.Module) -> TypeGuard[FSDPModule]:
    """Whether `shard` has divided the module's parameters."""
    return hasattr(module, "unshard")


def _is_divided(tensor: Tensor) -> TypeGuard[DTensor]:
    return hasattr(tensor, "full_tensor")


@contextmanager
def whole(step: nn.Module) -> Iterator[None]:
    """All weights on every process, for passes without gradients of which ranks take different numbers."""
    parts = [module for module in step.modules() if is_sharded(module)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not parts[0], recurse=False)
            part.reshard()


def assembled(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """The whole of divided tensors; all processes must ask for the same ones, in the same order.

    Args:
        tensors: divided or not; those that are not stay as they are.
        keep: whether this process wants them. Divided ones then come on the CPU, one after the other.
    """
    found = {}
    for name, tensor in tensors.items():
        entire = tensor.full_tensor().cpu() if _is_divided(tensor) else tensor
        if keep:
            found[name] = entire
    return found


def divided(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, divided as another one is; as it stands if that is not."""
    if not _is_divided(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # Every process has read it all: none has to send it.
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def divided_as(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, divided as those of the same name in the module's state are."""
    own = module.state_dict()
    return {name: divided(tensor, own[name]) for name, tensor in tensors.items()}


def clip(step: nn.Module, largest: float) -> float:
    """Scales the gradient down to a norm of at most `largest`; returns the norm it had."""
    norm = torch.nn.utils.clip_grad_norm_(step.parameters(), largest)
    return float(norm.full_tensor() if _is_divided(norm) else norm)
