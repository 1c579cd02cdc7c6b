"""A trained multi-coil model on real scans of other scanners, beside CG-SENSE and wavelet.

    python benchmarks/transfer.py runs/brain-multicoil-4x/default --scans ../shared/data/multicoil

Fully sampled scans are undersampled 4 times in random lines; the scan that was acquired undersampled is
reconstructed as it is, and only Γ can score it. Pages land beside the run, scores in
`benchmarks/results`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from noref.cli.demo import table
from noref.cli.evaluate import report

LINES = ["mask=lines", "acceleration=4", "seed=2026", "maps=espirit"]
SCANS = {
    "mchiew": ["mchiew_brain_16ch_full_96.mat", "key=raw", "axes=ky,kx,slice,coils", "acs=12", *LINES],
    "loraks": ["loraks_mprage_4ch_full.mat", "key=kData", "axes=ky,kx,coils", "acs=24", *LINES],
    "bart": ["bart_picsbrain_8ch_poisson_undersampled.cfl", "mask=acquired"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--scans", type=Path, required=True, help="folder of the multi-coil scans")
    options = parser.parse_args()
    results = Path("benchmarks/results")
    results.mkdir(parents=True, exist_ok=True)
    for name, (file, *settings) in SCANS.items():
        page = options.run.parent / name / "report.html"
        made = report(
            {options.run.name: options.run},
            [f"path={options.scans / file}", *settings],
            page,
            classical=["zero-filled", "cg-sense", "wavelet"],
            title=f"{name}: {options.run.parent.name}, {options.run.name}",
            intro="A real scan of another scanner than the model was trained for: one subject, descriptive.",
            baseline="wavelet",
        )
        print(name, table(made), sep="\n")
        # The page shows the scan, which carries no licence to redistribute; the scores alone are kept.
        shutil.copyfile(page.with_suffix(".json"), results / f"{options.run.parent.name}-{name}.json")


if __name__ == "__main__":
    main()
