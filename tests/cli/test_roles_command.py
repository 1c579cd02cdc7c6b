"""Targets and proxies: each role is needed, each brings what its method learns from, and none is both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command import TINY, done, refused, tree

LINES = ["mask=lines", "acceleration=2", "acs=12"]


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fully sampled subjects of another anatomy, matrix and number of coils."""
    folder = tmp_path_factory.mktemp("simulated") / "knees"
    size = ["--scans", "2", "--slices", "1", "--coils", "3", "--matrix", "40", "--noise", "30"]
    done("simulate", folder, "--anatomy", "knee", *size)
    return folder


def proxy(path: Path) -> list[str]:
    return [f"data.proxy.{setting}" for setting in (f"path={path}", *LINES)]


@pytest.fixture(scope="module")
def supervised(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on proxies alone."""
    folder = tmp_path_factory.mktemp("runs") / "proxies"
    done("train", "supervised-proxy", *proxy(knees), f"output={folder}", *TINY)
    return folder


@pytest.mark.parametrize(
    ("recipe", "given", "complaint"),
    [
        ("jssl", "target", "method joint: needs two kinds of scans; give data.proxy.path=FOLDER"),
        ("jssl", "proxy", "method joint: needs two kinds of scans; give data.target.path=FOLDER"),
        ("jssl-idr", "target", "method joint: needs two kinds of scans; give data.proxy.path=FOLDER"),
        (
            "ssdu",
            "proxy",
            "method split: learns from targets, of which there are none; give data.target.path",
        ),
        ("supervised-proxy", "target", "those of targets are not for training; give data.proxy.path=FOLDER"),
        ("supervised-proxy", "", "nothing to train on; give data.proxy.path=FOLDER"),
        ("ssdu", "both", "method split: would not use the proxies' references; leave data.proxy out"),
        (
            "supervised-proxy",
            "both",
            "method supervised: does not learn from targets; give them as data.validation",
        ),
        ("ssdu", "", "nothing to train on; give data.target.path=FOLDER"),
    ],
)
def test_roles_that_are_missing_or_unused_are_named(
    recipe: str, given: str, complaint: str, undersampled: Path, knees: Path, tmp_path: Path
) -> None:
    target, proxies = [f"data.target.path={undersampled}"], proxy(knees)
    data = {"target": target, "proxy": proxies, "both": [*target, *proxies], "": []}[given]
    assert complaint in refused("train", recipe, *data, f"output={tmp_path / 'run'}", *TINY)
    assert tree(tmp_path) == []


def test_proxies_are_undersampled_as_targets_are(
    full: Path, undersampled: Path, knees: Path, tmp_path: Path
) -> None:
    """By the settings of targets, or by what their masks show; the command is the one of the README."""
    targets = {
        "acquired": (undersampled, []),
        "asked": (full, ["data.target.mask=random2d", "data.target.acceleration=3", "data.target.acs=12"]),
    }
    for name, (path, settings) in targets.items():
        run = tmp_path / name
        told = done("train", "jssl", f"data.target.path={path}", *settings, f"data.proxy.path={knees}",
                    f"output={run}", *TINY).err  # fmt: skip
        (line,) = (line for line in told.splitlines() if "undersampled as the targets are" in line)
        if name == "asked":
            assert line.endswith("mask=random2d acceleration=3.0 acs=12.0")
        else:
            # The simulated scans hold half of 48 lines, at random, among them a calibration region.
            assert "mask=lines acceleration=2.0 acs=1" in line
        done("train", run, "--resume")


def test_proxies_need_references(undersampled: Path, knees: Path, tmp_path: Path) -> None:
    """One that has none is found before training, however many have one."""
    mixed = tmp_path / "mixed"
    shutil.copytree(knees, mixed)
    done("simulate", tmp_path / "more", "--anatomy", "knee", "--scans", "1", "--slices", "1", "--coils", "3",
         "--matrix", "40", "--first", "7", "--acceleration", "2")  # fmt: skip
    shutil.copy(tmp_path / "more" / "knee-0007.h5", mixed)
    shutil.rmtree(tmp_path / "more")
    before = tree(tmp_path)
    target, run = f"data.target.path={undersampled}", f"output={tmp_path / 'run'}"
    told = refused("train", "jssl", target, f"data.proxy.path={mixed / 'knee-0007.h5'}", run, *TINY)
    assert told.startswith(
        "noref: knee-0007/knee-0007/000: supervised training needs fully sampled scans, and this one has no "
        "reference; leave it out"
    )
    assert tree(tmp_path) == before
    # Unused, they are not missed.
    done("train", "ssdu-everything", target, f"data.proxy.path={mixed / 'knee-0007.h5'}", run, *TINY)


def test_a_proxy_that_is_scored_is_refused(
    full: Path, undersampled: Path, knees: Path, tmp_path: Path
) -> None:
    """The same volume, by its other files: of its reference the target's training would see everything."""
    run = f"output={tmp_path / 'run'}"
    told = refused("train", "jssl", f"data.target.path={undersampled}", *proxy(full), run, *TINY)
    assert told == (
        "noref: data.proxy: brain-0001/brain-0001 is in data.target too, where no reference may be learned "
        "from; leave it out of one, or rename its file if it is another scan"
    )
    validation = f"data.validation.path={undersampled / 'brain-0002.h5'}"
    told = refused("train", "supervised-proxy", *proxy(full / "brain-0002.h5"), validation, run, *TINY)
    assert "data.proxy: brain-0002/brain-0002 is in data.validation too" in told
    assert tree(tmp_path) == []
    done("train", "supervised-proxy", *proxy(knees), validation, run, *TINY)
    assert "Γ" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_what_was_learned_with_references_is_not_scored(
    supervised: Path, knees: Path, full: Path, tmp_path: Path
) -> None:
    shutil.copytree(supervised / "model", tmp_path / "proxies" / "model")
    page = tmp_path / "report.html"
    told = refused("evaluate", tmp_path / "proxies", f"path={knees / 'knee-0002.h5'}", *LINES, "-o", page)
    assert told == (
        "noref: knee-0002/knee-0002: proxies was trained on this scan with its reference; score it on "
        "others, or rename the file if it is another scan"
    )
    assert not page.exists()
    scans = [f"path={full / 'brain-0001.h5'}", *LINES]
    done("evaluate", tmp_path / "proxies", *scans, "-o", page, "--classical", "zero-filled")
    (note,) = [n for n in json.loads(page.with_suffix(".json").read_text())["notes"] if "references" in n]
    assert "made the scores and nothing else: training learns from those of proxies only" in note


def test_references_of_targets_are_said_to_be_unused(
    full: Path, undersampled: Path, run: Path, tmp_path: Path
) -> None:
    target = [f"data.target.{setting}" for setting in (f"path={full / 'brain-0001.h5'}", *LINES)]
    done("train", "ssdu", *target, f"output={tmp_path / 'run'}", *TINY)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "- target: 2 slices (4 coils, 48×48); not raw, made from images or simulated" in card
    assert "; they carry references, which training did not see" in card
    assert "references" not in (run / "model" / "README.md").read_text()
    page = tmp_path / "report.html"
    done("evaluate", run, f"path={undersampled / 'brain-0001.h5'}", "-o", page, "--classical", "zero-filled")
    assert not any("references" in n for n in json.loads(page.with_suffix(".json").read_text())["notes"])


def test_a_penalty_of_a_network_without_one(undersampled: Path, tmp_path: Path) -> None:
    train = ["train", "idr", f"data.target.path={undersampled}", f"output={tmp_path / 'run'}", *TINY]
    told = refused(*train, "loss.penalty=0.01")
    assert told == (
        "noref: loss.penalty=0.01: the network gives nothing to weigh by it; set loss.penalty=0, or "
        "network.symmetry=true with istanet"
    )
    assert tree(tmp_path) == []
    done(*train, "loss.penalty=0.01", "network.symmetry=true")


def test_training_starts_from_another_models_weights(
    supervised: Path, undersampled: Path, knees: Path, tmp_path: Path
) -> None:
    target, run = f"data.target.path={undersampled}", tmp_path / "run"
    train = ["train", "proxy-then-ssdu", target, f"output={run}", *TINY]
    for init, complaint in (
        ([], "runs/supervised-proxy: no model there; give a model folder, or a run that has finished"),
        ([f"init={tmp_path}"], f"{tmp_path}: no model there"),
        (
            [f"init={supervised}", "network.features=5"],
            f"{supervised / 'model' / 'model.safetensors'}: holds another network: ",
        ),
    ):
        assert complaint in refused(*train, *init)
        assert tree(tmp_path) == []
    done(*train, f"init={supervised}", "training.lr=1e-9")
    assert "init" in (run / "config.yaml").read_text()
    done("train", run, "--resume")
    # What the first model learned with references, the second knows too.
    scored = [f"path={knees / 'knee-0002.h5'}", *LINES]
    told = refused("evaluate", run, *scored, "-o", tmp_path / "report.html")
    assert "run was trained on this scan with its reference" in told
    again = ["train", "ssdu", f"init={run}", f"output={tmp_path / 'again'}", *TINY]
    told = refused(*again, *(f"data.target.{setting}" for setting in scored))
    assert told.startswith("noref: init: knee-0002/knee-0002 is in data.target too")
    told = refused(*again, target, *(f"data.validation.{setting}" for setting in scored))
    assert "init: knee-0002/knee-0002 is in data.validation too" in told
