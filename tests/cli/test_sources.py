"""Scans named on the command line: settings of files that belong to others, and mistakes in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noref import api
from noref.cli.sources import source
from noref.config import load_config
from noref.errors import NorefError
from noref.formats import Beside


def test_a_path_alone_stands_for_a_file_beside_the_images() -> None:
    how = source(["a"], ["calibration=b.h5", "noise.path=[c.npy, d.npy]", "noise.axes=coils,kx"])
    assert how.calibration == Beside(path="b.h5")
    assert how.noise == Beside(path=["c.npy", "d.npy"], axes="coils,kx")


def test_files_of_a_training_are_not_those_of_other_scans() -> None:
    base = source(["a"], ["calibration=b.h5", "noise=c.h5", "mask_key=m", "axes=ky,kx"])
    how = source(["new"], [], base)
    assert (how.calibration, how.noise) == (None, None)
    assert (how.mask_key, how.axes) == ("m", "ky,kx")


def test_mistakes_inside_are_told_with_the_nearest_name() -> None:
    with pytest.raises(NorefError, match=r"calibration\.axs is unknown; did you mean 'axes'\?"):
        source(["a"], ["calibration.path=b", "calibration.axs=ky"])
    with pytest.raises(NorefError, match=r"data\.target\.noise\.kee is unknown; did you mean 'key'\?"):
        load_config("default", ["data.target.path=a", "data.target.noise.path=b", "data.target.noise.kee=c"])


def test_the_mask_of_a_file_is_that_of_every_command(tmp_path: Path) -> None:
    mask = np.zeros((8, 12), bool)
    mask[::2] = True
    np.savez(tmp_path / "a.npz", k=np.ones((2, 8, 12), np.complex64), m=mask)
    how = source([str(tmp_path / "a.npz")], ["axes=coils,ky,kx", "key=k", "mask_key=m"])
    (scan,) = api.slices(how)
    assert np.array_equal(scan.mask.numpy(), mask)
    assert bool(scan.measured.all())
