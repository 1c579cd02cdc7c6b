"""The step of MoDL with maps and 1-D masks."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor

from noref.networks import MoDL

from ..row import Row, Setting, Side, Work
from ..steps import BOTH, copy_convolutions, network_sides, problem, seeded, work

_CG, _CONVERGED = 20, 80
"""Iterations of a step, and those after which both have converged, wherever they began."""

_DAMPING, _TOLERANCE = 0.05, 1e-6


def _modl(setting: Setting, cg: int = _CG) -> MoDL:
    return MoDL(unrolls=setting.size(5, 2), layers=5, features=setting.size(64, 8), cg=cg)


def _deepinverse(setting: Setting) -> Work:
    """Its `MoDL`, which is this with the denoiser after the data, and with other fixed parameters."""
    from deepinv.models import DnCNN
    from deepinv.optim import BaseOptim
    from deepinv.optim.data_fidelity import L2
    from deepinv.optim.optim_iterators import HQSIteration
    from deepinv.optim.prior import PnP
    from deepinv.physics import MultiCoilMRI

    given, unrolls = problem(setting), setting.size(5, 2)
    ours = seeded(lambda: _modl(setting))
    denoiser = DnCNN(2, 2, depth=5, bias=False, nf=setting.size(64, 8), pretrained=None)
    copy_convolutions(ours.denoiser, denoiser)
    values = {"stepsize": 1 / _DAMPING, "g_param": 0.01, "lambda": 1.0}
    network = BaseOptim(
        HQSIteration(g_first=True),
        params_algo={name: [value] * unrolls for name, value in values.items()},
        data_fidelity=L2(),
        prior=PnP(denoiser=denoiser),
        max_iter=unrolls,
        trainable_params=["stepsize"],
        unfold=True,
    )
    kspace = torch.view_as_real(given.kspace[None]).permute(0, 4, 1, 2, 3).contiguous().to(setting.device)
    scan = {"mask": given.mask.float(), "coil_maps": given.maps[None]}
    network, target = network.to(setting.device), given.target[None].to(setting.device)

    def step(cg: int) -> Work:
        physics = MultiCoilMRI(**scan, img_size=None, max_iter=cg, tol=_TOLERANCE).to(setting.device)

        def images() -> list[Tensor]:
            pairs = network(kspace, physics)
            return [torch.complex(pairs[:, 0], pairs[:, 1])]

        return work(network, images, target)

    return replace(step(_CG), output=step(_CONVERGED).output)


ROWS = (
    Row(
        "modl",
        "MoDL 5 unrolls, DnCNN 5×64, CG, 1-D masks, step",
        network_sides(
            _modl,
            Side(
                "DeepInverse",
                _deepinverse,
                ("deepinv",),
                tolerance=1e-4,
                devices=BOTH,
                why="same weights",
            ),
            compared=functools.partial(_modl, cg=_CONVERGED),
        ),
        target=1500,
        recorded={"DeepInverse": 4090},
        memory_gb=5,
        quick=True,
    ),
)
