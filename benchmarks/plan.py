"""What a training of 80,000 slices on 8 GPUs takes: the arithmetic of docs/scaling.md, from measurements.

    python benchmarks/plan.py                  the table, from what was measured last
    python benchmarks/plan.py --measure        measure anew on this machine, some minutes

Floating-point operations and kept activations of the network grow with pixels, and those of its map refiner
with pixels times coils: measured at 64², they predict a pass at 128², which is measured to check them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from noref.methods import Split
from noref.methods.view import Views
from noref.networks import VSHARP
from noref.networks.refinedmaps import RefinedMaps
from noref.physics import cartesian
from noref.scan import Role, Scan
from noref.seeding import Key

RESULTS = Path(__file__).parent / "results"
MEASURED = RESULTS / "plan.json"
SLICES, COILS, MATRIX, GPUS, BATCH, EPOCHS = 80_000, 16, 320, 8, 16, 40
TERAFLOPS = (30, 100)
"""Assumed, not measured: what a GPU may sustain in these convolutions with several slices at once."""

Numbers = dict[str, float]


def one_pass(size: int, coils: int, checkpointing: bool) -> Numbers:
    """Operations, kept bytes, CPU time and peak memory of a pass and its gradient, in a fresh process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = RefinedMaps(VSHARP(checkpointing=checkpointing))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # an overload PyTorch leaves out
    shape = (1, coils, size, size)
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[:, ::4] = True
    encoding = cartesian(mask, torch.randn(1, *shape, dtype=torch.complex64))
    kspace = torch.randn(shape, dtype=torch.complex64) * mask[:, None]
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def loss() -> torch.Tensor:
        estimate = network(kspace, encoding)
        images = (*estimate.steps, estimate.image)
        return torch.stack([image.abs().square().mean() for image in images]).sum()

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            graded = loss()
        torch.autograd.backward(graded)
    parameters = list(network.parameters())
    own = {p.untyped_storage().data_ptr() for p in parameters}
    del graded
    # From here on the highest mark counts anew (proc(5)); the gradients are there already.
    Path("/proc/self/clear_refs").write_text("5")
    before, began = resident("VmRSS"), time.process_time()
    torch.autograd.backward(loss())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "flops": counter.get_total_flops(),
        "kept": sum(size for place, size in kept.items() if place not in own),
        "cpu": time.process_time() - began,
        "peak": resident("VmHWM") - before,
    }


def resident(mark: str) -> int:
    """Bytes of memory of this process, now or at most, as Linux names it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in status if line.startswith(mark)).split()[1])


def sustained() -> dict[str, float]:
    """TFLOP/s of the published network's step on the GPU of docs/speed.md, one slice at a time."""
    results = json.loads((RESULTS / "speed" / "cuda.json").read_text())
    sides = results["rows"]["vsharp-paper"]["sides"]
    flops = json.loads(MEASURED.read_text())["256², 8 coils, given maps"]["flops"]
    return {
        f"{precision}, measured on one {results['machine']}": flops / sides[name]["wall"][1] / 1e9
        for precision, name in (("TF32", "noref, CUDA graph"), ("bf16", "noref, bf16, CUDA graph"))
    }


def given_maps() -> float:
    """Operations of the published network's step alone, at 256² and with 8 coils."""
    network, shape = VSHARP(), (1, 8, 256, 256)
    mask = torch.zeros(1, 256, 256, dtype=torch.bool)
    mask[:, ::4] = True
    encoding = cartesian(mask, torch.randn(1, *shape, dtype=torch.complex64))
    with FlopCounterMode(display=False) as counter:
        estimate = network(torch.randn(shape, dtype=torch.complex64) * mask[:, None], encoding)
        images = (*estimate.steps, estimate.image)
        torch.autograd.backward(torch.stack([image.abs().square().mean() for image in images]).sum())
    return float(counter.get_total_flops())


def loading() -> float:
    """CPU seconds to make a slice's views, and to stack them, once the slice is in memory."""
    torch.set_num_threads(1)
    kspace = torch.randn(COILS, MATRIX, MATRIX, dtype=torch.complex64)
    maps = torch.randn(1, COILS, MATRIX, MATRIX, dtype=torch.complex64)
    mask = torch.zeros(MATRIX, MATRIX, dtype=torch.bool)
    mask[::4] = mask[MATRIX // 2 - 12 : MATRIX // 2 + 12] = True
    scan = Scan("a/b/0", kspace * mask, mask, mask, maps=maps, scale=2.0, role=Role.TARGET)
    spent = []
    for number in range(9):
        began = time.process_time()
        Views.of(Split().view(scan.as_target(), Key(0, scan.id, "view", number)))
        spent.append(time.process_time() - began)
    return median(spent)


def measure() -> dict[str, Numbers]:
    """All that the plan starts from."""

    def child(*given: object) -> Numbers:
        command = [sys.executable, __file__, "--pass", *map(str, given)]
        # Has glibc give back what is freed, so that the highest mark is what was in use.
        env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
        found: Numbers = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env).stdout
        )
        return found

    return {
        "64², 4 coils": child(64, 4, 0),
        "64², 16 coils": child(64, 16, 0),
        "128², 8 coils": child(128, 8, 0),
        "128², 8 coils, checkpointing": child(128, 8, 1),
        "256², 8 coils, given maps": {"flops": given_maps()},
        "loading": {"cpu": loading()},
    }


def predicted(measured: dict[str, Numbers], key: str, size: int, coils: int) -> float:
    """`pixels (a + b coils)`, from the two passes at 64²."""
    few, many = measured["64², 4 coils"][key], measured["64², 16 coils"][key]
    by_coil = (many - few) / 12
    return (few + by_coil * (coils - 4)) * (size / 64) ** 2


def table(measured: dict[str, Numbers]) -> str:
    """The plan, as a table of Markdown."""
    check, spared = measured["128², 8 coils"], measured["128², 8 coils, checkpointing"]
    parameters, pixels = check["parameters"], MATRIX**2
    flops = predicted(measured, "flops", MATRIX, COILS)
    # Some memory is needed beyond the tensors that are kept: as measured at 128².
    activations = predicted(measured, "kept", MATRIX, COILS) * check["peak"] / check["kept"]
    weights = 20 * parameters
    # 12 steps of 10 applications of AᴴA, two transforms of every coil in each, and the same for the gradient.
    transforms = 2 * 120 * 2 * COILS * 5 * pixels * math.log2(pixels)
    stored, moved = 2 * COILS * pixels * 8, 3 * COILS * pixels * 8
    exchanged = 2 * (GPUS - 1) / GPUS * 4 * parameters
    rows = [
        ("parameters", f"{parameters:,.0f}", "vSHARP and its map refiner"),
        (
            "check: operations at 128², 8 coils",
            f"{check['flops'] / predicted(measured, 'flops', 128, 8):.3f}",
            "measured, times the prediction from 64²",
        ),
        (
            "check: kept activations, likewise",
            f"{check['kept'] / predicted(measured, 'kept', 128, 8):.3f}",
            "measured, times the prediction from 64²",
        ),
        ("operations for a slice", f"{flops / 1e12:.2f} T", "convolutions, with their gradients"),
        ("its FFTs", f"{transforms / 1e12:.2f} T", "not in the hours below, nor are losses"),
        (
            "a slice on one core of this CPU",
            f"{flops * check['cpu'] / check['flops']:.0f} s",
            f"at the {check['flops'] / check['cpu'] / 1e9:.0f} GFLOP/s measured at 128², 8 coils",
        ),
        ("weights, gradients, Adam, buckets", f"{weights / 1e9:.1f} GB", "20 bytes a parameter"),
        ("the same, sharded", f"{16 * parameters / GPUS / 1e9:.2f} GB", "16 bytes, over 8"),
        ("activations of a slice", f"{activations / 1e9:.1f} GB", "float32; `training.micro_batch=1`"),
        (
            "the same, checkpointing",
            f"{activations * spared['peak'] / check['peak'] / 1e9:.1f} GB",
            f"`network.checkpointing=true`: {spared['flops'] / check['flops']:.2f} × the operations",
        ),
        ("a prepared slice", f"{stored / 1e6:.0f} MB", "k-space and maps, complex64"),
        ("all prepared slices", f"{SLICES * stored / 1e12:.1f} TB", "what an epoch reads"),
        (
            "teacher images",
            f"{SLICES // 2 * pixels * 8 / 1e9:.0f} GB",
            "a stage of refinement, of the targets",
        ),
        (
            "loading a slice",
            f"{1e3 * measured['loading']['cpu']:.0f} ms of a core",
            "views, without the disk",
        ),
        ("to a GPU", f"{moved / 1e6:.0f} MB a slice", "input, goal, maps"),
        ("exchanged in a step", f"{exchanged / 1e9:.2f} GB a GPU", "ring of 8"),
    ]
    rates = {**sustained(), **{f"assumed {assumed} TFLOP/s": float(assumed) for assumed in TERAFLOPS}}
    for name, teraflops in rates.items():
        rate = GPUS * teraflops * 1e12 / flops
        hours = SLICES * EPOCHS / rate / 3600
        rows.append(
            (
                name if name.startswith("assumed") else f"{teraflops:.1f} TFLOP/s: {name}",
                f"{hours:.1f} h",
                f"{SLICES / rate / 60:.0f} min an epoch; read {rate * stored / 1e9:.1f} GB/s; "
                f"{rate * measured['loading']['cpu']:.1f} cores load; exchange "
                f"{rate / BATCH * exchanged / 1e9:.1f} GB/s a GPU",
            )
        )
    lines = ["| what | figure | of what |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true")
    parser.add_argument(
        "--pass", dest="passed", nargs=3, type=int, metavar=("SIZE", "COILS", "CHECKPOINTING")
    )
    given = parser.parse_args()
    if given.passed:
        size, coils, checkpointing = given.passed
        print(json.dumps(one_pass(size, coils, bool(checkpointing))))
        return
    if given.measure:
        MEASURED.write_text(json.dumps(measure(), indent=1, ensure_ascii=False) + "\n")
    print(table(json.loads(MEASURED.read_text())))


if __name__ == "__main__":
    main()
