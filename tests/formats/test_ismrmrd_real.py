"""Real scans as ISMRMRD files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from mrd_files import lines, space, write, xml

from noref import formats
from noref.coils.maps import estimate_maps
from noref.data.noise import noise_level
from noref.data.prepare import Preparation, combined, prepare
from noref.formats import mrd_writing
from noref.scan import Scan

pytestmark = pytest.mark.real_data


def test_two_averages_of_a_head_hold_more_noise_than_their_mean(real_data: Path, tmp_path: Path) -> None:
    (path,) = (real_data / "brain_lowfield" / "Supplementary_Figure_3A").glob("*FLAIR*2D_kspace.mat")
    stored = scipy.io.loadmat(path)["ksp"].astype(np.complex64)
    readout, phase, slices, averages = stored.shape
    made = [
        one
        for a in range(averages)
        for s in range(slices)
        for one in lines(stored[:, :, s, a].T[None], average=a, slice=s)
    ]
    header = xml(space((readout, phase, 1), limits=(0, phase - 1, phase // 2)))
    file = write(tmp_path / "head.h5", made, header)
    mean, apart = list(formats.read(file)), list(formats.read(file, averages="apart"))
    assert (len(mean), len(apart)) == (slices, 2 * slices)
    for s in range(slices):
        one, two = apart[s], apart[slices + s]
        torch.testing.assert_close(mean[s].kspace, (one.kspace + two.kspace) / 2)
        levels = [noise_level(scan)[0] for scan in (one, two, mean[s])]
        assert all(levels)
        assert levels[0] / levels[2] == pytest.approx(2**0.5, rel=0.1)
        # One half against the other: what they share is the head, and beside it the noise of both.
        difference = float((one.kspace - two.kspace).abs().square().mean())
        assert difference == pytest.approx(levels[0] ** 2 + levels[1] ** 2, rel=0.25)


def test_a_phantom_comes_with_its_calibration_scan(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "multicoil"
    arrays = [
        scipy.io.loadmat(folder / f"xingkong_phantom_16ch_{name}.mat")[key].astype(np.complex64)
        for name, key in (("R2", "KSpaceDATA"), ("refscan", "refscan"))
    ]
    kspace, calibration = (torch.from_numpy(a).permute(2, 1, 0).contiguous() for a in arrays)
    measured = kspace.abs().sum(0) > 0
    mrd_writing.write(
        tmp_path / "a.mrd", [Scan("p/a/000", kspace, measured, measured, calibration=calibration)]
    )
    (scan,) = formats.read(tmp_path / "a.mrd")
    assert torch.equal(scan.kspace, kspace)
    assert scan.calibration is not None
    assert torch.equal(scan.calibration, calibration)
    # Half of its lines are missing, and the calibration scan alone tells the coils.
    assert scan.acceleration > 2
    alone = prepare(scan, Preparation(holdout=0.0))
    fewer = prepare(scan, Preparation(holdout=0.0, coils=8))
    assert alone.maps is not None
    assert fewer.maps is not None
    assert torch.equal(alone.maps, estimate_maps(scan))
    assert fewer.maps.shape == (1, 8, 64, 64)
    one, other = (combined(s.kspace * s.scale, s.maps).abs() for s in (alone, fewer))
    assert float((one - other).norm() / one.norm()) < 0.05
