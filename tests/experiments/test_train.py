"""Several processes that train the runs of one experiment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from noref.experiments.train import claim

HOLDS = """
import sys
from pathlib import Path
from noref.experiments.train import claim
with claim(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.readline()
"""


def test_a_run_is_taken_once_and_free_when_its_process_is_gone(tmp_path: Path) -> None:
    lock = tmp_path / "run" / "default.lock"
    holding = [sys.executable, "-c", HOLDS, str(lock)]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with claim(lock) as mine:
            assert not mine
        other.kill()
    with claim(lock) as mine:
        assert mine
        with claim(lock) as again:
            assert not again
    with claim(lock, wait=True) as mine:
        assert mine
