"""What the phase of a real image is to a network: one scan, with more and less of it.

    python benchmarks/phase.py runs/benchmark/brain-multicoil/4x-40dB/seed-0/equivariant --data scans
    python benchmarks/phase.py RUN RUN --data scans --results benchmarks/results

Of a real full scan, `loraks` of brain-multicoil, the image m is combined by its own coil maps S, and other
full scans are made of it: S·m, S·|m|, S·|m| with the smooth phase that the networks take off before they
begin, and S·m without that phase, so that the fine one is left (and what is smooth in dark places). Each, and
the scan as it was measured, is undersampled alike. Prints the PSNR of the models and of wavelet, against each
scan's own combination, and how much of the energy of its image is imaginary without the smooth phase, beside
that of the experiment's test scans, which `noref benchmark` has prepared; `--results` keeps it in
`phase.json`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from keep import keep
from torch import Tensor

from noref import api
from noref.config import Source
from noref.data.prepare import Preparation, prepare
from noref.evaluation.results import METRICS
from noref.evaluation.score import by_classical, by_network, score
from noref.experiments import EXPERIMENTS
from noref.formats import fastmri
from noref.networks.demodulated import smooth_phase_of
from noref.physics import fft2c, ifft2c
from noref.scan import Role, Scan

EXPERIMENT, CONDITION, SCAN = "brain-multicoil", "4x-40dB", "loraks"
TESTS = Path("runs/benchmark") / EXPERIMENT / "data/40dB/siat6"
PSNR = METRICS[0]


def whole(source: Source) -> list[Scan]:
    """Full scans with their coil maps."""
    return [prepare(scan, Preparation.model_validate({"holdout": 0})) for scan in api.slices(source)]


def combined(scan: Scan) -> tuple[Tensor, Tensor]:
    """Maps `(coils, y, x)`, and the image `(y, x)` that they make of a full scan."""
    assert scan.maps is not None
    maps = scan.maps[0]
    return maps, (maps.conj() * ifft2c(scan.kspace)).sum(0)


def imaginary(scan: Scan) -> float:
    """The share of an image's energy that is imaginary without its smooth phase."""
    image = combined(scan)[1]
    turned = image * smooth_phase_of(image).conj()
    return float(turned.imag.square().sum() / turned.abs().square().sum())


def variants(scan: Scan) -> dict[str, Tensor]:
    """Full k-space `(coils, ky, kx)` with more and less phase, of a full scan."""
    maps, image = combined(scan)
    smooth = smooth_phase_of(image)
    images = {
        "consistent": image,
        "no phase": image.abs(),
        "smooth phase": image.abs() * smooth,
        "fine phase": image * smooth.conj(),
    }
    return {"measured": scan.kspace} | {name: fft2c(maps * of) for name, of in images.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--data", required=True, type=Path, help="folder of the scans")
    parser.add_argument("--results", type=Path, help="folder that gets the numbers")
    options = parser.parse_args()
    if len({run.name for run in options.runs}) < len(options.runs):
        parser.error("two runs have one name")
    torch.set_num_threads(1)
    settings: Mapping[str, Any] = EXPERIMENTS[EXPERIMENT].conditions[CONDITION].also[SCAN]
    sampled = {key: settings[key] for key in ("mask", "acceleration", "acs", "seed")}
    file = {key: settings[key] for key in ("key", "axes")} | {"path": str(options.data / settings["path"])}
    (full,) = whole(Source.model_validate(file))
    tests = whole(Source.model_validate({"path": str(TESTS)}))
    shares = {SCAN: imaginary(full), TESTS.name: fmean(imaginary(scan) for scan in tests)}
    print("imaginary    ", *(f"{name} {share:.1%}" for name, share in shares.items()))
    if options.results is not None:
        keep(options.results / "phase.json", "imaginary", {name: round(of, 4) for name, of in shares.items()})
    methods = {run.name: by_network(api.load(run).estimate) for run in options.runs}
    methods["wavelet"] = by_classical("wavelet")
    for name, kspace in variants(full).items():
        with tempfile.TemporaryDirectory() as folder:
            made = Scan(full.id, kspace * full.scale, measured=full.measured, mask=full.mask)
            fastmri.write(Path(folder) / "scan.h5", [made])
            scans = api.dataset(Source.model_validate({"path": folder, **sampled}), Role.TARGET)
            found = {
                method: round(next(iter(score(method, of, scans).values(PSNR).values())), 2)
                for method, of in methods.items()
            }
        print(f"{name:13}", *(f"{method} {value:.2f} dB" for method, value in found.items()))
        if options.results is not None:
            keep(options.results / "phase.json", name, found)


if __name__ == "__main__":
    main()
