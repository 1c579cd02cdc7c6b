"""Folders called like subjects: what was trained on is known again, from files and from stores."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from command import TINY, done, noref, refused, tree

from noref.reconstruction import chosen

PLACE = "subject_folder=1"


def study(folder: Path, scans: Path, letter: str) -> Path:
    """A folder for each of the subjects, with a file of one name in it."""
    for number, path in enumerate(sorted(scans.glob("*.h5"))):
        own = folder / f"{letter}{number}"
        own.mkdir(parents=True)
        shutil.copy(path, own / "scan.h5")
    return folder


@pytest.fixture(scope="module")
def targets(undersampled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("study") / "targets", undersampled, "P")


@pytest.fixture(scope="module")
def proxies(full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("study") / "proxies", full, "Q")


@pytest.fixture(scope="module")
def store(targets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "store"
    done("prepare", targets, "-o", folder, PLACE)
    return folder


@pytest.fixture(scope="module")
def trained(store: Path, proxies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From a store, which knows how its scans are named, and from files, of which it is said."""
    folder = tmp_path_factory.mktemp("runs") / "joint"
    shown = [
        f"data.proxy.{word}" for word in (f"path={proxies}", PLACE, "mask=lines", "acceleration=2", "acs=12")
    ]
    done("train", "jssl", f"data.target.path={store}", *shown, f"output={folder}", *TINY)
    return folder


def evaluated(run: Path, path: Path, page: Path, *settings: str) -> list[str]:
    """Warnings."""
    result = noref("evaluate", run, f"path={path}", *settings, "--classical", "zero-filled", "-o", page)
    assert result.code == 0, result.err
    return result.err.splitlines()


def test_a_model_knows_again_what_it_was_trained_on(
    trained: Path, targets: Path, proxies: Path, store: Path, tmp_path: Path
) -> None:
    for path in (targets / "P1" / "scan.h5", store):
        said = evaluated(trained, path, tmp_path / "a.html")
        assert any("joint was trained on" in line and "the first: P" in line for line in said), said
    proxy = proxies / "Q1" / "scan.h5"
    line = refused("evaluate", trained, f"path={proxy}", "mask=lines", "-o", tmp_path / "b.html")
    assert line.startswith("noref: Q1/scan: joint was trained on this scan with its reference")
    line = refused("accept", trained, proxy, "mask=lines", "-o", tmp_path / "c")
    assert "Q1/scan" in line
    assert tree(tmp_path) == ["a.html", "a.json"]


def test_a_file_is_shown_with_its_subject(targets: Path) -> None:
    told = done("inspect", targets / "P0" / "scan.h5", "--subject-folder", "1").out
    assert "what follows is about P0/scan/001" in told


def test_where_a_file_to_reconstruct_lies_is_nothing_to_it(trained: Path) -> None:
    base = chosen(str(trained)).base
    assert base is not None
    assert base.subject_folder == 0


def test_reconstructions_stay_in_their_folder(
    targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inputs = [os.path.relpath(targets / name / "scan.h5") for name in ("P0", "P1")]
    done("reconstruct", "zero-filled", *inputs, "-o", "out", "--suffix", ".png")
    assert tree(tmp_path) == sorted(
        ["here", "here/out", "here/out/P0", "here/out/P1", "here/out/P0/scan.png", "here/out/P1/scan.png"]
    )


def test_a_server_has_no_folders() -> None:
    assert "subject_folder: is about files" in refused("serve", "zero-filled", PLACE)
