"""`noref evaluate`: a report on trained runs, classical methods beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from noref import api
from noref.classical import ANY_SAMPLING, CLASSICAL
from noref.cli.sources import divided, named_paths, source
from noref.config import Source
from noref.data.dataset import Dataset
from noref.data.noise import ceiling_psnr
from noref.data.store import PreparedDataset
from noref.errors import NorefError
from noref.evaluation.report import write_report
from noref.evaluation.results import MethodResult, Report
from noref.evaluation.score import by_classical, by_network, pictured, score, volumes
from noref.sampling.draw import sampled_in_lines
from noref.scan import Role, Scan


def evaluate(
    runs: Annotated[
        list[str], typer.Argument(help="Run or model folders, and key=value of the scans, such as path=test.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    classical: Annotated[
        str, typer.Option(help="Classical methods to compare with, separated by commas.")
    ] = ",".join(ANY_SAMPLING),
    baseline: Annotated[str | None, typer.Option(help="The row that the others are compared with.")] = None,
    title: Annotated[str, typer.Option(help="Of the page.")] = "Reconstruction without references",
) -> None:
    """Score runs on scans they have not seen, with and without references, and write a report."""
    folders, settings = divided(runs)
    named = [(_name(Path(folder)), Path(folder)) for folder in folders]
    rows = [name for name in classical.split(",") if name]
    every = [*rows, *(name for name, _ in named)]
    twice = [name for name in every if every.count(name) > 1]
    if twice:
        raise NorefError(f"{twice[0]}: two rows of this name; rename a run folder, or leave one out")
    if baseline is not None and baseline not in every:
        raise NorefError(f"--baseline: {baseline!r} is no row; there are {', '.join(every)}")
    if output.is_dir():
        raise NorefError(f"{output}: is a folder; name the page to write, such as {output / 'report.html'}")
    report(dict(named), settings, output, classical=rows, title=title, baseline=baseline)
    print(output)


def report(
    runs: Mapping[str, Path],
    settings: Sequence[str],
    output: Path,
    *,
    classical: Sequence[str],
    title: str,
    intro: str = "",
    baseline: str | None = None,
    commands: Sequence[str] = (),
) -> Report:
    """Scores classical methods and runs on the same scans, and writes the page.

    Args:
        runs: run or model folders by the name they have in the report.
        settings: `key=value` of the scans; what is not given is as in the first run's training.
        output: the page.
        classical: names of classical methods.
        title: of the page.
        intro: what the data are.
        baseline: what the others are compared with.
        commands: to be repeated by the reader.
    """
    unknown = [name for name in classical if name not in CLASSICAL]
    if unknown:
        raise NorefError(f"--classical: {unknown[0]!r} is unknown; there are {', '.join(CLASSICAL)}")
    models = {name: api.load(folder) for name, folder in runs.items()}
    scans = api.dataset(_source(list(models.values()), settings), Role.TARGET)
    for name, model in models.items():
        seen = sorted(model.proxies & scans.volumes)
        if seen:
            raise NorefError(
                f"{seen[0]}: {name} was trained on this scan with its reference; score it on others, or "
                "rename the file if it is another scan"
            )
    console = Console(stderr=True)
    results: list[MethodResult] = []
    for name in classical:
        console.print(f"reconstructing: {name}", highlight=False)
        results.append(score(name, by_classical(name), scans))
    for name, model in models.items():
        console.print(f"reconstructing: {name}", highlight=False)
        results.append(score(name, by_network(model.estimate), scans))
    references, masks = pictured(scans)
    made = Report(
        title,
        results,
        intro=intro,
        commands=commands,
        labels=_labels(scans),
        ceiling_psnr=_ceiling(scans),
        baseline=baseline,
        references=references,
        masks=masks,
        curves={name: _curve(folder) for name, folder in runs.items()},
        settings={name: _summary(model) for name, model in models.items()},
        notes=_notes(scans),
    )
    write_report(output, made)
    return made


def _ceiling(scans: Dataset) -> float | None:
    found = (ceiling_psnr([scans.scan(i) for i in members]) for _, members in volumes(scans))
    ceilings = [ceiling for ceiling in found if ceiling is not None]
    return sum(ceilings) / len(ceilings) if ceilings else None


def _name(folder: Path) -> str:
    """What a run is called in the report; a model folder goes by the name of its run."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" else folder.name


def _source(models: Sequence[api.Model], settings: Sequence[str]) -> Source:
    given = models[0].config.data if models else None
    base = None if given is None else given.validation or given.target or given.proxy
    paths, rest = named_paths([], settings)
    if not paths:
        raise NorefError("no scans to score; give path=FOLDER of scans that no run was trained on")
    return source(paths, rest, base)


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


def _labels(scans: Dataset) -> list[str]:
    """What is true of any scan, said of all."""
    labels = [label for label, holds in LABELS.items() if any(map(holds, scans))]
    if isinstance(scans, PreparedDataset):
        return labels
    given = {scan.maps is not None for scan in scans.slices if scan.coils > 1}
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
