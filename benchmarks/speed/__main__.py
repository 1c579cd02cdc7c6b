"""Measures noref beside its peers.

    python -m benchmarks.speed                       every row: benchmarks/results/speed, docs/speed.md
    python -m benchmarks.speed --rows unet varnet    some of them, the others stay as they are
    python -m benchmarks.speed --quick               what got slower since the last release
    python -m benchmarks.speed --device cuda         on a GPU, with the profile of the paper-size vSHARP step
    python -m benchmarks.speed --page                the page alone, from the results that there are
    python -m benchmarks.speed --list                what rows there are

The status is 1 if something got slower, or if what comes out differs from a peer's of the same weights.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Sequence
from pathlib import Path

from . import page
from .guard import ALLOWED, slower
from .measure import Result, measure
from .profile import profiled
from .results import FOLDER, Results
from .row import Row, Setting
from .rows import ROWS

DOCS = Path(__file__).parents[2] / "docs"
PROFILED = "vsharp-paper"


def _available_gb() -> float:
    """Memory that is free for new processes; without end where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    known = dict(line.split(":") for line in lines)
    return int(known["MemAvailable"].split()[0]) / 2**20


def _measured(row: Row, options: argparse.Namespace, seconds: float) -> Result:
    print(f"{row.name}: {row.title}", flush=True)
    result = measure(
        row,
        device=options.device,
        small=options.small,
        seconds=seconds,
        rounds=options.rounds,
        threads=options.threads,
    )
    for name, side in result.sides.items():
        if side.cpu is None or side.wall is None:
            print(f"  {name}: skipped, {side.skipped}", flush=True)
            continue
        cpu, wall = (page.spread(time, result.rounds) for time in (side.cpu, side.wall))
        told = [f"{cpu} ms CPU", f"{wall} ms wall"]
        if side.peak is not None:
            told.append(f"{side.peak:.0f} MiB")
        if side.ratio is not None:
            low, middle, high = side.ratio
            told.append(f"{middle:.3f} [{low:.3f}–{high:.3f}] × {side.versus}")
        if side.difference is not None:
            told.append(f"difference {side.difference:.1e}")
        print(f"  {name}: {', '.join(told)}", flush=True)
    print(f"  {result.rounds} turns, load average {result.load[0]} to {result.load[1]}", flush=True)
    return result


def _write(options: argparse.Namespace) -> None:
    if options.results == FOLDER:
        found = {device: Results.load(FOLDER / f"{device}.json", device) for device in ("cpu", "cuda")}
        (DOCS / "speed.md").write_text(page.render(found["cpu"], found["cuda"]))


def _all(rows: list[Row], options: argparse.Namespace) -> int:
    """Measures, and writes after every row."""
    path = options.results / f"{options.device}.json"
    results = Results.load(path, options.device)
    results.here()
    disagreeing = []
    for row in rows:
        if options.device == "cpu" and not options.small and row.memory_gb > _available_gb():
            print(f"{row.name}: skipped, needs {row.memory_gb:g} GiB of free memory", flush=True)
            continue
        results.rows[row.name] = result = _measured(row, options, options.seconds)
        disagreeing += [f"{row.name}: {n}" for n, side in result.sides.items() if side.agrees is False]
        results.save(path)
    if options.device == "cuda" or options.profile:
        results.profile = profiled(ROWS[PROFILED], Setting(options.results, options.device, options.small))
        results.save(path)
    _write(options)
    for name in disagreeing:
        print(f"other output than noref's: {name}")
    return 1 if disagreeing else 0


def _quick(rows: list[Row], options: argparse.Namespace) -> int:
    """Names what got slower."""
    before = Results.load(options.results / f"{options.device}.json", options.device)
    chosen = [row for row in rows if row.quick or options.rows]
    for row in chosen:
        if row.name not in before.rows:
            print(f"{row.name}: no figures to compare with; run it without --quick first")
    found = slower(chosen, before.rows, functools.partial(_measured, options=options, seconds=3))
    for name, times in found.items():
        print(
            f"slower: {name} takes {times:.2f} times as long as in noref {before.noref}, beside the same work"
        )
    if not found:
        print(f"nothing is more than {ALLOWED - 1:.0%} slower than in noref {before.noref}")
    return 1 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", metavar="NAME", choices=ROWS, help="only these")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="compare with the last release, in two minutes")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--list", action="store_true", help="only list the rows")
    parser.add_argument("--profile", action="store_true", help="profile the paper-size vSHARP step, too")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to test the harness")
    parser.add_argument("--seconds", type=float, default=30, help="for the turns of a row")
    parser.add_argument("--rounds", type=int, help="turns of a row instead")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of every side")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the JSON files")
    options = parser.parse_args(arguments)
    rows = [ROWS[name] for name in options.rows or ROWS]
    rows = [row for row in rows if any(options.device in side.devices for side in row.sides)]
    if options.list:
        for row in rows:
            print(f"{row.name:24} {row.title}")
        return 0
    if options.page:
        _write(options)
        return 0
    return _quick(rows, options) if options.quick else _all(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
