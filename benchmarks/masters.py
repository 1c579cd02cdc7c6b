"""Classical reconstructions beside those of BART and SigPy, on real heads that were undersampled once.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python -m benchmarks.masters
    python -m benchmarks.masters --scans loraks-4-lines --sides noref  measures these anew, and keeps the rest
    python -m benchmarks.masters --mask equispaced                     likewise, scans in evenly spaced lines

All sides get the same samples and the same maps, noref's ESPIRiT of the calibration region, in the same
unit: the image's 99.5th percentile is about 1, so that λ means the same to everyone. The peers' λ is the one
of ten that the reference prefers; noref's is chosen by held-out samples, without the reference. Figures land
in `benchmarks/results/masters.json`, their table in `docs/classical.md`. BART is a program, whose time
includes reading and writing, and starting it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sigpy.mri.app
import torch
from torch import Tensor

from noref import api
from noref.classical import CLASSICAL, choose, fit
from noref.config import Source
from noref.data.shown import magnitude
from noref.formats.bart import read_cfl, write_cfl
from noref.metrics import nmse, psnr, ssim
from noref.scan import Role, Scan

DATA = Path(os.environ.get("NOREF_DATA", Path(__file__).parents[2] / "shared" / "data")) / "multicoil"
RESULTS = Path(__file__).parent / "results" / "masters.json"
PAGE = Path(__file__).parents[1] / "docs" / "classical.md"
MARK = "<!-- written by benchmarks/masters.py -->\n"

SCANS: dict[str, dict[str, object]] = {
    "mchiew": {"path": "mchiew_brain_16ch_full_96.mat", "key": "raw", "axes": "ky,kx,-,coils", "acs": 16},
    "loraks": {"path": "loraks_mprage_4ch_full.mat", "key": "kData", "axes": "ky,kx,coils", "acs": 24},
    "ugmpi": {"path": "ugmpi_4h_GE_coilimages.mat", "axes": "y,x,coils", "domain": "image", "acs": 24},
}
MASKS = {"lines": "random lines", "equispaced": "evenly spaced lines"}
CASES = [f"{name}-{rate}-lines" for name in ("mchiew", "loraks") for rate in (2, 3, 4)]
CASES += ["ugmpi-4-lines", "mchiew-3-equispaced"]
LAMBDAS = [float(f"{value:.2g}") for value in np.geomspace(1e-4, 1e-1, 10)]
METHODS = {"cg-sense": "CG-SENSE", "wavelet": "wavelets", "tv": "total variation"}
SIDES = {"noref": "noref", "bart": "BART", "sigpy": "SigPy"}

BART = {
    "cg-sense": ["-l2", "-i50", "-r{}"],
    "wavelet": ["-i200", "-RW:3:0:{}"],
    "tv": ["-i300", "-u0.1", "-RT:3:0:{}"],
}
"""Options of `bart pics`. With its own ρ of 0.01, TV needs 1000 iterations to come as far."""

SIGPY: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
    "cg-sense": (sigpy.mri.app.SenseRecon, {"max_iter": 50}),
    "wavelet": (sigpy.mri.app.L1WaveletRecon, {"max_iter": 200}),
    "tv": (sigpy.mri.app.TotalVariationRecon, {"max_iter": 300, "sigma": 0.01}),
}
"""Apps of SigPy. With its own σ of 1, TV is 2 dB short of its minimum after 600 iterations."""


@dataclass(frozen=True)
class Row:
    """How good one side's image is, and what it took.

    Attributes:
        strength: λ.
        psnr: dB, of magnitudes against the combination of the full scan, as fastMRI defines it.
        nmse: likewise.
        ssim: likewise.
        cpu: seconds for one reconstruction with that λ, one thread.
        choice: seconds to choose it, where that needs no reference.
    """

    strength: float
    psnr: float
    nmse: float
    ssim: float
    cpu: float
    choice: float | None = None


def undersampled(case: str) -> Scan:
    """A scan as `noref reconstruct FILE mask=… acceleration=…` prepares it."""
    name, rate, mask = case.split("-")
    settings = SCANS[name] | {"path": str(DATA / str(SCANS[name]["path"]))}
    source = Source(**settings, mask=mask, acceleration=float(rate))  # type: ignore[arg-type] # checked by pydantic
    return api.dataset(source, Role.TARGET).scan(0)


def row(scan: Scan, image: Tensor, strength: float, cpu: float, choice: float | None = None) -> Row:
    """Scores of an image `(1, y, x)`."""
    assert scan.reference is not None
    pictures = magnitude(scan.reference)[None], magnitude(image)[None]
    scores = {of.__name__: float(of(*pictures)) for of in (psnr, nmse, ssim)}
    return Row(strength, **scores, cpu=cpu, choice=choice)


def by_noref(scan: Scan, method: str) -> Row:
    """λ by held-out samples; the image anew, from nothing, so that its time is one image's."""
    began = time.process_time()
    strength = choose(CLASSICAL[method], scan).for_all
    chosen = time.process_time()
    image = fit(CLASSICAL[method], scan, strength)
    return row(scan, image, strength, time.process_time() - chosen, chosen - began)


def by_bart(scan: Scan, method: str, folder: Path) -> Row:
    """The λ that the reference prefers."""
    assert scan.maps is not None
    # BART's axes are x, y, z and coils.
    write_cfl(folder / "kspace.cfl", (scan.kspace * scan.mask).permute(2, 1, 0)[:, :, None].numpy())
    write_cfl(folder / "maps.cfl", scan.maps[0].permute(2, 1, 0)[:, :, None].numpy())

    def image(strength: float) -> Tensor:
        options = [option.format(strength) for option in BART[method]]
        command = ["bart", "pics", "-w1", *options, "kspace", "maps", "image"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return torch.from_numpy(np.array(read_cfl(folder / "image.cfl").T))

    return best(scan, image, lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]))


def by_sigpy(scan: Scan, method: str) -> Row:
    """The λ that the reference prefers."""
    assert scan.maps is not None
    kspace, maps = (scan.kspace * scan.mask).numpy(), scan.maps[0].numpy()
    app, options = SIGPY[method]

    def image(strength: float) -> Tensor:
        return torch.from_numpy(app(kspace, maps, lamda=strength, show_pbar=False, **options).run())

    return best(scan, image, time.process_time)


def best(scan: Scan, image: Callable[[float], Tensor], clock: Callable[[], float]) -> Row:
    """The image of the highest PSNR, λ from weak to strong until two in a row are worse than the best."""
    rows: list[Row] = []
    for strength in LAMBDAS:
        began = clock()
        made = image(strength)
        rows.append(row(scan, made[None], strength, clock() - began))
        if all(one.psnr < max(rows, key=_psnr).psnr for one in rows[-2:]):
            break
    return max(rows, key=_psnr)


def _psnr(one: Row) -> float:
    return one.psnr


def measure(case: str, side: str) -> dict[str, dict[str, float | None]]:
    """All methods of a side on a scan."""
    scan = undersampled(case)
    # What operators import when they are first called is no part of a reconstruction.
    fit(CLASSICAL["zero-filled"], scan, 0.0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            made = {
                "noref": lambda: by_noref(scan, method),  # noqa: B023 - called at once
                "bart": lambda: by_bart(scan, method, Path(folder)),  # noqa: B023 - called at once
                "sigpy": lambda: by_sigpy(scan, method),  # noqa: B023 - called at once
            }[side]()
            print(case, side, method, made, flush=True)
            found[method] = asdict(made)
    return found


Results = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]


def table(results: Results) -> str:
    """Markdown: a row for a scan and method."""
    lines = [
        "| scan | method | noref | BART | SigPy | CPU s: noref, with its choice | BART | SigPy |",
        "|---|---|---|---|---|---:|---:|---:|",
    ]
    for case in CASES:
        for method, called in METHODS.items():
            sides = {side: results.get(case, {}).get(side, {}).get(method) for side in SIDES}
            quality = [_quality(one) for one in sides.values()]
            ours = sides["noref"]
            times = ["" if ours is None else f"{ours['cpu']:.2f}, {ours['cpu'] + ours['choice']:.2f}"]
            times += ["" if one is None else f"{one['cpu']:.2f}" for one in (sides["bart"], sides["sigpy"])]
            name, rate, mask = case.split("-")
            scan = f"{name} {rate}×" + ("" if mask == "lines" else f", {MASKS[mask]}")
            lines.append("| " + " | ".join([scan, called, *quality, *times]) + " |")
    return "\n".join(lines) + "\n"


def _quality(one: Mapping[str, float] | None) -> str:
    if one is None:
        return ""
    return f"{one['psnr']:.2f} dB, {one['nmse']:.5f}, {one['ssim']:.4f}"


def main() -> None:
    """Measures what is asked for, writes figures and table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scans", nargs="*", default=CASES, choices=CASES)
    parser.add_argument("--mask", nargs="*", default=list(MASKS), choices=list(MASKS))
    parser.add_argument("--sides", nargs="*", default=list(SIDES), choices=list(SIDES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for case in (one for one in asked.scans if one.split("-")[2] in asked.mask):
        for side in asked.sides:
            measured = measure(case, side)
            # Read anew: sides may be measured side by side.
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results.setdefault(case, {})[side] = measured
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    results = json.loads(RESULTS.read_text())
    text = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(text + MARK + "\n" + table(results))


if __name__ == "__main__":
    main()
