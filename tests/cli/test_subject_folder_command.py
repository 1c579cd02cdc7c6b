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


@pytest.mark.parametrize("named", [[], [PLACE], ["subject_folder=2"]])
def test_a_model_knows_again_what_it_was_trained_on(
    named: list[str], trained: Path, targets: Path, proxies: Path, tmp_path: Path
) -> None:
    """However its scans are named."""
    said = evaluated(trained, targets / "P1" / "scan.h5", tmp_path / "a.html", *named)
    assert any("joint was trained on 1 of the 1 subjects" in line for line in said), said
    proxy, shown = proxies / "Q1" / "scan.h5", ("mask=lines", *named)
    for command in (["evaluate", trained, f"path={proxy}"], ["accept", trained, proxy]):
        line = refused(*command, *shown, "-o", tmp_path / "b.html")
        assert "joint was trained on this scan with its reference; score it on others" in line
    assert tree(tmp_path) == ["a.html", "a.json"]


def test_so_it_does_in_stores(trained: Path, store: Path, tmp_path: Path) -> None:
    said = evaluated(trained, store, tmp_path / "a.html")
    assert any("joint was trained on 3 of the 3 subjects (the first: P0)" in line for line in said), said


def test_others_of_the_same_name_are_no_matter(trained: Path, full: Path, tmp_path: Path) -> None:
    other = study(tmp_path / "study", full, "R")
    shown = ("mask=lines", "acceleration=2", "acs=12", PLACE)
    said = evaluated(trained, other / "R0" / "scan.h5", tmp_path / "a.html", *shown)
    assert not any("trained on" in line for line in said), said


def test_a_scan_of_two_names_is_not_target_and_proxy_both(proxies: Path, tmp_path: Path) -> None:
    words = (f"path={proxies}", "mask=lines", "acceleration=2", "acs=12")
    both = [f"data.{place}.{word}" for place in ("target", "proxy") for word in words]
    line = refused(
        *("train", "jssl", *both, "data.proxy.subject_folder=2", f"output={tmp_path / 'run'}", *TINY)
    )
    assert "is in data.target too, where no reference may be learned from" in line


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
