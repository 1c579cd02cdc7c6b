"""The gradient of one optimiser step, summed over micro-batches and processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noref.methods.view import Views
from noref.scan import Role
from noref.seeding import Key
from noref.training.distributed import (
    average_gradients,
    exchanges,
    total,
    total_by_name,
    unsynchronised,
    world_size,
)
from noref.training.graphs import Pass, eager


def accumulate(
    module: nn.Module,
    micro_batches: list[Views],
    key: Key,
    device: torch.device,
    *,
    apart: bool = False,
    take: Pass = eager,
) -> tuple[dict[str, float], dict[str, float]]:
    """Leaves in the parameters the gradient of the mean loss over the views of all processes.

    `L = Σ_views share · loss / Σ_views share`. Both kinds of scan add up: `L = L_target + L_proxy`, and so do
    their gradients; whose is longer, dominates.

    Args:
        module: a `Step`; for several processes wrapped, unless its passes are replayed. Its parameters have
            no gradients.
        micro_batches: of this process; targets before proxies.
        key: of the step.
        device: to compute on.
        apart: also tell targets from proxies. Costs memory for one more gradient and, where passes exchange
            theirs, one more pass.
        take: how to take a pass.

    Returns:
        this process's part of every term of the loss; and, `apart`, of all processes together the loss and
        the gradient's norm of each kind, `loss_target`, `gradient_target`, `loss_proxy`, `gradient_proxy`;
        nothing of a kind that the step has none of.
    """
    share = torch.stack([views.share.sum() for views in micro_batches]).sum().to(device)
    weight = total(share)
    passes = list(micro_batches)
    if apart and exchanges(module):
        # Exchanging mixes the processes' gradients: it waits for a pass without weight, after all others.
        passes.append(passes[-1].idle())
    targets = sum(views.role is Role.TARGET for views in micro_batches)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    by_role = dict.fromkeys(Role, 0.0)
    sums: dict[str, Tensor] = {}
    of_targets = _flat(parameters) if apart else None
    for number, views in enumerate(passes):
        with unsynchronised(module, last=number == len(passes) - 1):
            # Ranks average their gradients: times their number, the sum over all views is left.
            graded, terms = take(module, views.to(device), key, world_size() / weight)
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + term
        if apart:
            by_role[views.role] += float(graded / weight)
            if number == targets - 1:
                of_targets = _flat(parameters)
    average_gradients(module)
    values = (torch.stack(list(sums.values())) / weight).tolist()
    told: dict[str, float] = {}
    if of_targets is not None:
        losses = {f"loss_{role}": loss for role, loss in by_role.items()}
        held = total_by_name(
            {role: sum(float(v.share.sum()) for v in micro_batches if v.role is role) for role in Role}
        )
        of_targets = total(of_targets) / world_size()
        told = {
            **total_by_name(losses),
            "gradient_target": float(of_targets.norm()),
            "gradient_proxy": float((_flat(parameters) - of_targets).norm()),
        }
        told = {name: value for name, value in told.items() if held[name.split("_")[1]] > 0}
    return dict(zip(sums, values, strict=True)), told


def _flat(parameters: list[nn.Parameter]) -> Tensor:
    """All gradients so far as one vector, a copy."""
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([grad.detach().flatten() for grad in grads])


def mean_guessed(micro_batches: list[Views]) -> float:
    """The share of what targets show that is a teacher's guess, a mean over the views of all processes."""
    shown = [views for views in micro_batches if views.role is Role.TARGET]
    sums = {
        "guessed": sum(float((views.share * views.guessed).sum()) for views in shown),
        "share": sum(float(views.share.sum()) for views in shown),
    }
    everywhere = total_by_name(sums)
    return everywhere["guessed"] / max(everywhere["share"], 1e-30)
