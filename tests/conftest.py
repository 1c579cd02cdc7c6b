"""Fixtures shared by all tests, and the count of real-data tests that ran."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

REAL_DATA = Path(os.environ.get("NOREF_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture
def real_data() -> Path:
    """The folder of real scans; skips where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real scans not found at {REAL_DATA}; set NOREF_DATA")
    return REAL_DATA


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
