"""A store of 100,000 slices: how long it takes to open, and whether training over it grows.

    python benchmarks/large_store.py runs/large-store                    # makes, opens, trains for an hour
    python benchmarks/large_store.py runs/large-store --minutes 5

The slices are tiny, 28×28 with two coils: phantoms of a thousand subjects, again and again, each slice with
a Γ of its own. The store is made once. Training is `noref train ssdu` in a process of its own, whose memory
is looked at every two seconds: anonymous memory is the process's own, file memory are pages of the store that
the system takes back when it needs them. Growth is from the means of a tenth of the time, after a fifth of it
for warming up and at the end. Prints figures and writes `benchmarks/results/large-store.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from rich.progress import track

from noref.api import build_engine
from noref.coils.maps import estimate_maps
from noref.config import load_config
from noref.data.prepare import Preparation, prepare
from noref.data.simulate import simulate_scan
from noref.data.store import Store, is_store
from noref.data.storing import write_store
from noref.sampling.holdout import hold_out
from noref.scan import Role, Scan
from noref.seeding import Key

RESULTS = Path("benchmarks/results/large-store.json")
MATRIX, COILS, VOLUME = (28, 28), 2, 100
PREPARED = 1000
SETTINGS = [
    "network={name: istanet, phases: 2, features: 8}",
    "training.epochs=1000",
    "training.batch=4",
    "training.device=cpu",
    "training.save_every=30",
]


def slices(count: int) -> Iterator[Scan]:
    """Targets, a volume of `VOLUME` slices after another: prepared ones again and again, with other Γ."""
    how = Preparation.model_validate({"mask": "random2d", "acceleration": 4, "acs": 6})
    made = []
    for index in range(min(count, PREPARED)):
        name = f"s{index}/s/0"
        scan = simulate_scan("brain", id=name, matrix=MATRIX, coils=COILS, noise_db=30, seed=0)
        ready = prepare(replace(scan, maps=estimate_maps(scan), clean=None), how)
        made.append(replace(ready.undersampled(ready.mask), reference=None))
    for index in range(count):
        volume, position = divmod(index, VOLUME)
        one = replace(made[index % len(made)], id=f"subject-{volume:04d}/scan/{position:03d}")
        yield hold_out(one, how.holdout, how.seed)


def memory(process: int) -> dict[str, float]:
    """Resident megabytes of a process: `anonymous`, and `file`."""
    status = Path(f"/proc/{process}/status").read_text()
    found = {line.split(":")[0]: float(line.split()[1]) for line in status.splitlines() if "kB" in line}
    return {"anonymous": found["RssAnon"] / 1024, "file": found["RssFile"] / 1024}


def train(settings: list[str], run: Path, minutes: float) -> dict[str, object]:
    """Trains in a process of its own and looks at its memory."""
    shutil.rmtree(run, ignore_errors=True)
    started = time.monotonic()
    command = [sys.executable, "-m", "noref.cli", "train", "ssdu", *settings, f"output={run}"]
    seen: list[dict[str, float]] = []
    first = 0.0
    log = run.with_suffix(".log")
    with log.open("w") as told, subprocess.Popen(command, stderr=told) as process:
        while process.poll() is None and time.monotonic() - started < 60 * minutes:
            time.sleep(2)
            if not first and (run / "metrics.jsonl").exists():
                first = time.monotonic() - started
            if first and process.poll() is None:
                seen.append(memory(process.pid))
        if process.poll() is not None:
            raise SystemExit(f"the training ended too early, see {log}")
        process.send_signal(signal.SIGTERM)
    steps = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    tenth = len(seen) // 10
    begin, end = seen[2 * tenth : 3 * tenth], seen[-tenth:]
    figures: dict[str, object] = {"minutes": minutes, "steps": steps, "seconds to the first line": first}
    for kind in ("anonymous", "file"):
        before, after = mean(one[kind] for one in begin), mean(one[kind] for one in end)
        figures[f"{kind} MB after warm-up"], figures[f"{kind} MB at the end"] = before, after
    figures["peak anonymous MB"] = max(one["anonymous"] for one in seen)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slices", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder, how = given.folder / "store", Preparation.model_validate({})
    figures: dict[str, object] = {"slices": given.slices}
    if not is_store(str(folder)):
        begun = time.process_time()
        write_store(folder, track(slices(given.slices), "writing", total=given.slices), how, Role.TARGET)
        figures["CPU seconds to make"] = time.process_time() - begun
    figures["gigabytes"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e9
    begun = time.process_time()
    store = Store(folder)
    figures["CPU seconds to open"] = time.process_time() - begun
    begun = time.process_time()
    for index in Key(0, "", "read").numpy().integers(len(store), size=1000):
        store[int(index)].as_target()
    figures["CPU milliseconds a slice"] = time.process_time() - begun
    settings = [*SETTINGS, f"data.target.path={folder}"]
    begun = time.process_time()
    build_engine(load_config("ssdu", [*settings, f"output={given.folder / 'built'}"]))
    figures["CPU seconds to build a training"] = time.process_time() - begun
    figures |= train(settings, given.folder / "run", given.minutes)
    for name, value in figures.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
