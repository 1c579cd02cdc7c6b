"""The report: one HTML page that needs nothing but a browser, and its numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from noref.evaluation import charts
from noref.evaluation.compare import choice_by_gamma
from noref.evaluation.document import document, labels_list, resource, sections
from noref.evaluation.gallery import gallery
from noref.evaluation.results import METRICS, Report, scores
from noref.evaluation.tables import digits, lead, number, pair_table, score_table, subject_table
from noref.files import flush, whole

GLOSSARY = {
    "Γ": "Error on measured k-space samples that were held out before any method saw the scan, normalised as "
    "NMSE is, each sample weighted by the inverse of its probability of being acquired. It needs no "
    "reference. Lower is better; the noise in the samples sets a floor above zero.",
    "PSNR": "10 log₁₀ of the squared maximum of the reference volume over the mean squared error, in dB. "
    "Higher is better.",
    "SSIM": "Structural similarity, the mean over slices and uniform 7×7 windows, for values from zero to "
    "the volume's maximum. Higher is better; 1 is equal.",
    "NMSE": "Squared error over the squared norm of the reference volume. Lower is better.",
    "NMAE": "Sum of the absolute errors over that of the reference volume. Lower is better.",
    "HFEN₁": "The same of edges: of images filtered with a 15×15 Laplacian of Gaussian, σ = 2.5 pixels. "
    "Lower is better.",
    "Ceiling": "The PSNR that a perfect, noise-free reconstruction would reach: the reference has noise too. "
    "Estimated from the outermost k-space; higher where signal reaches there.",
}


def write_report(path: Path, report: Report) -> None:
    """Writes `path`, a page without external resources, and the numbers beside it, as `.json`.

    Raises:
        NorefError: if a file cannot be written; then neither is.
    """
    numbers = json.dumps(scores(report), indent=1, ensure_ascii=False, allow_nan=False)
    html = page(report)
    with whole(path.with_suffix(".json")) as beside, whole(path) as temporary:
        beside.write_text(numbers + "\n", encoding="utf-8")
        # Before the page is there: either both are, or none.
        flush(beside)
        temporary.write_text(html, encoding="utf-8")


def page(report: Report) -> str:
    """The report as HTML; every text in it is escaped."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    terms = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in GLOSSARY.items())
    contents = {
        "Scores": lead(report) + score_table(report),
        "Subjects": _subjects(report),
        "Pictures": gallery(report),
        "Training": _training(report),
        "Notes": notes and f"<ul>{notes}</ul>",
        "Glossary": f"<dl>{terms}</dl>",
        "Settings": pair_table(report.settings),
    }
    contents = {name: content for name, content in contents.items() if content}
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in contents)
    script = resource("noref.evaluation", "report.js")
    return document(
        report.title,
        f"{_header(report)}<nav>{links}</nav>{sections(contents)}",
        end=f'<dialog><img alt=""><p></p></dialog><script>{script}</script>',
    )


def _header(report: Report) -> str:
    commands = escape("\n".join(report.commands))
    return (
        f"<header><h1>{escape(report.title)}</h1>"
        + labels_list(report.labels)
        + "".join(f"<p>{escape(text)}</p>" for text in report.intro.split("\n\n") if text.strip())
        + (commands and f"<pre><code>{commands}</code></pre>")
        + "</header>"
    )


def _subjects(report: Report) -> str:
    if len(report.volumes) < 2:
        return ""
    figures = ""
    for metric in METRICS:
        values = {result.name: result.values(metric) for result in report.results}
        values = {name: of for name, of in values.items() if of}
        if metric.best is None or not values:
            continue
        ceiling = None
        if metric.key == "psnr" and report.ceiling_psnr is not None:
            ceiling = (report.ceiling_psnr, "ceiling")
        label = f"{metric.name}, {metric.unit}" if metric.unit else metric.name
        # Errors differ by factors: on a linear axis the worst method would hide the others' differences.
        ratio = metric.best == "lowest" and min(min(of.values()) for of in values.values()) > 0
        chart = charts.strip_chart(label, values, digits(report, metric), ceiling, logarithmic=ratio)
        figures += f"<figure>{chart}</figure>"
    dot = "subject" if len(report.volumes) == len(report.subjects) else "scan"
    return (
        f"<p>Every dot is a {dot}, a faint line joins one {dot}'s scores, the bar is the mean.</p>"
        f'<div class="charts">{figures}</div>'
        f"<details><summary>All {dot}s in numbers</summary>{subject_table(report)}</details>"
    )


def _training(report: Report) -> str:
    colours = {name: index for index, name in enumerate(report.curves)}
    marks = _stages(report.curves)
    figures = ""
    for key, label, logarithmic in (
        ("loss", "Training loss", True),
        ("gamma", "Γ", False),
        ("psnr", "PSNR of the validation scans, dB", False),
    ):
        series = {name: _points(rows, key, logarithmic) for name, rows in report.curves.items()}
        series = {name: points for name, points in series.items() if points}
        if series:
            chart = charts.line_chart(label, series, colours, marks, logarithmic)
            figures += f"<figure><figcaption>{label}</figcaption>{chart}</figure>"
    if not figures:
        return ""
    figures += _gamma_against_psnr(report, colours)
    keys = "".join(
        f'<li><svg viewBox="0 0 24 4" aria-hidden="true"><path class="curve {charts.colour_class(index)}" '
        f'd="M0 2L24 2"/></svg>{escape(name)}</li>'
        for name, index in colours.items()
    )
    stages = "<p>A dashed line marks a step at which a run began its next stage.</p>" if marks else ""
    return f'{stages}<ul class="legend">{keys}</ul><div class="charts">{figures}</div>{_choices(report)}'


def _gamma_against_psnr(report: Report, colours: Mapping[str, int]) -> str:
    """Every checkpoint that has both."""
    series = {
        name: [(float(row["gamma"]), float(row["psnr"])) for row in rows if "gamma" in row and "psnr" in row]
        for name, rows in report.curves.items()
    }
    series = {name: [p for p in points if all(map(math.isfinite, p))] for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return ""
    label = "PSNR against Γ, every checkpoint"
    chart = charts.scatter_chart("Γ", "PSNR", series, colours)
    return f"<figure><figcaption>{label}</figcaption>{chart}</figure>"


def _points(rows: Sequence[Mapping[str, Any]], key: str, positive: bool) -> list[tuple[float, float]]:
    points = [(float(row["step"]), float(row[key])) for row in rows if key in row and "step" in row]
    return [(s, v) for s, v in points if abs(v) < float("inf") and (v > 0 or not positive)]


def _stages(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[float]:
    """Steps at which any run began another stage."""
    marks = set()
    for rows in curves.values():
        places = [(row["stage"], row["step"]) for row in rows if "stage" in row and "step" in row]
        marks |= {float(b[1]) for a, b in pairwise(places) if b[0] != a[0]}
    return sorted(marks)


def _choices(report: Report) -> str:
    """How well Γ ranked the checkpoints, where the reference can tell."""
    choices = {name: choice_by_gamma(rows) for name, rows in report.curves.items()}
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{choice.candidates}</td>'
        f"<td>{number(choice.rank_correlation, 2)}</td><td>{number(choice.lost, 2)}</td></tr>"
        for name, choice in choices.items()
        if choice
    )
    heads = "".join(
        f'<th scope="col">{head}</th>'
        for head in (
            "Run",
            "Checkpoints",
            "Rank correlation of Γ with PSNR",
            "Lost by choosing with Γ <small>dB</small>",
        )
    )
    return rows and (
        f'<div class="scroll"><table><caption>How well Γ chooses between checkpoints</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
