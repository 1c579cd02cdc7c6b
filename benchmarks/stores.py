"""What reading a prepared slice costs from a folder, from a Zarr in a folder, and from object storage.

    python benchmarks/stores.py runs/stores                          # folder and Zarr on this disk
    python benchmarks/stores.py runs/stores --url s3://bucket/test   # and there; the place has to be empty

Slices of 15 coils, 320×320, every fourth line sampled, with maps: 25 MB each as arrays, which are read whole.
Files that were just written are in the system's memory, so that the disk is not what is measured. Prints
milliseconds a slice, medians of all reads by the clock and of CPU time, and the bytes that each store takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch

from noref.data.prepare import Preparation
from noref.data.simulate import simulate_scan
from noref.data.store import Store
from noref.data.storing import write_store
from noref.scan import Role, Scan

COILS, MATRIX, SLICES, ROUNDS = 15, (320, 320), 8, 5


def slices() -> Iterator[Scan]:
    """One phantom, again and again, with its maps."""
    made = simulate_scan("brain", id="s/s/0", matrix=MATRIX, coils=COILS, noise_db=30, seed=0)
    maps = torch.randn(1, COILS, *MATRIX, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    lines = torch.zeros_like(made.mask)
    lines[::4] = True
    one = replace(made.undersampled(lines), measured=lines, maps=maps, clean=None, reference=None, scale=2.0)
    for index in range(SLICES):
        yield replace(one, id=f"subject/scan/{index:03d}")


def seconds(store: Store) -> tuple[list[float], list[float]]:
    """Of every read of every slice, by the clock and of CPU time."""
    taken, worked = [], []
    for _ in range(ROUNDS):
        for index in range(len(store)):
            begun, idle = perf_counter(), process_time()
            scan = store[index]
            # What is mapped is read when it is touched.
            torch.stack([scan.kspace, scan.maps[0]] if scan.maps is not None else [scan.kspace])
            taken.append(perf_counter() - begun)
            worked.append(process_time() - idle)
    return taken, worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url")
    given = parser.parse_args()
    torch.set_num_threads(1)
    places: list[str] = [str(given.folder / "plain"), str(given.folder / "store.zarr")]
    for place in places + [given.url] * bool(given.url):
        begun = perf_counter()
        write_store(place, slices(), Preparation.model_validate({"holdout": 0}), Role.TARGET)
        written = perf_counter() - begun
        taken, worked = seconds(Store(place))
        size = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file()) / SLICES / 1e6
        print(
            f"{place}: {1000 * median(taken):.1f} ms, {1000 * median(worked):.1f} ms of CPU time"
            + (f", {size:.1f} MB a slice" if size else "")
            + f"; written in {written:.1f} s"
        )


if __name__ == "__main__":
    main()
