"""CG-SENSE: 20 iterations of conjugate gradients, 1-D masks, no early stop."""

from __future__ import annotations

import torch

from noref.classical.cg_sense import CGSense
from noref.physics import cartesian

from .. import bart
from ..row import Array, Row, Setting, Side, Work
from ..steps import problem

_ITERATIONS, _DAMPING = 20, 0.001


def _noref(setting: Setting) -> Work:
    given = problem(setting)
    kspace, mask, maps = given.kspace[None], given.mask[None], given.maps[None, None]
    solve = CGSense(iterations=_ITERATIONS, tolerance=0, reweighted=False)

    def run() -> Array:
        return solve(kspace, cartesian(mask, maps), _DAMPING)[0, 0].numpy()

    return Work(run, run)


def _sigpy(setting: Setting) -> Work:
    from sigpy.mri.app import SenseRecon

    given = problem(setting)
    kspace, maps, mask = given.kspace.numpy(), given.maps.numpy(), given.mask.float().numpy()

    def run() -> Array:
        image: Array = SenseRecon(
            kspace, maps, lamda=_DAMPING, weights=mask, max_iter=_ITERATIONS, tol=0, show_pbar=False
        ).run()
        return image

    return Work(run, run)


def _deepinverse(setting: Setting) -> Work:
    from deepinv.physics import MultiCoilMRI

    given = problem(setting)
    kspace = torch.view_as_real(given.kspace[None]).permute(0, 4, 1, 2, 3).contiguous()
    physics = MultiCoilMRI(mask=given.mask.float(), coil_maps=given.maps[None], img_size=None)

    def run() -> Array:
        pairs = physics.prox_l2(0.0, kspace, 1 / _DAMPING, max_iter=_ITERATIONS, tol=0)
        return torch.complex(pairs[0, 0], pairs[0, 1]).numpy()

    return Work(run, run)


def _mrpro(setting: Setting) -> Work:
    from mrpro.algorithms.optimizers import cg
    from mrpro.data import KTrajectory, SpatialDimension
    from mrpro.operators import FourierOp, IdentityOp, SensitivityOp

    given = problem(setting)
    (ky, kx), lines = given.shape, given.mask[:, 0].nonzero().flatten()
    trajectory = KTrajectory(
        kz=torch.zeros(1, 1, 1, 1, 1),
        ky=(lines - ky // 2).float()[None, None, None, :, None],
        kx=(torch.arange(kx) - kx // 2).float()[None, None, None, None],
    )
    matrix = SpatialDimension(1, ky, kx)
    fourier = FourierOp(matrix, matrix, trajectory)
    maps = SensitivityOp(given.maps[None, :, None])
    kspace = given.kspace[:, lines][None, :, None]

    def run() -> Array:
        encoding = fourier @ maps
        (right,) = encoding.H(kspace)
        operator = encoding.gram + _DAMPING * IdentityOp()
        (image,) = cg(operator, right, max_iterations=_ITERATIONS, tolerance=0)
        solution: Array = image[0, 0, 0].numpy()
        return solution

    return Work(run, run)


def _bart(setting: Setting) -> Work:
    given = problem(setting)
    kspace, maps, image = (setting.folder / name for name in ("bart-kspace", "bart-maps", "bart-image"))
    bart.write(kspace, given.kspace.numpy())
    bart.write(maps, given.maps.numpy())

    def run() -> None:
        bart.call("pics", "-l2", f"-r{_DAMPING}", f"-i{_ITERATIONS}", "-w1", kspace, maps, image)

    return Work(run, lambda: bart.read(image), calls=True, note="its program, with reading and writing")


ROWS = (
    Row(
        "cg-sense",
        "CG-SENSE, 20 iterations",
        (
            Side("noref", _noref),
            Side("MRpro", _mrpro, ("mrpro",), tolerance=1e-4),
            Side("DeepInverse", _deepinverse, ("deepinv",), tolerance=1e-4),
            Side("SigPy", _sigpy, ("sigpy",), tolerance=1e-4),
            Side("BART", _bart, ("bart",), tolerance=1e-3),
        ),
        target=120,
        recorded={"MRpro": 183, "DeepInverse": 232, "SigPy": 298, "BART": 930},
        quick=True,
    ),
)
