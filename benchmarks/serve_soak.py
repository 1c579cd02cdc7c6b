"""Whether a server's memory stays flat: scans for an hour, and broken clients between them.

    python benchmarks/serve_soak.py --output benchmarks/results/serve-soak.json
    python benchmarks/serve_soak.py --minutes 5 --model runs/mine --pause 8

Several clients stream simulated scans of several sizes at once, over and over, as `noref send` does; every
few scans one hangs up halfway, sends random bytes, or announces more than it sends. What comes back is
compared with what came first. The server's resident memory is taken every few seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from noref.data.simulate import prospective, simulate_data
from noref.errors import NorefError
from noref.formats import mrd_writing
from noref.serve import received

SIZES = ((96, 4, 3), (128, 8, 2), (192, 12, 1))
"""Matrix, coils and slices of the scans."""

CLIENTS, EVERY, PERIOD = 3, 4, 5.0
"""Clients at once, scans to a broken one, and seconds between two looks at the memory."""

SETTLED = 0.25
"""Share of the time after which memory has to be flat."""


def files(folder: Path) -> list[Path]:
    """Simulated scans as raw data."""
    found = []
    for matrix, coils, slices in SIZES:
        scans = simulate_data(
            "brain", scans=1, slices=slices, coils=coils, matrix=(matrix, matrix), noise_db=30, seed=matrix
        )
        path = folder / f"scan{matrix}.h5"
        mrd_writing.write(path, [prospective(s, kind="lines", acceleration=2, acs=16, seed=1) for s in scans])
        found.append(path)
    return found


def break_off(port: int, chance: random.Random) -> None:
    """A client that is no good."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
        head = bytearray(342)
        head[:2], head[36:38], head[40:42] = b"\xf0\x03", b"\0\x10", b"\x08\0"
        try:
            for _ in range(chance.randrange(40)):
                peer.sendall(bytes(head) + bytes(8 * 8 * 4096))
            peer.sendall(bytes(head) + chance.randbytes(chance.randrange(100_000)))
        except OSError:
            return


def scanner(port: int, paths: list[Path], seed: int, pause: float, end: float, told: dict[str, int]) -> None:
    """Streams scans until the time is over, with a pause before each."""
    chance = random.Random(seed)
    first: dict[Path, list[np.ndarray]] = {}
    for number in range(sys.maxsize):
        time.sleep(pause)
        if time.monotonic() > end:
            return
        if number % EVERY == EVERY - 1:
            break_off(port, chance)
            told["broken"] += 1
            continue
        path = chance.choice(paths)
        try:
            images = [one.data for one in received(path, host="127.0.0.1", port=port).images]
        except NorefError:
            told["refused"] += 1
            continue
        before = first.setdefault(path, images)
        told["scans"] += 1
        told["images"] += len(images)
        told["different"] += sum(
            not np.allclose(one, other, atol=1e-5 * float(np.abs(other).max()))
            for one, other in zip(images, before, strict=True)
        )


def resident(process: int) -> float:
    """MiB."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def soak(model: str, minutes: float, pause: float) -> dict[str, object]:
    """Runs server and clients; what they did, and the memory over time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, log = files(folder), folder / "log.jsonl"
        with log.open("w", encoding="utf-8") as file:
            command = [sys.executable, "-m", "noref.cli", "serve", model, "--port", "0", "--memory", "256"]
            process = subprocess.Popen(command, stderr=file)
        try:
            while "\n" not in log.read_text(encoding="utf-8"):
                time.sleep(0.1)
            port = int(json.loads(log.read_text(encoding="utf-8").splitlines()[0])["port"])
            told = dict.fromkeys(("scans", "images", "broken", "refused", "different"), 0)
            began = time.monotonic()
            end = began + 60 * minutes
            threads = [
                threading.Thread(target=scanner, args=(port, paths, seed, pause, end, told))
                for seed in range(CLIENTS)
            ]
            for thread in threads:
                thread.start()
            memory = []
            while time.monotonic() < end:
                time.sleep(PERIOD)
                memory.append((round(time.monotonic() - began, 1), round(resident(process.pid), 1)))
            for thread in threads:
                thread.join()
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    settled = [(t, mib) for t, mib in memory if t > SETTLED * 60 * minutes]
    times, values = np.array(settled).T
    slope = float(np.polyfit(times, values, 1)[0]) * 3600
    spread = max(mib for _, mib in settled) - min(mib for _, mib in settled)
    return {
        "model": model,
        "minutes": minutes,
        "pause": pause,
        "exit": code,
        **told,
        "MiB, settled": settled[0][1],
        "MiB, end": settled[-1][1],
        "MiB, spread": round(spread, 1),
        "MiB an hour": round(slope, 1),
        "memory": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--model", default="zero-filled")
    parser.add_argument("--pause", type=float, default=0, help="seconds of each client between two scans")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    found = soak(given.model, given.minutes, given.pause)
    if given.output:
        given.output.write_text(json.dumps(found) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in found.items() if key != "memory"}, indent=1))


if __name__ == "__main__":
    main()
