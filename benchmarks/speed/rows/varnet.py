"""The step of the end-to-end variational network, with given maps on all sides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from noref.networks import VarNet
from noref.physics import ifft2c

from ..row import Row, Setting, Side, Work
from ..steps import BOTH, copy_convolutions, network_sides, problem, seeded, work


def _varnet(setting: Setting) -> VarNet:
    return VarNet(cascades=setting.size(8, 2), features=setting.size(18, 4))


class _Given(nn.Module):
    """Stands in the place of the network that estimates maps: gives those of the scan."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.register_buffer("maps", maps)

    def forward(self, *_: Any) -> Any:
        return self.maps


class _Negated(nn.Module):
    """The peers subtract what noref adds."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return -self.network(image)  # type: ignore[no-any-return]


def _step(network: nn.Module, cascades: nn.ModuleList, setting: Setting) -> Work:
    """A peer's step, which ends in the combination by the maps as noref's does, not in the coils' RSS."""
    given = problem(setting)
    tensors = given.kspace, given.mask[None, :, :, None], given.maps, given.target
    kspace, mask, maps, target = (tensor[None].to(setting.device) for tensor in tensors)
    network = network.to(setting.device)
    last: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del module, inputs
        last.append(output)

    cascades[-1].register_forward_hook(keep)

    def images() -> list[Tensor]:
        network(torch.view_as_real(kspace), mask)
        return [(maps.conj() * ifft2c(torch.view_as_complex(last.pop()))).sum(1)]

    return work(network, images, target)


def _fastmri(setting: Setting) -> Work:
    from fastmri.models import VarNet as Peer

    ours = seeded(lambda: _varnet(setting))
    network = Peer(num_cascades=setting.size(8, 2), chans=setting.size(18, 4), pools=4)
    network.sens_net = _Given(torch.view_as_real(problem(setting).maps[None]))
    for cascade, theirs in zip(ours.cascades, network.cascades, strict=True):
        copy_convolutions(cascade, theirs.model)
        theirs.model = _Negated(theirs.model)
    return _step(network, network.cascades, setting)


def _monai(setting: Setting) -> Work:
    from monai.apps.reconstruction.networks.nets.complex_unet import ComplexUnet
    from monai.apps.reconstruction.networks.nets.varnet import VariationalNetworkModel

    f = setting.size(18, 4)
    unet = seeded(lambda: ComplexUnet(features=(f, 2 * f, 4 * f, 8 * f, 16 * f, f)))
    maps = _Given(torch.view_as_real(problem(setting).maps[None]))
    network = VariationalNetworkModel(maps, unet, num_cascades=setting.size(8, 2))
    return _step(network, network.cascades, setting)


ROWS = (
    Row(
        "varnet",
        "E2E VarNet 8 cascades, 18 channels, step",
        network_sides(
            _varnet,
            Side(
                "fastMRI",
                _fastmri,
                ("fastmri",),
                tolerance=1e-4,
                devices=BOTH,
                why="same weights and maps",
            ),
            Side(
                "MONAI",
                _monai,
                ("monai",),
                devices=BOTH,
                why="its own U-Net of as many features, other weights",
            ),
        ),
        target=3200,
        recorded={"fastMRI": 3880, "DIRECT": 3850, "MONAI": 4095},
        memory_gb=6,
    ),
)
