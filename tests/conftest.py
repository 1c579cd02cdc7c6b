"""Fixtures shared by all tests, and the count of real-data tests that ran."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
import torch
from object_storage import served

REAL_DATA = Path(os.environ.get("NOREF_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # As many tests run at once as there are cores: with threads of their own they took a sixth longer.
    torch.set_num_threads(1)


@pytest.fixture
def real_data() -> Path:
    """The folder of real scans; skips where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real scans not found at {REAL_DATA}; set NOREF_DATA")
    return REAL_DATA


@pytest.fixture(scope="session")
def _s3() -> Iterator[dict[str, str]]:
    with served() as environment:
        yield environment


@pytest.fixture
def bucket(_s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket on a server of this machine, which the environment names."""
    for name, value in _s3.items():
        monkeypatch.setenv(name, value)
    name = f"noref-{uuid4()}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of a size such as "64k"; of "0,ro" nothing may be written."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mounted(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        mount = subprocess.run(command, capture_output=True, text=True)
        if mount.returncode:
            pytest.skip(f"cannot mount a small file system: {mount.stderr.strip()}")
        return folder

    yield mounted
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest file of all: last, it would keep one worker busy while the other has nothing left.
    items.sort(key=lambda item: item.path.name != "test_methods_learn.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints how many real-data tests ran: a skipped one is not a passed one."""
    ran = sum(
        "real_data" in r.keywords and r.when == "call" for r in terminalreporter.stats.get("passed", [])
    )
    # A module that skips as a whole has no keywords.
    skipped = sum(
        "real_data" in getattr(r, "keywords", ()) for r in terminalreporter.stats.get("skipped", [])
    )
    failed = sum("real_data" in r.keywords for r in terminalreporter.stats.get("failed", []))
    terminalreporter.write_line(f"real-data tests: {ran} passed, {failed} failed, {skipped} skipped")
