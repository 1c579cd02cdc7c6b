"""What must hold for every operator: linear, adjoint, and what its formula says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from random_encodings import BATCH, SHAPES, draw, make, make_maps, make_mask
from torch import Tensor

from noref.physics import (
    Encoding,
    cartesian,
    constant_along_readout,
    crop_centre,
    fft2c,
    ifft2c,
    noncartesian,
    pad_centre,
    to_complex,
    to_pairs,
)
from noref.physics import operators as ops
from noref.sampling.spokes import radial

CASES = list(itertools.product(SHAPES, (1, 3), (1, 2), ("lines", "points")))
OFF_GRID = list(itertools.product(SHAPES, (1, 3), (1, 2), ("spokes",)))


@pytest.fixture(params=CASES + OFF_GRID, ids=lambda c: f"{c[0][0]}x{c[0][1]}-coils{c[1]}-sets{c[2]}-{c[3]}")
def encoding(request: pytest.FixtureRequest) -> Encoding:
    return make(*request.param)


@dataclass(frozen=True)
class Operator:
    """A linear operator with its adjoint and the shape it takes."""

    apply: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    domain: tuple[int, ...]


def operators(encoding: Encoding) -> dict[str, Operator]:
    """Every linear operator of the physics."""
    images = (BATCH, encoding.sets, *encoding.shape)
    samples = (BATCH, encoding.coils, *encoding.mask.shape[1:])
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


def test_operators_are_linear(encoding: Encoding) -> None:
    a, b = 0.7 - 1.3j, -0.2 + 0.4j
    for name, operator in operators(encoding).items():
        x, z = draw(*operator.domain, seed=1), draw(*operator.domain, seed=2)
        sum_of_images = a * operator.apply(x) + b * operator.apply(z)
        torch.testing.assert_close(operator.apply(a * x + b * z), sum_of_images, msg=name)


def test_operators_and_their_adjoints_have_equal_inner_products(encoding: Encoding) -> None:
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


def test_the_normal_operator_is_adjoint_after_forward(encoding: Encoding) -> None:
    x = draw(BATCH, encoding.sets, *encoding.shape)
    torch.testing.assert_close(encoding.normal(x), encoding.adjoint(encoding.forward(x)))


@pytest.mark.parametrize("shape", SHAPES)
def test_line_masks_need_no_fft_along_the_readout(shape: tuple[int, int]) -> None:
    mask, maps = make_mask("lines", shape), make_maps(shape, 3, 2)
    short = cartesian(mask, maps)
    assert short.lines
    assert short.kernel[1].shape == (BATCH, shape[0], 1)
    x = to_pairs(draw(BATCH, 2, *shape))
    long = ops.sense_normal(x, short.folded, mask.to(x.dtype))
    torch.testing.assert_close(short.normal_pairs(x), long)
    gradient = draw(*x.shape, seed=5, dtype=x.dtype)
    by_maps = ops.sense_normal_maps_gradient(gradient, x, short.folded, mask.to(x.dtype))
    turned = ops.sense_normal_maps_gradient(gradient, x, *short.kernel)
    torch.testing.assert_close(turned.transpose(3, 4), by_maps)


def test_whole_lines_are_told_from_points() -> None:
    mask = torch.zeros(2, 4, 5, dtype=torch.bool)
    mask[:, 1] = True
    assert constant_along_readout(mask)
    mask[1, 2, 3] = True
    assert not constant_along_readout(mask)
    assert not cartesian(torch.ones_like(mask), torch.ones(2, 1, 1, 4, 5) + 0j).restrict(mask).lines


def test_masks_are_replaced_restricted_and_filled(encoding: Encoding) -> None:
    x = draw(BATCH, encoding.sets, *encoding.shape)
    other = encoding.mask.flip(1)
    full = encoding.full().forward(x)
    torch.testing.assert_close(encoding.restrict(other).forward(x), full * (encoding.mask & other)[:, None])
    torch.testing.assert_close(encoding.with_mask(other).forward(x), full * other[:, None])


def test_measured_samples_survive_data_consistency(encoding: Encoding) -> None:
    x = draw(BATCH, encoding.sets, *encoding.shape)
    y = draw(BATCH, encoding.coils, *encoding.mask.shape[1:], seed=1)
    result = encoding.consistent(x, y)
    measured = encoding.mask[:, None].expand_as(y)
    assert torch.equal(result[measured], y[measured])
    torch.testing.assert_close(result[~measured], encoding.full().forward(x)[~measured])


def test_methods_on_pairs_give_contiguous_tensors_whatever_they_get(encoding: Encoding) -> None:
    x = to_pairs(draw(BATCH, encoding.sets, *encoding.shape)).to(memory_format=torch.channels_last)
    y = draw(encoding.coils, BATCH, *encoding.mask.shape[1:], 2, dtype=torch.float64).transpose(0, 1)
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


def test_what_was_measured_is_put_back_into_the_image(encoding: Encoding) -> None:
    """`SᴴS x + Aᴴ(y − A x)`: the image itself where it agrees, and Aᴴy added to it where it is zero."""
    x = draw(BATCH, encoding.sets, *encoding.shape)
    maps = encoding.maps
    seen = (maps.conj() * (maps * x[:, :, None]).sum(1, keepdim=True)).sum(2)
    torch.testing.assert_close(encoding.put_back(x, encoding.forward(x)), seen)
    y = draw(BATCH, encoding.coils, *encoding.mask.shape[1:], seed=1)
    torch.testing.assert_close(encoding.put_back(torch.zeros_like(x), y), encoding.adjoint(y))


def test_other_maps_and_turned_images(encoding: Encoding) -> None:
    x = draw(BATCH, encoding.sets, *encoding.shape)
    phase = torch.sgn(draw(*x.shape, seed=1))
    torch.testing.assert_close(encoding.turned(phase).forward(x), encoding.forward(phase * x))
    twice = encoding.with_maps(2 * encoding.maps)
    torch.testing.assert_close(twice.forward(x), 2 * encoding.forward(x))
    torch.testing.assert_close(twice.maps, 2 * encoding.maps)
    assert encoding.to("meta").folded.is_meta


@pytest.mark.parametrize("shape", SHAPES)
def test_spokes_that_lie_on_the_grid_are_a_cartesian_scan(shape: tuple[int, int]) -> None:
    maps, mask = make_maps(shape, 3, 2), make_mask("points", shape)
    axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).expand(BATCH, -1, -1, -1)
    here, there = cartesian(mask, maps), noncartesian(mask, maps, places)
    x, y = draw(BATCH, 2, *shape), draw(BATCH, 3, *shape)
    torch.testing.assert_close(there.forward(x), here.forward(x))
    torch.testing.assert_close(there.adjoint(y), here.adjoint(y))
    torch.testing.assert_close(there.normal(x), here.normal(x))
    torch.testing.assert_close(there.solve(x, 0.1), here.solve(x, 0.1))
    torch.testing.assert_close(there.put_back(x, y), here.put_back(x, y))


def test_in_single_precision_adjoint_and_normal_agree_to_five_digits() -> None:
    mask = torch.ones(1, 13, 64, dtype=torch.bool)
    maps = make_maps((32, 27), 4, 1)[:1].to(torch.complex64)
    encoding = noncartesian(mask, maps, radial(13, 64)[None])
    x, y = (draw(*shape, dtype=torch.complex64) for shape in ((1, 1, 32, 27), (1, 4, 13, 64)))
    forward, adjoint = encoding.forward(x), encoding.adjoint(y)
    assert abs(inner(y, forward) - inner(adjoint, x)) < 1e-5 * forward.norm() * y.norm()
    twice = encoding.adjoint(forward)
    assert float((encoding.normal(x) - twice).norm() / twice.norm()) < 1e-5


@pytest.mark.parametrize("kind", ["points", "spokes"])
def test_a_conjugate_view_is_its_values(kind: str) -> None:
    encoding = make((6, 9), 3, 1, kind)
    x, y = draw(BATCH, 1, 6, 9), draw(BATCH, 3, *encoding.mask.shape[1:])
    torch.testing.assert_close(encoding.adjoint(y.conj()), encoding.adjoint(y.conj_physical()))
    torch.testing.assert_close(encoding.forward(x.conj()), encoding.forward(x.conj_physical()))
    torch.testing.assert_close(encoding.solve(x.conj(), 0.1), encoding.solve(x.conj_physical(), 0.1))


def test_masks_that_do_not_fit_the_maps_are_refused() -> None:
    maps = make_maps((6, 9), 1, 1)
    with pytest.raises(ValueError, match="does not fit"):
        cartesian(make_mask("lines", (6, 8)), maps)
    with pytest.raises(ValueError, match="does not fit"):
        cartesian(make_mask("lines", (6, 9))[:1], maps)
    with pytest.raises(ValueError, match="do not fit"):
        noncartesian(torch.ones(BATCH, 4, 8, dtype=torch.bool), maps, radial(5, 8).expand(BATCH, -1, -1, -1))
