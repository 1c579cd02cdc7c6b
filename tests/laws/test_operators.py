"""What must hold for every operator: linear, adjoint, differentiable, and what its formula says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noref.physics import (
    CartesianEncoding,
    cartesian,
    conjugate_gradients,
    constant_along_readout,
    crop_centre,
    fft2c,
    ifft2c,
    pad_centre,
    to_complex,
    to_pairs,
)
from noref.physics import operators as ops
from noref.physics.solve import sense_solve

BATCH = 2
SHAPES = [(8, 8), (7, 5), (6, 9)]
CASES = list(itertools.product(SHAPES, (1, 3), (1, 2), ("lines", "points")))


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def make_mask(kind: str, shape: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    width = 1 if kind == "lines" else shape[1]
    mask = torch.rand(BATCH, shape[0], width, generator=generator) < 0.6
    mask[:, shape[0] // 2] = True
    return mask.expand(BATCH, *shape).clone()


def make_maps(shape: tuple[int, int], coils: int, sets: int) -> Tensor:
    maps = draw(BATCH, sets, coils, *shape, seed=3)
    return maps / maps.abs().square().sum(2, keepdim=True).sqrt()


def make(shape: tuple[int, int], coils: int, sets: int, kind: str) -> CartesianEncoding:
    return cartesian(make_mask(kind, shape), make_maps(shape, coils, sets))


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0][0]}x{c[0][1]}-coils{c[1]}-sets{c[2]}-{c[3]}")
def encoding(request: pytest.FixtureRequest) -> CartesianEncoding:
    return make(*request.param)


@dataclass(frozen=True)
class Operator:
    """A linear operator with its adjoint and the shape it takes."""

    apply: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    domain: tuple[int, ...]


def operators(encoding: CartesianEncoding) -> dict[str, Operator]:
    """Every linear operator of the physics."""
    images = (BATCH, encoding.sets, *encoding.shape)
    samples = (BATCH, encoding.coils, *encoding.shape)
    larger, smaller = tuple(n + 3 for n in encoding.shape), tuple(n - 2 for n in encoding.shape)

    def solve(b: Tensor) -> Tensor:
        return encoding.solve(b, 0.3, iterations=200, tolerance=1e-13)

    return {
        "forward": Operator(encoding.forward, encoding.adjoint, images),
        "adjoint": Operator(encoding.adjoint, encoding.forward, samples),
        "normal": Operator(encoding.normal, encoding.normal, images),
        "solve": Operator(solve, solve, images),
        "full": Operator(encoding.full().forward, encoding.full().adjoint, images),
        "fft2c": Operator(fft2c, ifft2c, images),
        "ifft2c": Operator(ifft2c, fft2c, images),
        "pad_centre": Operator(
            lambda x: pad_centre(x, larger), lambda x: crop_centre(x, encoding.shape), images
        ),
        "crop_centre": Operator(
            lambda x: crop_centre(x, smaller), lambda x: pad_centre(x, encoding.shape), images
        ),
        "pairs": Operator(lambda x: to_complex(to_pairs(x)), lambda x: x, images),
    }


def inner(a: Tensor, b: Tensor) -> Tensor:
    return torch.vdot(a.flatten(), b.flatten())


def test_operators_are_linear(encoding: CartesianEncoding) -> None:
    a, b = 0.7 - 1.3j, -0.2 + 0.4j
    for name, operator in operators(encoding).items():
        x, z = draw(*operator.domain, seed=1), draw(*operator.domain, seed=2)
        sum_of_images = a * operator.apply(x) + b * operator.apply(z)
        torch.testing.assert_close(operator.apply(a * x + b * z), sum_of_images, msg=name)


def test_operators_and_their_adjoints_have_equal_inner_products(encoding: CartesianEncoding) -> None:
    for name, operator in operators(encoding).items():
        x = draw(*operator.domain, seed=1)
        image = operator.apply(x)
        y = draw(*image.shape, seed=2)
        torch.testing.assert_close(inner(y, image), inner(operator.adjoint(y), x), msg=name)


def defined(x: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """`M F Σ_s S_s x_s` with NumPy, F from its definition."""

    def axis(n: int) -> np.ndarray:
        k = np.arange(n) - n // 2
        return np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)

    coils = (maps * x[:, :, None]).sum(1).numpy()
    kspace = axis(coils.shape[-2]) @ coils @ axis(coils.shape[-1])
    return mask[:, None] * torch.from_numpy(kspace)


@pytest.mark.parametrize("case", CASES)
def test_the_forward_operator_is_its_formula(case: tuple[tuple[int, int], int, int, str]) -> None:
    shape, coils, sets, kind = case
    maps, mask = make_maps(shape, coils, sets), make_mask(kind, shape)
    x = draw(BATCH, sets, *shape)
    torch.testing.assert_close(cartesian(mask, maps).forward(x), defined(x, maps, mask))
    torch.testing.assert_close(cartesian(mask, maps).maps, maps)


def test_the_normal_operator_is_adjoint_after_forward(encoding: CartesianEncoding) -> None:
    x = draw(BATCH, encoding.sets, *encoding.shape)
    torch.testing.assert_close(encoding.normal(x), encoding.adjoint(encoding.forward(x)))


@pytest.mark.parametrize("shape", SHAPES)
def test_line_masks_need_no_fft_along_the_readout(shape: tuple[int, int]) -> None:
    mask, maps = make_mask("lines", shape), make_maps(shape, 3, 2)
    short = cartesian(mask, maps)
    assert short.lines
    assert short._normal_mask.shape == (BATCH, shape[0], 1)
    x = to_pairs(draw(BATCH, 2, *shape))
    long = ops.sense_normal(x, short.folded, mask.to(x.dtype))
    torch.testing.assert_close(short.normal_pairs(x), long)
    gradient = draw(*x.shape, seed=5, dtype=x.dtype)
    by_maps = [
        ops.sense_normal_maps_gradient(gradient, x, short.folded, m)
        for m in (mask.to(x.dtype), short._normal_mask)
    ]
    torch.testing.assert_close(*by_maps)


def test_whole_lines_are_told_from_points() -> None:
    mask = torch.zeros(2, 4, 5, dtype=torch.bool)
    mask[:, 1] = True
    assert constant_along_readout(mask)
    mask[1, 2, 3] = True
    assert not constant_along_readout(mask)
    assert not cartesian(torch.ones_like(mask), torch.ones(2, 1, 1, 4, 5) + 0j).restrict(mask).lines


def test_masks_are_replaced_restricted_and_filled(encoding: CartesianEncoding) -> None:
    x = draw(BATCH, encoding.sets, *encoding.shape)
    other = make_mask("points", encoding.shape).flip(1)
    full = encoding.full().forward(x)
    torch.testing.assert_close(encoding.restrict(other).forward(x), full * (encoding.mask & other)[:, None])
    torch.testing.assert_close(encoding.with_mask(other).forward(x), full * other[:, None])


def test_measured_samples_survive_data_consistency(encoding: CartesianEncoding) -> None:
    x = draw(BATCH, encoding.sets, *encoding.shape)
    y = draw(BATCH, encoding.coils, *encoding.shape, seed=1)
    result = encoding.consistent(x, y)
    measured = encoding.mask[:, None].expand_as(y)
    assert torch.equal(result[measured], y[measured])
    torch.testing.assert_close(result[~measured], encoding.full().forward(x)[~measured])


def test_methods_on_pairs_give_contiguous_tensors_whatever_they_get(encoding: CartesianEncoding) -> None:
    x = to_pairs(draw(BATCH, encoding.sets, *encoding.shape)).to(memory_format=torch.channels_last)
    y = draw(encoding.coils, BATCH, *encoding.shape, 2, dtype=torch.float64).transpose(0, 1)
    assert encoding.coils == 1 or not y.is_contiguous()
    results = {
        "forward": encoding.forward_pairs(x),
        "adjoint": encoding.adjoint_pairs(y),
        "normal": encoding.normal_pairs(x),
        "solve": encoding.solve_pairs(x, 0.5),
        "to_pairs": to_pairs(draw(encoding.sets, BATCH, *encoding.shape).transpose(0, 1)),
    }
    for name, result in results.items():
        assert result.is_contiguous(), name
    torch.testing.assert_close(results["normal"], encoding.normal_pairs(x.contiguous()))
    torch.testing.assert_close(results["adjoint"], encoding.adjoint_pairs(y.contiguous()))


def test_a_conjugate_view_is_its_values() -> None:
    encoding = make((6, 9), 3, 1, "points")
    x, y = draw(BATCH, 1, 6, 9), draw(BATCH, 3, 6, 9)
    torch.testing.assert_close(encoding.adjoint(y.conj()), encoding.adjoint(y.conj_physical()))
    torch.testing.assert_close(encoding.forward(x.conj()), encoding.forward(x.conj_physical()))
    torch.testing.assert_close(encoding.solve(x.conj(), 0.1), encoding.solve(x.conj_physical(), 0.1))


def test_masks_that_do_not_fit_the_maps_are_refused() -> None:
    maps = make_maps((6, 9), 1, 1)
    with pytest.raises(ValueError, match="does not fit"):
        cartesian(make_mask("lines", (6, 8)), maps)
    with pytest.raises(ValueError, match="does not fit"):
        cartesian(make_mask("lines", (6, 9))[:1], maps)


GRADIENTS = list(itertools.product([(4, 4), (3, 5)], (1, 3), (1, 2), ("lines", "points")))


@pytest.mark.parametrize("case", GRADIENTS)
@pytest.mark.parametrize("name", ["forward", "adjoint", "normal", "solve"])
def test_gradients_by_data_maps_and_damping(name: str, case: tuple[tuple[int, int], int, int, str]) -> None:
    shape, coils, sets, kind = case
    mask = make_mask(kind, shape)
    maps = make_maps(shape, coils, sets).requires_grad_()
    data = draw(BATCH, coils if name == "adjoint" else sets, *shape, seed=4).requires_grad_()
    damping = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def apply(data: Tensor, maps: Tensor, damping: Tensor) -> Tensor:
        encoding = cartesian(mask, maps)
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
    encoding = make((6, 9), 3, 2, "points")
    x = to_pairs(draw(BATCH, 2, 6, 9)).requires_grad_()
    saved = encoding.normal_pairs(x).grad_fn.saved_tensors
    assert saved[0] is None


def _op_calls(gradients: bool) -> dict[str, tuple[object, tuple[object, ...]]]:
    encoding = make((6, 5), 3, 2, "points")
    folded = encoding.folded.float().requires_grad_(gradients)
    weight, mask = encoding._weight.float(), encoding._normal_mask.float()
    x = draw(BATCH, 4, 6, 5, dtype=torch.float32).requires_grad_(gradients)
    y = draw(BATCH, 3, 6, 5, 2, dtype=torch.float32).requires_grad_(gradients)
    damping = torch.tensor([0.5], requires_grad=gradients)
    calls: dict[str, tuple[object, tuple[object, ...]]] = {
        "normal": (ops.sense_normal, (x, folded, mask)),
        "normal of lines": (ops.sense_normal, (x, folded, mask[..., :1].contiguous())),
        "forward": (ops.sense_forward, (x, folded, weight)),
        "adjoint": (ops.sense_adjoint, (y, folded, weight)),
        "solve": (sense_solve, (x, damping, folded, mask, 5, 0.0)),
    }
    if not gradients:  # the gradients by the maps are themselves differentiated by nothing
        calls["normal's maps"] = (ops.sense_normal_maps_gradient, (x, x, folded, mask))
        calls["forward's maps"] = (ops.sense_maps_gradient, (x, y, weight))
    return calls


@pytest.mark.parametrize(("gradients", "name"), [(g, name) for g in (False, True) for name in _op_calls(g)])
def test_custom_operators_are_what_the_compiler_is_told(gradients: bool, name: str) -> None:
    operator, arguments = _op_calls(gradients)[name]
    torch.library.opcheck(operator, arguments)  # type: ignore[arg-type]


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
    encoding = make((6, 5), 2, 1, "points")
    folded, mask = encoding.folded.float(), encoding._normal_mask.float()
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


@pytest.mark.parametrize("shape", [*SHAPES, (1, 4), (5, 1)])
def test_the_centred_transform_is_numpys(shape: tuple[int, int]) -> None:
    x = draw(2, *shape)
    axes = (-2, -1)
    shifted = np.fft.ifftshift(x.numpy(), axes=axes)
    expected = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)
    torch.testing.assert_close(fft2c(x), torch.from_numpy(expected))
    torch.testing.assert_close(ifft2c(fft2c(x)), x)
    torch.testing.assert_close(fft2c(x).norm(), x.norm())


def test_a_constant_image_is_one_sample_in_the_centre() -> None:
    kspace = fft2c(torch.ones(6, 9, dtype=torch.complex128))
    expected = torch.zeros(6, 9, dtype=torch.complex128)
    expected[3, 4] = 54**0.5
    torch.testing.assert_close(kspace, expected)


@pytest.mark.parametrize(("small", "large"), [*itertools.product([(4, 5), (5, 4)], [(8, 9), (9, 8), (5, 5)])])
def test_crop_undoes_pad_and_the_centre_stays(small: tuple[int, int], large: tuple[int, int]) -> None:
    x = draw(2, *small)
    padded = pad_centre(x, large)
    assert torch.equal(crop_centre(padded, small), x)
    assert torch.equal(padded[:, large[0] // 2, large[1] // 2], x[:, small[0] // 2, small[1] // 2])
    torch.testing.assert_close(padded.norm(), x.norm())


def test_crops_that_grow_and_pads_that_shrink_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot crop"):
        crop_centre(torch.zeros(4, 4), (5, 4))
    with pytest.raises(ValueError, match="cannot pad"):
        pad_centre(torch.zeros(4, 4), (5, 3))


def _systems(sizes: int = 12) -> tuple[Tensor, Tensor]:
    roots = draw(3, sizes, sizes, dtype=torch.float64)
    scale = torch.tensor([1.0, 1e-6, 1e4], dtype=torch.float64)[:, None, None]
    return scale * (roots @ roots.mT + torch.eye(sizes)), draw(3, sizes, seed=1, dtype=torch.float64)


def test_conjugate_gradients_agree_with_a_dense_solve() -> None:
    matrices, right = _systems()
    expected = torch.linalg.solve(matrices, right)
    apply = lambda x: (matrices @ x[..., None])[..., 0]  # noqa: E731
    for start in (None, draw(3, 12, seed=2, dtype=torch.float64)):
        solved = conjugate_gradients(apply, right, iterations=40, tolerance=1e-12, start=start)
        torch.testing.assert_close(solved, expected, rtol=1e-8, atol=0)


def test_every_batch_element_is_solved_on_its_own() -> None:
    matrices, right = _systems()
    right[1] = 0
    together = conjugate_gradients(lambda x: (matrices @ x[..., None])[..., 0], right, iterations=30)
    for i in range(3):
        alone = conjugate_gradients(lambda x, i=i: x @ matrices[i], right[i : i + 1], iterations=30)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-7, atol=0)
    assert torch.equal(together[1], torch.zeros(12, dtype=torch.float64))


def test_the_tolerance_holds_for_the_slowest_element() -> None:
    matrices, right = _systems()
    matrices[0] = torch.eye(12)
    calls = 0

    def apply(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (matrices @ x[..., None])[..., 0]

    solved = conjugate_gradients(apply, right, iterations=100, tolerance=1e-4)
    assert calls < 30
    residual = (right - (matrices @ solved[..., None])[..., 0]).norm(dim=1) / right.norm(dim=1)
    assert float(residual.max()) <= 1.01e-4


def test_no_tolerance_means_exactly_so_many_iterations() -> None:
    calls = []
    conjugate_gradients(lambda x: (calls.append(1), 2 * x)[1], torch.ones(1, 3), iterations=7, tolerance=0)
    assert len(calls) == 7


def test_float32_iterations_past_convergence_do_no_harm() -> None:
    encoding = make((8, 8), 3, 1, "points")
    single = cartesian(encoding.mask, encoding.maps.to(torch.complex64))
    right = draw(BATCH, 1, 8, 8)
    expected = encoding.solve(right, 0.05, iterations=300, tolerance=1e-13)
    solved = single.solve(right.to(torch.complex64), 0.05, iterations=500, tolerance=0)
    assert float((solved - expected).norm() / expected.norm()) < 1e-4


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
