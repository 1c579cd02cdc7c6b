"""Scans named on the command line: settings of files that belong to others, and mistakes in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import done
from synthetic import scan

from noref import api
from noref.cli.sources import source
from noref.config import load_config
from noref.data.store import open_store
from noref.errors import NorefError
from noref.formats import Beside
from noref.physics import ifft2c


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


@pytest.mark.parametrize("given", ["images", '{"a*": images}', "{a: [1]}", "3", "null"])
def test_a_domain_is_one_or_another(given: str) -> None:
    with pytest.raises(NorefError, match=r"^domain: input should be 'kspace' or 'image'$"):
        source(["a"], [f"domain={given}"])
    with pytest.raises(NorefError, match=r"data\.target\.domain: input should be 'kspace' or 'image'$"):
        load_config("default", ["data.target.path=a", f"data.target.domain={given}"])


def test_images_and_kspace_are_prepared_in_one_call(tmp_path: Path) -> None:
    full = scan((32, 24), 2, 0, noise=0.01).kspace
    np.save(tmp_path / "raw.npy", full.numpy())
    np.save(tmp_path / "images.npy", ifft2c(full).numpy())
    how = ['axes={"raw*": "coils,ky,kx", "im*": "coils,y,x"}', 'domain={"im*": image}']
    how += ["mask=lines", "acceleration=2", "acs=14", "--jobs", "1"]
    done("prepare", tmp_path / "raw.npy", tmp_path / "images.npy", "-o", tmp_path / "both", *how)
    kinds = {made.id: made.raw for made in open_store(str(tmp_path / "both"))}
    assert kinds == {"images/images/000": False, "raw/raw/000": True}


def test_the_mask_of_a_file_is_that_of_every_command(tmp_path: Path) -> None:
    mask = np.zeros((8, 12), bool)
    mask[::2] = True
    np.savez(tmp_path / "a.npz", k=np.ones((2, 8, 12), np.complex64), m=mask)
    how = source([str(tmp_path / "a.npz")], ["axes=coils,ky,kx", "key=k", "mask_key=m"])
    (found,) = api.slices(how)
    assert np.array_equal(found.mask.numpy(), mask)
    assert bool(found.measured.all())


def test_noise_beside_arrays_has_the_axes_of_the_file_that_it_is_for(tmp_path: Path) -> None:
    kspace = scan((32, 24), 2, 0, noise=0.01).kspace.numpy()
    np.save(tmp_path / "noise.npy", 0.01 * kspace)
    (tmp_path / "scans").mkdir()
    np.save(tmp_path / "scans" / "low.npy", kspace)
    how = ['axes={"low*": "coils,ky,kx"}', f"noise={tmp_path / 'noise.npy'}", "whiten=true"]
    done("reconstruct", "zero-filled", tmp_path / "scans", *how, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "low.nii.gz").exists()
