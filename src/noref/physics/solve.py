"""Conjugate gradients, batched, and the regularised least-squares solve of an encoding operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noref.physics.operators import back_to_pairs, beside_maps, normal, sense_normal_maps_gradient


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Real inner product per batch element, shaped to multiply images."""
    return (a * b).flatten(1).sum(1).view(-1, *(1,) * (a.ndim - 1))


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor],
    right: Tensor,
    *,
    iterations: int,
    tolerance: float = 0.0,
    start: Tensor | None = None,
) -> Tensor:
    """Solves `H x = b` for a symmetric positive definite `H`, every batch element on its own.

    Args:
        operator: `H`, real pairs `(batch, …)` to the same shape.
        right: `b`, real `(batch, …)`.
        iterations: at most this many; exactly this many with `tolerance = 0`.
        tolerance: a batch element with `‖b − Hx‖ ≤ tolerance·‖b‖` is solved, and stays as it is.
        start: initial `x`; zero if None.
    """
    x = torch.zeros_like(right) if start is None else start
    residual = right if start is None else right - operator(start)
    direction = residual
    power = _dot(residual, residual)
    limit = tolerance**2 * _dot(right, right)
    tiny = torch.finfo(right.dtype).tiny
    for _ in range(iterations):
        # Not asked of a GPU, which would have to be waited for.
        if tolerance > 0 and not right.is_cuda and bool((power <= limit).all()):
            break
        image = operator(direction)
        step = torch.where(power > limit, power / _dot(direction, image).clamp_min(tiny), 0)
        x = torch.addcmul(x, step, direction)
        residual = torch.addcmul(residual, step, image, value=-1)
        new_power = _dot(residual, residual)
        direction = torch.addcmul(residual, new_power / power.clamp_min(tiny), direction)
        power = new_power
    return x


@torch.library.custom_op("noref::sense_solve", mutates_args=())
def sense_solve(
    right: Tensor, damping: Tensor, maps: Tensor, mask: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """`(AᴴA + λ)⁻¹ b` on image pairs; `damping` is λ, a tensor of one element.

    The gradient is implicit: with `u = (AᴴA + λ)⁻¹ g`, `∂b = u`, `∂λ = −Re⟨u, x⟩`, and minus the maps'
    gradient of `Re⟨u, AᴴA x⟩`. It is as exact as the solve has converged.
    """
    complex_maps = torch.view_as_complex(maps)

    def operator(x: Tensor) -> Tensor:
        image = torch.view_as_complex(x)
        return torch.view_as_real(normal(image, complex_maps, mask).add_(damping * image))

    # As the maps lie, and complex: nothing is moved between iterations.
    begin = torch.view_as_real(beside_maps(right, mask))
    solution = conjugate_gradients(operator, begin, iterations=iterations, tolerance=tolerance)
    return back_to_pairs(torch.view_as_complex(solution), mask)


@sense_solve.register_fake
def _(right: Tensor, *arguments: object) -> Tensor:  # noqa: ARG001 - the signature is the operator's
    return torch.empty_like(right, memory_format=torch.contiguous_format)


def _solve_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, damping, maps, mask, ctx.iterations, ctx.tolerance = inputs
    ctx.save_for_backward(output, damping, maps, mask)


def _solve_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    solution, damping, maps, mask = ctx.saved_tensors
    u = sense_solve(gradient.contiguous(), damping, maps, mask, ctx.iterations, ctx.tolerance)
    to_damping = -(u * solution).sum().view_as(damping) if ctx.needs_input_grad[1] else None
    to_maps = -sense_normal_maps_gradient(u, solution, maps, mask) if ctx.needs_input_grad[2] else None
    return (u if ctx.needs_input_grad[0] else None), to_damping, to_maps, None, None, None


sense_solve.register_autograd(_solve_backward, setup_context=_solve_context)
