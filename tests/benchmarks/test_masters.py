"""The table of classical methods is what was measured, and measuring runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import masters
from noref.classical import CGSense


def test_the_page_tells_what_was_measured() -> None:
    results = json.loads(masters.RESULTS.read_text())
    assert set(results) == set(masters.CASES)
    assert masters.PAGE.read_text().endswith(masters.table(results))


@pytest.mark.real_data
def test_all_sides_solve_the_same_problem(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("bart") is None:
        pytest.skip("bart, a package of Debian, is not installed")
    monkeypatch.setattr(masters, "DATA", real_data / "multicoil")
    monkeypatch.setattr(masters, "LAMBDAS", [1e-3])
    scan = masters.undersampled("mchiew-3-lines")
    theirs = masters.by_bart(scan, "cg-sense", tmp_path), masters.by_sigpy(scan, "cg-sense")
    ours = masters.fit(CGSense(reweighted=False), scan, 1e-3)
    mine = masters.row(scan, ours, 1e-3, 0.0)
    for one in theirs:
        assert one.psnr == pytest.approx(mine.psnr, abs=0.1)
        assert one.ssim == pytest.approx(mine.ssim, abs=0.005)
