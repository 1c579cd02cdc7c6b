"""Tiny scans and a tiny model, made once by the commands themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import TINY, done, simulated


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three fully sampled subjects of two slices each."""
    return simulated(tmp_path_factory.mktemp("simulated") / "full", slices=2)


@pytest.fixture(scope="session")
def undersampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same subjects, of whom no more than every second line was ever measured."""
    return simulated(tmp_path_factory.mktemp("simulated") / "undersampled", "--acceleration", "2", slices=2)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, undersampled: Path) -> Path:
    """A finished training on scans without references."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    target = [f"data.target.path={undersampled}", "data.target.seed=3"]
    done("train", "default", *target, f"output={folder}", *TINY)
    return folder
