from __future__ import annotations

from typing import TypeVar, cast

import pytest
import torch
import torch.nn.functional as F
from problems import problem
from torch import Tensor, nn

from noref.networks.unet import ImageUNet, NormUNet, UNet, normalised

Net = TypeVar("Net", bound=nn.Module)


def filled(net: Net) -> Net:
    """Weights that depend on nothing but their shape, so that another library's network can have the same."""
    net.double()
    with torch.no_grad():
        for p in net.parameters():
            wave = torch.cos(torch.arange(p.numel(), dtype=torch.float64) ** 2).view(p.shape)
            p.copy_(wave / (p.shape[1] if p.ndim > 1 else 1) ** 0.5)
    return net


def network(seed: int = 0, **arguments: int | str) -> ImageUNet:
    torch.manual_seed(seed)
    return ImageUNet(**{"features": 4, "pools": 2, **arguments})  # type: ignore[arg-type] # of several types


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_the_published_network_has_the_published_size() -> None:
    assert count(UNet(1, 1)) == 7_756_097
    with torch.device("meta"):
        assert count(UNet(1, 1, 256)) == 496_372_225
    # Two channels in (one more 3×3 kernel for 32 features) and out (one more 1×1 kernel with its bias).
    assert count(ImageUNet()) == 7_756_097 + 32 * 9 + 32 + 1


def test_the_same_weights_give_fastmris_image() -> None:
    """Recorded from `fastmri.models.varnet.NormUnet(4, 4)`, version 0.3.0, with these weights."""
    wave = torch.sin(torch.arange(2 * 37 * 21, dtype=torch.float64) ** 1.5).view(1, 2, 37, 21)
    pairs = wave * torch.tensor([3.0, 0.5], dtype=torch.float64).view(1, 2, 1, 1) + 1
    found = filled(NormUNet(2, 4, 4))(pairs)[0]
    assert found[:, 0, 0].tolist() == pytest.approx([3.180275407960388, 1.1377580037458241])
    assert found[:, 10, 6].tolist() == pytest.approx([5.009743903179354, 1.6892033798532828])
    assert found[:, -1, -1].tolist() == pytest.approx([1.7575013352673101, 1.184020445413109])
    assert float(found.detach().norm()) == pytest.approx(114.36556528165055)


@pytest.mark.parametrize("shape", [(32, 24), (33, 23), (1, 40), (4, 4), (7, 5)])
@pytest.mark.parametrize("pools", [0, 1, 3])
def test_any_size_and_any_depth(shape: tuple[int, int], pools: int) -> None:
    features = torch.randn(2, 5, *shape, generator=torch.Generator().manual_seed(0))
    maps: Tensor = UNet(5, 3, features=4, pools=pools)(features)
    assert maps.shape == (2, 3, *shape)
    assert bool(maps.isfinite().all())
    assert float(maps.detach().std()) > 0


def test_sizes_that_fit_are_not_padded() -> None:
    net = filled(UNet(2, 2, features=4, pools=2))
    x = torch.randn(1, 2, 16, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wider = torch.zeros(1, 2, 16, 15, dtype=torch.float64)
    wider[..., :12] = x
    # 15 columns are padded by one more on the right: the same as giving all 16.
    torch.testing.assert_close(net(nn.functional.pad(wider, (0, 1)))[..., :15], net(wider))
    assert float((net(wider)[..., :12] - net(x)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("sets", [1, 2])
def test_scale_does_not_matter(sets: int) -> None:
    kspace, encoding = problem((20, 15), coils=3, sets=sets)
    net = network(channels=2 * sets)
    image = net(kspace, encoding).image
    for scale in (1e-6, 3.0, 1e5):
        torch.testing.assert_close(net(scale * kspace, encoding).image / scale, image, rtol=1e-3, atol=1e-4)


def test_real_and_imaginary_parts_have_units_of_their_own() -> None:
    pairs = torch.randn(2, 2, 16, 12, generator=torch.Generator().manual_seed(0))
    scale, offset = torch.tensor([40.0, 0.1]).view(1, 2, 1, 1), torch.tensor([-7.0, 3.0]).view(1, 2, 1, 1)
    net = NormUNet(2, features=4, pools=2)
    torch.testing.assert_close(net(pairs * scale + offset), net(pairs) * scale + offset, rtol=1e-3, atol=1e-3)


def test_an_empty_image_stays_empty_and_has_gradients() -> None:
    net = NormUNet(2, features=4, pools=2)
    pairs = torch.zeros(1, 2, 12, 10, requires_grad=True)
    image = net(pairs)
    assert float(image.detach().abs().max()) < 1e-15
    image.sum().backward()
    assert pairs.grad is not None
    assert all(bool(t.grad.isfinite().all()) for t in (pairs, *net.parameters()) if t.grad is not None)


def test_it_improves_the_image_it_is_told_to() -> None:
    kspace, encoding = problem((24, 20), coils=4)
    net = network()
    given: list[Tensor] = []
    net.unet.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    net(kspace, encoding)
    net.start = "sense"
    net(kspace, encoding)
    adjoint = encoding.adjoint_pairs(torch.view_as_real(kspace))
    torch.testing.assert_close(given[0], adjoint)
    explained = encoding.forward_pairs(given[1]) - torch.view_as_real(kspace)
    assert float(explained.norm()) < 0.05 * float(torch.view_as_real(kspace).norm())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("batch", [1, 3])
def test_features_are_normalised_as_pytorch_does(batch: int, layout: torch.memory_format) -> None:
    features = (torch.randn(batch, 5, 64, 48) * 3 + 2).contiguous(memory_format=layout)
    upstream, given = torch.randn(features.shape), [features, features.double()]
    images, gradients = [], []
    for x, of in zip(given, (normalised, lambda x: F.leaky_relu(F.instance_norm(x), 0.2)), strict=True):
        x = x.detach().requires_grad_()
        image = of(x)
        image.backward(upstream.to(x.dtype))
        images.append(image.detach().double())
        gradients.append(cast(Tensor, x.grad).double())
    for ours, theirs in (images, gradients):
        assert float((ours - theirs).norm() / theirs.norm()) < 3e-7


def test_the_gradient_of_normalised_features_is_the_functions() -> None:
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(normalised, features)
