"""The module that distributed training wraps."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from noref.errors import NorefError
from noref.methods.base import Method
from noref.methods.view import Views
from noref.networks.base import Network
from noref.seeding import Key
from noref.training.sharding import is_sharded


class Step(nn.Module):
    """One pass of a method and a network over one micro-batch.

    Args:
        method: what is graded.
        network: what is trained.
        precision: `bf16` lets convolutions compute in bfloat16, `auto` where the hardware does so; the
            physics operators stay in float32. For the others see `allow_tf32`.
    """

    def __init__(self, method: Method, network: Network, precision: str = "float32") -> None:
        super().__init__()
        method.meet(network)
        self.method, self.network, self.precision = method, network, precision

    def forward(self, views: Views, key: Key) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over views of share times loss, and the same for every term, detached."""
        device = views.share.device.type
        half = self.precision == "bf16" or (self.precision == "auto" and multiplies_bfloat16(device))
        with torch.autocast(device, torch.bfloat16, enabled=half):
            losses = self.method.loss(self.network, views, key)
        sums = {name: (views.share * term).sum() for name, term in losses.items()}
        terms = list(sums.values())
        if not is_sharded(self):
            # A method's own weights may have no part in views of this role, but processes that exchange
            # gradients wait for one of every weight. Where weights are divided, no one waits.
            terms += [0 * weight.sum() for weight in self.method.parameters()]
        return torch.stack(terms).sum(), {name: term.detach() for name, term in sums.items()}


def allow_tf32(precision: str) -> None:
    """Has GPUs round what float32 convolutions multiply to TF32, unless the precision is `float32` itself.

    PyTorch keeps one such switch for the whole process.
    """
    torch.backends.cudnn.allow_tf32 = precision != "float32"


@cache
def multiplies_bfloat16(device: str) -> bool:
    """Whether a kind of device computes in bfloat16 itself; CPUs that imitate it take ten times as long."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Not in torch's public interface yet: where the names are gone, float32 it is.
    features = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device == "cpu" and any(getattr(torch.cpu, name, bool)() for name in features)


def compile_checked(step: Step, views: Views, key: Key) -> None:
    """Compiles the network's blocks, after comparing one batch's gradients with the eager ones.

    Raises:
        NorefError: if `‖g_compiled − g_eager‖ / ‖g_eager‖` is 0.001 or more.
    """

    def gradient() -> Tensor:
        step.zero_grad()
        step(views, key)[0].backward()
        flat = torch.cat([p.grad.flatten() for p in step.parameters() if p.grad is not None])
        step.zero_grad()
        return flat

    eager = gradient()
    for block in step.network.blocks():
        block.compile()
    difference = float((gradient() - eager).norm() / eager.norm().clamp_min(1e-30))
    if not difference < 1e-3:
        raise NorefError(
            f"the compiled network's gradients differ from the eager ones by {difference:.1e}; "
            "train with training.compile=false"
        )
