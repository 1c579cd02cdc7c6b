"""How well Γ chooses between methods, where references can tell: over the tables of the standing experiments.

    python benchmarks/choices.py

Of every table in `benchmarks/results`: Spearman's correlation of Γ with PSNR and with SSIM over all rows, how
often Γ picks the better one of two networks whose PSNR differs by less than `CLOSE`, and the row with the
lowest Γ, of all and of those that know no references of the target, with what it lacks of the best PSNR.
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

from noref.evaluation.compare import choice_by_gamma
from noref.experiments import EXPERIMENTS

RESULTS = Path(__file__).parent / "results"

CLOSE = 0.3
"""dB: what seeds differ by, or more."""


def summary(table: dict[str, Any], untrained: set[str], oracles: set[str]) -> str:
    """A line of it: the correlations, the pairs, and the rows that Γ would choose."""
    means = {
        method["name"]: {key: of["mean"] for key, of in method["means"].items() if of}
        for method in table["methods"]
    }
    rows = {name: of for name, of in means.items() if {"psnr", "ssim", "gamma"} <= of.keys()}
    networks = [of for name, of in rows.items() if name not in untrained]
    pairs = [(a, b) for a, b in combinations(networks, 2) if abs(a["psnr"] - b["psnr"]) < CLOSE]
    right = sum((a["gamma"] < b["gamma"]) == (a["psnr"] > b["psnr"]) for a, b in pairs)
    by_psnr, by_ssim = (
        choice_by_gamma([{"gamma": of["gamma"], "psnr": of[key]} for of in rows.values()])
        for key in ("psnr", "ssim")
    )
    if by_psnr is None or by_ssim is None:
        return "too few rows"
    free = {name: of for name, of in rows.items() if name not in oracles}
    return (
        f"{len(rows)} rows, correlation {by_psnr.rank_correlation:.2f} "
        f"(SSIM {by_ssim.rank_correlation:.2f}), {right} of {len(pairs)} close pairs, "
        f"chosen {_chosen(rows)}, without references {_chosen(free)}"
    )


def _chosen(rows: dict[str, dict[str, float]]) -> str:
    name = min(rows, key=lambda row: rows[row]["gamma"])
    lost = max(of["psnr"] for of in rows.values()) - rows[name]["psnr"]
    return f"{name} ({lost:.2f} dB lost)"


def main() -> None:
    for name, experiment in EXPERIMENTS.items():
        untrained = {*experiment.classical, *experiment.others}
        oracles = {name for name, row in experiment.rows.items() if row.recipe == "supervised"}
        for condition in (*experiment.conditions, *experiment.pooled):
            path = RESULTS / f"{name}-{condition}.json"
            if path.exists():
                table = json.loads(path.read_text(encoding="utf-8"))
                print(f"{path.stem}: {summary(table, untrained, oracles)}")


if __name__ == "__main__":
    main()
