"""The job that docs/slurm describes, with the commands of SLURM imitated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from files import TINY, write_targets

JOB = Path(__file__).parents[2] / "docs" / "slurm" / "train.sh"

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1
"$@" &
task=$!
trap 'kill -USR1 $task' USR1
trap 'kill -KILL $task' TERM
while kill -0 $task 2>/dev/null; do wait $task; code=$?; done
exit $code
"""

SCONTROL = """#!/bin/bash
if [[ $1 == show ]]; then echo 127.0.0.1; else echo "$@" >> "$TOLD"; fi
"""


def job(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """Starts the job as SLURM would."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    noref = f'#!/bin/bash\nexec "{sys.executable}" -m noref.cli "$@"\n'
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL), ("noref", noref)):
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    allotted = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "here", "SLURM_CPUS_PER_TASK": "1"}
    path = f"{commands}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", str(JOB), *map(str, arguments)],
        env={**os.environ, **allotted, "PATH": path, "TOLD": str(folder / "told")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_warned_job_saves_queues_again_and_goes_on(tmp_path: Path) -> None:
    run, told, scans = tmp_path / "run", tmp_path / "told", write_targets(tmp_path / "scans")
    settings = (f"data.target.path={scans}", "data.target.holdout=0.1", f"output={run}", *TINY)
    command = ("ssdu", *settings, "training.epochs=100", "training.validate_every=100")
    log = run / "metrics.jsonl"
    first = job(tmp_path, *command)
    while first.poll() is None and not log.exists():
        time.sleep(0.005)
    first.send_signal(signal.SIGUSR1)
    out, said = first.communicate(timeout=120)
    assert (first.returncode, out) == (0, ""), said
    assert "noref: stopped and saved" in said
    assert told.read_text() == "requeue 4711\n"
    assert (run / "checkpoint.safetensors").exists()
    assert not (run / "model").exists()

    second = job(tmp_path, *command)
    out, said = second.communicate(timeout=120)
    assert (second.returncode, out) == (0, f"{run / 'model'}\n"), said
    assert told.read_text() == "requeue 4711\n", "a finished job queued again"
    steps = [row["step"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    assert steps == list(range(1, 101))


def test_a_job_that_fails_does_not_queue_again(tmp_path: Path) -> None:
    assert subprocess.run(["bash", "-n", JOB], check=False).returncode == 0
    failing = job(tmp_path, "no-such-recipe")
    _, said = failing.communicate(timeout=120)
    assert failing.returncode == 2, said
    assert not (tmp_path / "told").exists()
