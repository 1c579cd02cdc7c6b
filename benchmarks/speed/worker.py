"""One side of a row in a process of its own, which works when it is told to.

    python -m benchmarks.speed.worker ROW SIDE FOLDER DEVICE SMALL

Answers are lines of JSON. First comes `{"ready": …}` or `{"skipped": "why"}`, then one to each line read:
`pass N` does the work N times, `output PATH` saves what must agree, `peak` tells the memory.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from noref.cli.allocator import keep_freed_memory

from .peers import prepare_torchvision
from .row import Setting, Work
from .rows import ROWS

_MIB = 2**20
_KIB_PER_MIB = 1024


def _cpu_seconds() -> float:
    """Of this process and of programs that it has called, all threads."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB


def timed(work: Work, device: str, repeat: int) -> dict[str, float]:
    """Milliseconds of CPU and wall time of one pass; on a GPU the wall time is that between its events."""
    if device == "cuda":
        event: Any = torch.cuda.Event  # has no types
        start, end = event(enable_timing=True), event(enable_timing=True)
        torch.cuda.synchronize()
        cpu = _cpu_seconds()
        start.record()
        for _ in range(repeat):
            work.run()
        end.record()
        torch.cuda.synchronize()
        return {"cpu": 1e3 * (_cpu_seconds() - cpu) / repeat, "wall": start.elapsed_time(end) / repeat}
    wall, cpu = time.perf_counter(), _cpu_seconds()
    for _ in range(repeat):
        work.run()
    return {
        "cpu": 1e3 * (_cpu_seconds() - cpu) / repeat,
        "wall": 1e3 * (time.perf_counter() - wall) / repeat,
    }


def memory(work: Work, device: str, imported: float) -> dict[str, float | None]:
    """Peak in MiB over what the imports took; a program that is called does not tell."""
    if device == "cuda":
        return {"peak": torch.cuda.max_memory_allocated() / _MIB}
    return {"peak": None if work.calls else _peak_mib() - imported}


def serve(row: str, side: str, setting: Setting, questions: TextIO, answers: TextIO) -> None:
    """Builds the work and answers until there are no more questions."""

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    chosen = next(candidate for candidate in ROWS[row].sides if candidate.name == side)
    if "deepinv" in chosen.needs or "mrpro" in chosen.needs:
        prepare_torchvision()
    if missing := chosen.missing():
        answer(skipped=missing)
        return
    # Every side gets what noref's commands do with freed memory, so that it is no difference between them.
    keep_freed_memory()
    imported = _peak_mib()
    try:
        work = chosen.build(setting)
        work.run()
    except Exception as error:  # a peer may fail in any way; the row goes on without it
        reason = (str(error).splitlines() or [""])[0]
        answer(skipped=f"{type(error).__name__}: {reason}")
        raise
    answer(ready=True, parameters=work.parameters, note=work.note, comparable=work.output is not None)
    for line in questions:
        command, _, argument = line.strip().partition(" ")
        if command == "pass":
            answer(**timed(work, setting.device, int(argument)))
        elif command == "output" and work.output is not None:
            # GPUs round factors of float32 convolutions to TF32 by default, on all sides.
            torch.backends.cudnn.allow_tf32 = False
            np.save(argument, work.output())
            answer(saved=argument)
        else:
            answer(**memory(work, setting.device, imported))


def main() -> None:
    row, side, folder, device, small = sys.argv[1:]
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(row, side, Setting(Path(folder), device, small == "True"), sys.stdin, answers)


if __name__ == "__main__":
    main()
