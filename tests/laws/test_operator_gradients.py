"""What must hold for the gradient of every operator, eager and compiled."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from random_encodings import BATCH, draw, encode, make_cartesian, make_maps, make_mask, make_spokes
from torch import Tensor, nn

from noref.physics import cartesian, fft2c, ifft2c, to_complex, to_pairs
from noref.physics import operators as ops
from noref.physics.noncartesian import spoke_adjoint, spoke_forward, spoke_maps_gradient, toeplitz_spectrum
from noref.physics.solve import sense_solve

GRADIENTS = list(itertools.product([(4, 4), (3, 5)], (1, 3), (1, 2), ("lines", "points", "spokes")))


@pytest.mark.parametrize("case", GRADIENTS)
@pytest.mark.parametrize("name", ["forward", "adjoint", "normal", "solve"])
def test_gradients_by_data_maps_and_damping(name: str, case: tuple[tuple[int, int], int, int, str]) -> None:
    shape, coils, sets, kind = case
    maps = make_maps(shape, coils, sets).requires_grad_()
    samples = encode(maps.detach(), kind).mask.shape[1:]
    domain = (coils, *samples) if name == "adjoint" else (sets, *shape)
    data = draw(BATCH, *domain, seed=4).requires_grad_()
    damping = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def apply(data: Tensor, maps: Tensor, damping: Tensor) -> Tensor:
        encoding = encode(maps, kind)
        if name == "solve":
            return encoding.solve(data, damping, iterations=200, tolerance=1e-13)
        return getattr(encoding, name)(data) * damping

    assert torch.autograd.gradcheck(apply, (data, maps, damping), fast_mode=True)


def test_every_entry_of_a_small_jacobian() -> None:
    mask, maps = make_mask("points", (3, 2)), make_maps((3, 2), 2, 1).requires_grad_()
    x = draw(BATCH, 1, 3, 2).requires_grad_()
    for name in ("forward", "normal"):
        assert torch.autograd.gradcheck(lambda x, m, n=name: getattr(cartesian(mask, m), n)(x), (x, maps))


def test_a_gradient_by_the_data_alone_keeps_nothing_for_the_maps() -> None:
    encoding = make_cartesian((6, 9), 3, 2, "points")
    x = to_pairs(draw(BATCH, 2, 6, 9)).requires_grad_()
    saved = encoding.normal_pairs(x).grad_fn.saved_tensors
    assert saved[0] is None


def _op_calls(gradients: bool) -> dict[str, tuple[object, tuple[object, ...]]]:
    encoding = make_cartesian((6, 5), 3, 2, "points")
    folded = encoding.folded.float().requires_grad_(gradients)
    lines = folded.detach().transpose(3, 4).contiguous().requires_grad_(gradients)
    weight, mask = encoding._weight.float(), encoding.kernel[1].float()
    x = draw(BATCH, 4, 6, 5, dtype=torch.float32).requires_grad_(gradients)
    y = draw(BATCH, 3, 6, 5, 2, dtype=torch.float32).requires_grad_(gradients)
    damping = torch.tensor([0.5], requires_grad=gradients)
    spokes = make_spokes(make_maps((6, 5), 3, 2).to(torch.complex64))
    where = (spokes.trajectory, spokes._weight)
    z = draw(BATCH, 3, *spokes.mask.shape[1:], 2, dtype=torch.float32).requires_grad_(gradients)
    own = spokes.folded.requires_grad_(gradients)
    calls: dict[str, tuple[object, tuple[object, ...]]] = {
        "normal": (ops.sense_normal, (x, folded, mask)),
        "normal of lines": (ops.sense_normal, (x, lines, mask[..., :1].contiguous())),
        "forward": (ops.sense_forward, (x, folded, weight)),
        "adjoint": (ops.sense_adjoint, (y, folded, weight)),
        "solve": (sense_solve, (x, damping, folded, mask, 5, 0.0)),
        "forward of spokes": (spoke_forward, (x, own, *where)),
        "adjoint of spokes": (spoke_adjoint, (z, own, *where)),
        "normal of spokes": (ops.sense_normal, (x, own, spokes.kernel[1])),
        "solve of spokes": (sense_solve, (x, damping, own, spokes.kernel[1], 5, 0.0)),
    }
    if not gradients:  # the gradients by the maps are themselves differentiated by nothing
        calls["normal's maps"] = (ops.sense_normal_maps_gradient, (x, x, folded, mask))
        calls["spokes' maps"] = (spoke_maps_gradient, (x, z, own, *where))
        calls["spokes' spectrum"] = (toeplitz_spectrum, (where[1].square(), where[0], 6, 5))
        calls["forward's maps"] = (ops.sense_maps_gradient, (x, y, weight))
    return calls


@pytest.mark.parametrize(("gradients", "name"), [(g, name) for g in (False, True) for name in _op_calls(g)])
def test_custom_operators_are_what_the_compiler_is_told(gradients: bool, name: str) -> None:
    operator, arguments = _op_calls(gradients)[name]
    torch.library.opcheck(operator, arguments)  # type: ignore[arg-type] # several operators


class Unrolled(nn.Module):
    """Two gradient steps with convolutions in between."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor, start: Tensor, folded: Tensor, mask: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = x - 0.5 * (ops.sense_normal(x.contiguous(), folded, mask) - start)
            x = x + torch.relu(convolution(x))
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own imports
def test_compiled_gradients_are_the_eager_ones() -> None:
    torch.manual_seed(0)
    encoding = make_cartesian((6, 5), 2, 1, "points")
    folded, mask = encoding.folded.float(), encoding.kernel[1].float()
    start = draw(BATCH, 2, 6, 5, dtype=torch.float32)
    network = Unrolled().to(memory_format=torch.channels_last)

    def gradients(call: Callable[..., Tensor]) -> list[Tensor]:
        image, maps = start.clone().requires_grad_(), folded.clone().requires_grad_()
        loss = call(image, start, maps, mask).square().sum()
        return list(torch.autograd.grad(loss, [image, maps, *network.parameters()]))

    eager = gradients(network)
    compiled = gradients(torch.compile(network, backend="aot_eager_decomp_partition"))
    for a, b in zip(eager, compiled, strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-5


def test_the_solve_and_its_gradients_are_those_of_the_dense_system() -> None:
    shape, sets = (4, 5), 2
    mask, maps = make_mask("points", shape), make_maps(shape, 3, sets)
    size = 2 * sets * shape[0] * shape[1]
    identity = torch.eye(size, dtype=torch.float64).view(size, 2 * sets, *shape)
    right = to_pairs(draw(1, sets, *shape))
    weight = draw(*right.shape, seed=9, dtype=torch.float64)

    def dense(right: Tensor, damping: Tensor, maps: Tensor) -> Tensor:
        many = cartesian(mask[:1].expand(size, -1, -1), maps[:1].expand(size, -1, -1, -1, -1))
        coils = fft2c((many.maps * to_complex(identity)[:, :, None]).sum(1)) * mask[:1, None]
        normal = (maps[:1].conj() * ifft2c(coils)[:, None]).sum(2)
        matrix = torch.stack((normal.real, normal.imag), 2).flatten(1).mT
        return torch.linalg.solve(
            matrix + damping * torch.eye(size, dtype=matrix.dtype), right.flatten()
        ).view_as(right)

    def implicit(right: Tensor, damping: Tensor, maps: Tensor) -> Tensor:
        return cartesian(mask[:1], maps[:1]).solve_pairs(right, damping, iterations=200, tolerance=1e-12)

    def gradients(solve: Callable[..., Tensor]) -> list[Tensor]:
        inputs = [t.clone().requires_grad_() for t in (right, torch.tensor(0.2, dtype=torch.float64), maps)]
        return list(torch.autograd.grad((weight * solve(*inputs)).sum(), inputs))

    arguments = (right, torch.tensor(0.2, dtype=torch.float64), maps)
    torch.testing.assert_close(implicit(*arguments), dense(*arguments), rtol=0, atol=1e-9)
    for mine, exact in zip(gradients(implicit), gradients(dense), strict=True):
        assert float((mine - exact).norm() / exact.norm()) < 1e-6
