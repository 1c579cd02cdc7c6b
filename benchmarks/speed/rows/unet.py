"""The step of a plain U-Net, image to image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noref.networks.unet import UNet

from ..row import Row, Setting, Side, Work
from ..steps import BOTH, copy_convolutions, limits, problem, seeded, work


def _unet(setting: Setting) -> UNet:
    features = setting.size(32, 4)
    return seeded(lambda: UNet(2, 2, features))  # type: ignore[no-any-return] # a UNet


def _image_step(network: nn.Module, setting: Setting, half: bool = False) -> Work:
    """A step of a network from image to image, without physics."""
    target = problem(setting).target[None].to(setting.device)
    image = torch.view_as_real(target).permute(0, 3, 1, 2).contiguous()
    network = network.to(setting.device)

    def images() -> list[Tensor]:
        pairs = network(image).float()
        return [torch.complex(pairs[:, 0], pairs[:, 1])]

    return work(network, images, target, half)


def _fastmri_unet(setting: Setting) -> Work:
    from fastmri.models import Unet

    ours = _unet(setting)
    theirs = Unet(2, 2, setting.size(32, 4), 4)
    copy_convolutions(ours, theirs)
    return _image_step(theirs, setting)


def _unet_sides() -> tuple[Side, ...]:
    single, half = (
        lambda setting, half=half: _image_step(_unet(setting), setting, half) for half in (False, True)
    )
    return (
        Side("noref", single, devices=BOTH),
        Side("noref, bf16", half, devices=BOTH),
        Side("fastMRI", _fastmri_unet, ("fastmri",), tolerance=1e-4, devices=BOTH, why="same weights"),
        *limits(single, half),
    )


ROWS = (
    Row(
        "unet",
        "U-Net 32, step",
        _unet_sides(),
        aim="not slower than fastMRI, paired",
        recorded={"fastMRI": 535},
        quick=True,
    ),
)
