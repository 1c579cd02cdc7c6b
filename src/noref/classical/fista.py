"""The fast iterative shrinkage-thresholding algorithm, shared by the regularised reconstructions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from noref.physics import Encoding, to_complex, to_pairs

Proximal = Callable[[Tensor, Tensor], Tensor]
"""`argmin_x ½‖x − z‖² + λ g(x)` of `z`, pairs `(batch, 2·sets, y, x)`, and λ, `(batch, 1, 1, 1)`."""


def fista(
    kspace: Tensor,
    encoding: Encoding,
    strength: float,
    proximal: Proximal,
    start: Tensor | None,
    *,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """`min_x ½‖A x − y‖² + λ g(x)` (Beck & Teboulle, SIAM J. Imaging Sci. 2009, 2:183).

    λ is `strength` times the 99.5th percentile of `|Aᴴ y|`.

    Args:
        kspace: complex64 `(batch, coils, ky, kx)`; samples outside the encoding's mask are not read.
        encoding: of the samples.
        strength: of the regularisation.
        proximal: of `g`; asked once in each iteration.
        start: complex64 `(batch, sets, y, x)`; `Aᴴ y` if None.
        iterations: at most.
        tolerance: stop once no scan's image changes by more than this share of it.

    Returns:
        complex64 `(batch, sets, y, x)`.
    """
    right = encoding.adjoint_pairs(torch.view_as_real(kspace))
    step = 1 / largest_eigenvalue(encoding)
    threshold = step * strength * brightness(right)
    image = right if start is None else to_pairs(start)
    ahead, momentum = image, 1.0
    for _ in range(iterations):
        new = proximal(ahead + step * (right - encoding.normal_pairs(ahead)), threshold)
        change, before = new - image, momentum
        momentum = next_momentum(momentum)
        image, ahead = new, new + ((before - 1) / momentum) * change
        if bool((norm(change) <= tolerance * norm(image)).all()):
            break
    return to_complex(image)


def next_momentum(momentum: float) -> float:
    """`t_{k+1} = (1 + √(1 + 4 t_k²)) / 2`; the step ahead is `(t_k − 1) / t_{k+1}` of the last change."""
    return (1 + math.sqrt(1 + 4 * momentum**2)) / 2


def largest_eigenvalue(encoding: Encoding) -> Tensor:
    """A bound of the largest eigenvalue of `AᴴA`, per scan `(batch, 1, 1, 1)`; 1 for maps of unit norm.

    As `‖M F‖ ≤ 1`, on the grid and with density compensation off it, it is that of the maps alone: the
    largest row sum of `|SᴴS|`, `(sets, sets)`, of any pixel (Gershgorin).
    """
    maps = torch.view_as_complex(encoding.folded)
    rows = [(maps[:, s, None].conj() * maps).sum(2).abs().sum(1) for s in range(encoding.sets)]
    return torch.stack(rows).amax((0, 2, 3)).view(-1, 1, 1, 1)


def norm(image: Tensor) -> Tensor:
    """The 2-norm of pairs `(batch, 2·sets, y, x)`, per scan `(batch,)`."""
    return image.square().sum((1, 2, 3)).sqrt()


def brightness(image: Tensor) -> Tensor:
    """The 99.5th percentile of the magnitude of pairs, per scan `(batch, 1, 1, 1)`."""
    magnitude = to_complex(image).abs().flatten(1)
    rank = max(round(0.995 * magnitude.shape[1]), 1)
    percentile: Tensor = magnitude.kthvalue(rank, dim=1).values
    return percentile.view(-1, 1, 1, 1)
