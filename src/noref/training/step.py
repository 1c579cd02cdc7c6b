"""The module that distributed training wraps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noref.methods.base import Method, Views
from noref.networks.base import Network
from noref.seeding import Key


class Step(nn.Module):
    """One pass of a method and a network over one micro-batch.

    Args:
        method: what is graded.
        network: what is trained.
        precision: `bf16` lets convolutions compute in bfloat16; the physics operators stay in float32.
    """

    def __init__(self, method: Method, network: Network, precision: str = "float32") -> None:
        super().__init__()
        self.method, self.network, self.precision = method, network, precision

    def forward(self, views: Views, key: Key) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over views of share times loss, and the same for every term, detached."""
        with torch.autocast(views.share.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            losses = self.method.loss(self.network, views, key)
        sums = {name: (views.share * term).sum() for name, term in losses.items()}
        return torch.stack(list(sums.values())).sum(), {name: term.detach() for name, term in sums.items()}


def check_compiled(step: Step, views: Views, key: Key) -> float:
    """Compiles the network's blocks and compares one batch's gradients with the eager ones.

    Returns:
        `‖g_compiled − g_eager‖ / ‖g_eager‖`.
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
    return float((gradient() - eager).norm() / eager.norm().clamp_min(1e-30))
