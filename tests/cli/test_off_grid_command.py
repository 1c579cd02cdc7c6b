"""Spokes from the command line: looked at, reconstructed, prepared, and refused where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import TINY, noref
from synthetic import spokes

from noref.formats.bart import write_cfl
from noref.sampling.spokes import radial
from noref.scan import Scan


def written(folder: Path, seed: int = 0) -> Path:
    """k-space of 21 spokes as BART keeps it, `(1, samples, read-outs, coils)`; their trajectory beside it."""
    scan: Scan = spokes((32, 32), 3, seed, number=21, noise=0.01)
    assert scan.trajectory is not None
    path = folder / f"scan{seed}.cfl"
    write_cfl(path, scan.kspace.numpy().transpose(2, 1, 0)[None])
    array = np.zeros((3, 64, 21), np.complex64)
    array[0], array[1] = scan.trajectory[..., 1].T.numpy(), scan.trajectory[..., 0].T.numpy()
    (folder / "trajectories").mkdir(exist_ok=True)
    write_cfl(folder / "trajectories" / f"t{seed}.cfl", array)
    return path


def test_inspect_says_what_spokes_there_are(tmp_path: Path) -> None:
    file = written(tmp_path)
    where, picture = tmp_path / "trajectories" / "t0.cfl", tmp_path / "look.png"
    result = noref("inspect", file, "--trajectory", where, "--picture", picture)
    assert result.code == 0
    assert "32 × 32 (y × x), 21 read-outs of 64 samples" in result.out
    assert "off the Cartesian grid, R = 2.39" in result.out
    assert picture.is_file()


def test_spokes_are_reconstructed_from_raw_files(tmp_path: Path) -> None:
    file, image = written(tmp_path), tmp_path / "image.npy"
    where = tmp_path / "trajectories" / "t0.cfl"
    result = noref("reconstruct", "cg-sense", file, f"trajectory={where}", "-o", image)
    assert result.code == 0, result.err
    found = np.abs(np.load(image)[0])
    truth = np.abs(spokes((32, 32), 3, 0, number=21).clean.numpy())  # type: ignore[union-attr] # has one
    assert found.shape == (32, 32)
    assert np.isfinite(found).all()
    assert truth.shape[1:] == found.shape


def test_a_model_is_judged_by_spokes(tmp_path: Path) -> None:
    file, out = written(tmp_path), tmp_path / "out"
    where = f"trajectory={tmp_path / 'trajectories' / 't0.cfl'}"
    result = noref("accept", "cg-sense", file, where, "holdout=0.1", "--lesions", "2", "-o", out)
    assert result.code == 0, result.err
    (one,) = json.loads((out / "acceptance.json").read_text())["slices"]
    assert one["floor"]["source"] == "border"
    # There is no grid whose samples could be told apart.
    assert one["added"]["wavelet"]["unacquired"] is None
    assert one["added"]["wavelet"]["residual"] > 0
    assert all(lesion["recovered"]["cg-sense (judged)"]["contrast"] > 0.5 for lesion in one["lesions"])


def test_a_network_is_trained_on_prepared_spokes_and_applied(tmp_path: Path) -> None:
    file = written(tmp_path)
    store, run = tmp_path / "store", tmp_path / "run"
    where = f"trajectory={tmp_path / 'trajectories' / 't0.cfl'}"
    prepared = noref("prepare", file, where, "holdout=0.1", "-o", store)
    assert prepared.code == 0, prepared.err
    trained = noref(
        "train", "ssdu", f"data.target.path={store}", "data.target.holdout=0.1", *TINY, f"output={run}"
    )
    assert trained.code == 0, trained.err
    applied = noref("reconstruct", run, file, where, "-o", tmp_path / "x.npy")
    assert applied.code == 0, applied.err
    assert np.isfinite(np.load(tmp_path / "x.npy")).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["trajectory=nowhere.npy"], "nowhere.npy: damaged or incomplete"),
        (["trajectory=radial", "matrix=8"], "matrix: input should be greater"),
        (["trajectory=radial", "mask=random2d"], "off the Cartesian grid only read-outs; use mask=lines"),
        (["trajectory=short.npy"], "21 read-outs of 64 samples"),
    ],
)
def test_bad_settings_end_in_one_line_and_write_nothing(
    settings: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, image = written(tmp_path), tmp_path / "image.npy"
    np.save(tmp_path / "short.npy", radial(5, 64).numpy())
    result = noref("reconstruct", "cg-sense", file, *settings, "-o", image)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
    assert not image.exists()


def test_what_needs_the_grid_ends_in_one_line_and_the_recipe_it_names_trains(tmp_path: Path) -> None:
    file = written(tmp_path)
    where = f"data.target.trajectory={tmp_path / 'trajectories' / 't0.cfl'}"
    given = [f"data.target.path={file}", where, "data.target.holdout=0.1", *TINY]
    for recipe, changes, said in (
        ("idr", [], "where guesses have no place; use recipe default"),
        (
            "ssdu",
            ["network={name: varnet, cascades: 1, features: 4, pools: 1}"],
            "fills in Cartesian k-space",
        ),
    ):
        kept = [one for one in given if not (changes and one.startswith("network."))]
        result = noref("train", recipe, *kept, *changes, f"output={tmp_path / recipe}")
        assert result.code == 2
        assert said in result.err
        assert "Traceback" not in result.err
    result = noref("train", "default", *given, f"output={tmp_path / 'default'}")
    assert result.code == 0, result.err
