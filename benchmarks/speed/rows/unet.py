"""The step of a plain U-Net, image to image."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from noref.networks.unet import UNet
from noref.training.distributed import place

from ..row import GRAPH, Row, Setting, Side, Work
from ..steps import BOTH, copy_convolutions, limits, problem, seeded, work


def _unet(setting: Setting) -> UNet:
    features = setting.size(32, 4)
    return seeded(lambda: UNet(2, 2, features))  # type: ignore[no-any-return] # a UNet


def _image_step(network: nn.Module, setting: Setting, half: bool = False, graph: bool = False) -> Work:
    """A step of a network from image to image, without physics."""
    target = problem(setting).target[None].to(setting.device)
    image = torch.view_as_real(target).permute(0, 3, 1, 2).contiguous()
    network = network.to(setting.device)

    def images() -> list[Tensor]:
        pairs = network(image).float()
        return [torch.complex(pairs[:, 0], pairs[:, 1])]

    return work(network, images, target, half, graph=graph)


def _noref(setting: Setting, half: bool = False, graph: bool = False) -> Work:
    network = _unet(setting)
    place(network, torch.device(setting.device))
    return _image_step(network, setting, half, graph)


def _fastmri_unet(setting: Setting) -> Work:
    from fastmri.models import Unet

    ours = _unet(setting)
    theirs = Unet(2, 2, setting.size(32, 4), 4)
    copy_convolutions(ours, theirs)
    return _image_step(theirs, setting)


def _unet_sides() -> tuple[Side, ...]:
    half = functools.partial(_noref, half=True)
    return (
        Side("noref", _noref, devices=BOTH),
        Side("noref, bf16", half, devices=BOTH),
        Side(f"noref{GRAPH}", functools.partial(_noref, graph=True), devices=("cuda",)),
        Side(f"noref, bf16{GRAPH}", functools.partial(half, graph=True), devices=("cuda",)),
        Side("fastMRI", _fastmri_unet, ("fastmri",), tolerance=1e-4, devices=BOTH, why="same weights"),
        *limits(_noref, half),
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
