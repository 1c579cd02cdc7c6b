"""Raw scans, undersampled once, with maps from their own ACS, against SigPy with the λ that suits it best."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import sigpy.mri
import torch
from objects import psnr

from noref.classical import CLASSICAL, reconstruct
from noref.coils import estimate_maps
from noref.physics import cartesian
from noref.sampling.holdout import hold_out
from noref.sampling.lines import random_lines
from noref.scan import Scan
from noref.seeding import Key


def loraks(folder: Path) -> np.ndarray:
    return scipy.io.loadmat(folder / "multicoil/loraks_mprage_4ch_full.mat")["kData"].transpose(2, 0, 1)


def mchiew(folder: Path) -> np.ndarray:
    with h5py.File(folder / "multicoil/mchiew_brain_16ch_full_96.mat") as file:
        raw = file["raw"][()]
    return (raw["real"] + 1j * raw["imag"])[:, 0]


# 96 lines at 4x are 24: all of them an ACS of 24.
@pytest.mark.real_data
@pytest.mark.parametrize(("read", "acceleration", "acs"), [(loraks, 4, 24), (mchiew, 3, 16)])
def test_the_choice_without_reference_is_as_good_as_sigpys_best(real_data, read, acceleration, acs):
    kspace = torch.from_numpy(np.ascontiguousarray(read(real_data))).to(torch.complex64)
    shape = (kspace.shape[-2], kspace.shape[-1])
    mask = random_lines(shape, acceleration, acs, Key(0, read.__name__, "mask"))
    scan = hold_out(Scan(read.__name__, kspace, torch.ones_like(mask), mask), 0.1, 0)
    scan = replace(scan, maps=estimate_maps(scan))
    full = cartesian(torch.ones_like(mask)[None], scan.maps[None]).adjoint(kspace[None])[0]
    scan = replace(scan, reference=full).scaled(float(full.abs().flatten().quantile(0.995)))

    y, maps = (scan.kspace * mask).numpy(), scan.maps[0].numpy()

    def sigpys(app, iterations: int) -> float:
        images = [
            app(y, maps, lamda=s, max_iter=iterations, show_pbar=False).run() for s in (0.003, 0.001, 0.0003)
        ]
        return max(psnr(torch.from_numpy(image)[None], scan.reference) for image in images)

    theirs = {
        "cg-sense": sigpys(sigpy.mri.app.SenseRecon, 30),
        "wavelet": sigpys(sigpy.mri.app.L1WaveletRecon, 100),
    }
    ours = {
        name: psnr(reconstruct(CLASSICAL[name], scan), scan.reference) for name in ("zero-filled", *theirs)
    }
    assert ours["cg-sense"] > theirs["cg-sense"] - 0.3
    assert ours["wavelet"] > theirs["wavelet"] - 0.3
    assert ours["wavelet"] > ours["cg-sense"] + 1 > ours["zero-filled"] + 1.5
