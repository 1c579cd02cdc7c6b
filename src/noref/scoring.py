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


@dataclass(frozen=True)
class Scored:
    """What a row of a report is made of, one a seed.

    Attributes:
        result: the scores.
        curve: rows of the run's `metrics.jsonl`; none of a method that is not trained.
        settings: of the run, for the reader.
    """

    result: MethodResult
    curve: Sequence[Mapping[str, Any]] = ()
    settings: str = ""


def score_all(
    rows: Mapping[str, Sequence[Trained]],
    scans: Dataset,
    *,
    classical: Sequence[str],
    others: Mapping[str, Reconstructor] | None = None,
) -> dict[str, list[Scored]]:
    """Scores classical methods, others and runs on the same scans.

    Args:
        rows: runs by the name of their row; those of one row differ in their seed alone.
        scans: prepared, with Γ.
        classical: names of classical methods.
        others: further rows, by name, that need no training.

    Returns:
        The scores of each row, one a seed, in that order.

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
    scored: dict[str, list[Scored]] = {}
    for name, made_by in {**{name: by_classical(name) for name in classical}, **(others or {})}.items():
        console.print(f"reconstructing: {name}", highlight=False)
        scored[name] = [Scored(score(name, made_by, scans))]
    for name, runs in rows.items():
        console.print(f"reconstructing: {name}", highlight=False)
        scored[name] = [
            Scored(score(name, by_network(run.model.estimate), scans), _curve(run.folder), summary(run.model))
            for run in runs
        ]
    return scored


def report(
    scored: Mapping[str, Sequence[Scored]],
    scans: Dataset,
    output: Path,
    *,
    title: str,
    intro: str = "",
    baseline: str | None = None,
    commands: Sequence[str] = (),
    notes: Sequence[str] = (),
    columns: Sequence[Column] = (),
    untested: str = "",
) -> Report:
    """Writes the page of scores.

    Args:
        scored: of every row, one a seed. A row's scores are means over its seeds, its pictures and curves are
            those of the first that has any.
        scans: that were scored.
        output: the page.
        title: of the page.
        intro: what the data are.
        baseline: what the others are compared with.
        commands: to be repeated by the reader.
        notes: further sentences.
        columns: further ones of the table.
        untested: why nothing is tested however many subjects there are.
    """
    references, masks = pictured(scans)
    firsts = {name: seeds[0] for name, seeds in scored.items()}
    results = {name: [seed.result for seed in seeds] for name, seeds in scored.items()}
    means = [mean_over(of) for of in results.values()]
    made = Report(
        title,
        means,
        intro=intro,
        commands=commands,
        labels=labels_of(scans),
        ceiling_psnr=_ceiling(scans),
        baseline=baseline,
        pictured_by=[result.name for result in means if result.images][-1],
        references=references,
        masks=masks,
        curves={
            name: next((seed.curve for seed in seeds if seed.curve), ())
            for name, seeds in scored.items()
            if seeds[0].settings
        },
        settings={name: first.settings for name, first in firsts.items() if first.settings},
        notes=[*_notes(scans), *notes],
        untested=untested,
        columns=[*spread_over(results), *columns],
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


def summary(model: api.Model) -> str:
    """What a reader of a report should know of how a model was trained; the same for all seeds."""
    parameters = sum(p.numel() for p in model.network.parameters())
    config = model.config
    said = [str(config.method), str(config.network), f"{parameters:,} parameters"]
    said += [f"loss: {config.loss}", f"learning rate {config.training.lr:g}"]
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
