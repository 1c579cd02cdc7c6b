"""The command line as a process of its own: exit codes, and which stream says what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from command import tree


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "noref.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_commands_that_succeed_say_what_they_wrote(run: Path, tmp_path: Path) -> None:
    scans, image, page = tmp_path / "scans", tmp_path / "image.nii.gz", tmp_path / "report.html"
    simulated = process("simulate", scans, "--scans", "1", "--slices", "1", "--coils", "2", "--matrix", "48")
    assert simulated.returncode == 0, simulated.stderr
    sampling = ["mask=lines", "acceleration=2", "acs=12"]
    for command, out in (
        (["reconstruct", run, scans, *sampling, "-o", image], f"{image}\n"),
        (["evaluate", run, f"path={scans}", *sampling, "--classical", "", "-o", page], f"{page}\n"),
    ):
        done = process(*command)
        assert (done.returncode, done.stdout) == (0, out), done.stderr
        assert "Traceback" not in done.stderr
    assert tree(tmp_path) == ["image.nii.gz", "report.html", "report.json", "scans", "scans/brain-0001.h5"]


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "scan.h5").write_bytes(b"")
    for command in (
        ["inspect", tmp_path / "scan.h5"],
        ["demo", "-o", tmp_path],
    ):
        told = process(*command)
        assert told.returncode == 2
        assert told.stdout == ""
        (line,) = told.stderr.splitlines()
        assert line.startswith(f"noref: {tmp_path}")
    assert tree(tmp_path) == ["scan.h5"]


def test_commands_start_without_what_few_of_them_need() -> None:
    slow = {f"scipy.{part}" for part in ("io", "ndimage", "spatial", "special", "stats")} | {"matplotlib"}
    told = f"import sys, noref.cli; print({slow} & set(sys.modules) or 'none')"
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout == "none\n"
