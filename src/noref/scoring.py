"""Scoring trained runs on scans they have not seen, classical methods beside them: the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from noref import api
from noref.classical import CLASSICAL
from noref.data.dataset import Dataset
from noref.data.noise import ceiling_psnr
from noref.data.store import PreparedDataset
from noref.errors import NorefError
from noref.evaluation.report import write_report
from noref.evaluation.results import Column, MethodResult, Report, mean_over, spread_over
from noref.evaluation.score import Reconstructor, by_classical, by_network, pictured, score, volumes
from noref.sampling.draw import sampled_in_lines
from noref.scan import Role, Scan


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: of the run, or of its model.
        model: what it has learned.
    """

    folder: Path
    model: api.Model

    @classmethod
    def of(cls, folder: Path) -> Trained:
        """Loads the model of a run or model folder."""
        return cls(folder, api.load(folder))


Columns = Callable[[Mapping[str, Sequence[MethodResult]]], Sequence[Column]]
"""Further columns of the table, from the results of every row, one a seed."""


def report(
    rows: Mapping[str, Sequence[Trained]],
    scans: Dataset,
    output: Path,
    *,
    classical: Sequence[str],
    title: str,
    intro: str = "",
    baseline: str | None = None,
    commands: Sequence[str] = (),
    columns: Columns | None = None,
    others: Mapping[str, Reconstructor] | None = None,
    people: bool = True,
) -> Report:
    """Scores classical methods and runs on the same scans, and writes the page.

    Args:
        rows: runs by the name of their row; those of one row differ in their seed alone. A row's scores are
            means over its seeds, its pictures and curves are the first one's.
        scans: prepared, with Γ.
        output: the page.
        classical: names of classical methods.
        title: of the page.
        intro: what the data are.
        baseline: what the others are compared with.
        commands: to be repeated by the reader.
        columns: makes further columns of the table.
        others: further rows, by name, that need no training.
        people: whether subjects are known to be different people.

    Raises:
        NorefError: if a classical method is unknown, or a run was trained on one of the scans with its
            reference.
    """
    unknown = [name for name in classical if name not in CLASSICAL]
    if unknown:
        raise NorefError(f"--classical: {unknown[0]!r} is unknown; there are {', '.join(CLASSICAL)}")
    for name, runs in rows.items():
        for run in runs:
            check_unseen(name, run.model, scans)
    console = Console(stderr=True)
    results: dict[str, list[MethodResult]] = {}
    for name, made_by in {**{name: by_classical(name) for name in classical}, **(others or {})}.items():
        console.print(f"reconstructing: {name}", highlight=False)
        results[name] = [score(name, made_by, scans)]
    for name, runs in rows.items():
        console.print(f"reconstructing: {name}", highlight=False)
        results[name] = [score(name, by_network(run.model.estimate), scans) for run in runs]
    references, masks = pictured(scans)
    firsts = {name: runs[0] for name, runs in rows.items()}
    made = Report(
        title,
        [mean_over(of) for of in results.values()],
        intro=intro,
        commands=commands,
        labels=labels_of(scans),
        ceiling_psnr=_ceiling(scans),
        baseline=baseline,
        references=references,
        masks=masks,
        curves={name: _curve(run.folder) for name, run in firsts.items()},
        settings={name: _summary(run.model) for name, run in firsts.items()},
        notes=[*_notes(scans), *shared_subjects(rows, scans)],
        people=people,
        columns=[*spread_over(results), *(columns(results) if columns else ())],
    )
    write_report(output, made)
    return made


def check_unseen(name: str, model: api.Model, scans: Dataset) -> None:
    """Refuses to score a model on scans that it was trained on with their references.

    Raises:
        NorefError: naming one of them, and the model by its name.
    """
    seen = sorted(volume for volume, names in scans.known_as.items() if model.proxies & names)
    if seen:
        raise NorefError(
            f"{seen[0]}: {name} was trained on this scan with its reference; score it on others, or "
            "rename the file if it is another scan"
        )


def shared_subjects(rows: Mapping[str, Sequence[Trained]], scans: Dataset) -> list[str]:
    """A line for every row that was trained on subjects that are scored."""
    said = []
    for name, runs in rows.items():
        known = {subject for run in runs for subject in run.model.subjects}
        both = scans.subjects_among(known)
        if both:
            said.append(
                f"{name} was trained on {len(both)} of the {len(scans.subjects)} subjects (the first: "
                f"{both[0]}): scores on others may be lower."
            )
    return said


def _ceiling(scans: Dataset) -> float | None:
    found = (ceiling_psnr([scans.scan(i) for i in members]) for _, members in volumes(scans))
    ceilings = [ceiling for ceiling in found if ceiling is not None]
    return sum(ceilings) / len(ceilings) if ceilings else None


def _curve(folder: Path) -> list[dict[str, Any]]:
    log = folder / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _summary(model: api.Model) -> str:
    parameters = sum(p.numel() for p in model.network.parameters())
    said = [str(model.config.method), str(model.config.network), f"{parameters:,} parameters"]
    target = model.config.data.target
    if target is not None and target.redraw and target.role is Role.PROXY:
        said.append("masks drawn anew each epoch: not the oracle with one mask each")
    if model.config.data.force:
        said.append("data.force=true: its scans may all share one mask")
    return " · ".join(said)


LABELS: dict[str, Callable[[Scan], bool]] = {
    "not raw": lambda scan: not scan.raw,
    "2-D masks: for comparison with the papers": lambda scan: _points(scan),
    "references filled in by parallel imaging": lambda scan: _interpolated(scan),
}
"""What a reader must know before believing a number, and the scans of which it is true."""

MAPS = {True: "maps from the file", False: "maps from the calibration region of Ω"}
"""The same, by whether a file with several coils holds maps: perhaps those that simulated its data."""


def _points(scan: Scan) -> bool:
    acquired = scan.raw and torch.equal(scan.mask, scan.measured)
    return not acquired and not sampled_in_lines(scan.mask)


def _interpolated(scan: Scan) -> bool:
    """Accelerated, as its file says, and yet full: others' reconstruction, such as GRAPPA, is in it."""
    return scan.reference is not None and scan.header.acceleration > 1


def labels_of(scans: Dataset, chosen: Sequence[int] | None = None) -> list[str]:
    """What a reader must know before believing a number; what is true of any scan is said of all.

    Args:
        scans: prepared.
        chosen: numbers of those that are scored; all if None.
    """
    numbers = range(len(scans)) if chosen is None else chosen
    labels = [label for label, holds in LABELS.items() if any(holds(scans[i]) for i in numbers)]
    if isinstance(scans, PreparedDataset):
        return labels
    slices = (scans.slices[i] for i in numbers)
    given = {scan.maps is not None for scan in slices if scan.coils > 1}
    return labels + [MAPS[one] for one in sorted(given)]


def _notes(scans: Dataset) -> list[str]:
    rates = sorted(scan.acceleration for scan in scans)
    held = sum(float(s.holdout.sum() / s.mask.sum()) for s in scans if s.holdout is not None) / len(scans)
    notes = [
        f"{len(scans)} slices, R = {rates[0]:.2f} to {rates[-1]:.2f} (calibration lines counted).",
        f"Γ is {held:.1%} of the acquired samples. It is scored on reconstructions from the other samples; "
        "the images and their PSNR, SSIM and NMSE are from all acquired samples.",
        "Self-supervised training shows networks sparser input than the test does. The regularisation of "
        "classical methods is chosen by Γ, which flatters their Γ.",
    ]
    if scans.references:
        notes.append(
            "The references of these scans made the scores and nothing else: training learns from those of "
            "proxies only."
        )
    return notes
