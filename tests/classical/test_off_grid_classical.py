"""Classical reconstructions of spokes, simulated and measured, and BART's of the same."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import spokes

import noref
from noref.classical import CLASSICAL, choose, fit, reconstruct
from noref.data.prepare import Preparation, compensated, prepare
from noref.errors import NorefError
from noref.formats.bart import read_cfl, write_cfl
from noref.scan import Scan, encoding_of


@pytest.mark.parametrize("coils", [1, 4])
def test_every_method_for_any_sampling_beats_gridding(coils: int) -> None:
    scan = prepare(spokes((32, 27), coils, number=21, noise=0.02), Preparation(holdout=0.1))
    assert scan.reference is not None
    errors = {
        name: float((reconstruct(CLASSICAL[name], scan) - scan.reference).norm() / scan.reference.norm())
        for name in ("zero-filled", "cg-sense", "tv", "wavelet")
    }
    gridded = errors.pop("zero-filled")
    assert max(errors.values()) < 0.8 * gridded


@pytest.mark.parametrize("name", ["grappa", "raki"])
def test_methods_for_lines_refuse_spokes_in_one_line(name: str) -> None:
    scan = prepare(spokes((32, 24), 2), Preparation(holdout=0.1))
    with pytest.raises(NorefError, match=r"^subject0/scan/0: [^\n]*needs whole phase-encode lines[^\n]*$"):
        reconstruct(CLASSICAL[name], scan)


def phantom(folder: Path) -> Scan:
    """The measured phantom with the first six of its coils, at half the resolution."""
    scan = noref.read(folder / "multicoil/smsnlinv_phantom_16ch_radial29.cfl", trajectory="radial")[0]
    assert scan.trajectory is not None
    near = slice(96, 288)
    return replace(
        scan,
        kspace=scan.kspace[:6, :, near].contiguous(),
        trajectory=scan.trajectory[:, near].contiguous(),
        measured=scan.measured[:, near],
        mask=scan.mask[:, near],
        header=replace(scan.header, matrix=(96, 96)),
    )


@pytest.mark.real_data
@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
def test_least_squares_of_the_phantom_are_barts(real_data: Path, tmp_path: Path) -> None:
    """`bart pics -l2`, with the same maps, with and without density compensation."""
    ready = prepare(phantom(real_data), Preparation(holdout=0.0))
    assert ready.trajectory is not None
    assert ready.weights is not None
    assert ready.maps is not None
    array = np.zeros((3, 192, 29), np.complex64)
    array[0], array[1] = ready.trajectory[..., 1].T.numpy(), ready.trajectory[..., 0].T.numpy()
    kspace = ready.kspace / ready.weights
    for name, content in {
        "t": array,
        "y": kspace.numpy().transpose(2, 1, 0)[None],
        "maps": ready.maps[0].numpy().transpose(2, 1, 0)[:, :, None],
        "w": ready.weights.numpy().T[None],
    }.items():
        write_cfl(tmp_path / name, content)
    plain = replace(ready, kspace=kspace, weights=None)
    for scan, pattern in ((plain, ""), (ready, "-p w")):
        command = f"bart pics -l2 -r 0.01 -i 60 -w 1 {pattern} -t t y maps x"
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
        theirs = torch.from_numpy(np.array(read_cfl(tmp_path / "x.cfl")).squeeze().T.copy())
        encoding = encoding_of(scan, scan.mask)
        right = encoding.adjoint(scan.kspace[None])
        ours = encoding.solve(right, 0.01, iterations=60, tolerance=1e-6)[0, 0]
        # What BART grids beyond the edge of k-space is off by a per cent.
        assert float((ours - theirs).norm() / ours.norm()) < 0.01


@pytest.mark.real_data
def test_the_phantom_is_reconstructed_better_than_by_gridding(real_data: Path) -> None:
    """By held-out spokes, and empty where there is nothing."""
    scan = prepare(phantom(real_data), Preparation(holdout=0.1))
    gridded = choose(CLASSICAL["zero-filled"], scan)
    choice = choose(CLASSICAL["cg-sense"], scan)
    assert choice.errors[choice.strength] < 0.7 * gridded.errors[0.0]
    image = fit(CLASSICAL["cg-sense"], scan, choice.for_all)[0].abs()
    corner, middle = image[:10, :10].mean(), image[38:58, 38:58].mean()
    assert float(middle) > 2 * float(corner)


def test_compensated_kspace_is_the_samples_times_the_weights() -> None:
    raw = spokes((24, 24), 2)
    ready = compensated(raw)
    assert ready.weights is not None
    torch.testing.assert_close(ready.kspace, raw.kspace * ready.weights)
