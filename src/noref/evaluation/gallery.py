"""The report's pictures, as HTML: all methods side by side for the best, the median and the worst subject."""

from __future__ import annotations

from html import escape

from noref.evaluation import pictures
from noref.evaluation.results import METRICS, MethodResult, Report, extremes
from noref.evaluation.tables import digits, number


def gallery(report: Report) -> str:
    """A row of pictures for each of the method's `extremes` that has images; empty without any."""
    judge = next((r for r in report.results if r.name == report.pictured_by), report.results[-1])
    roles = extremes(judge, report.primary)
    cases = "".join(
        _case(report, role, subject, judge) for role, subject in roles.items() if subject in judge.images
    )
    if not cases:
        return ""
    return (
        "<p>One window for all pictures of a subject: white is the 99.5th percentile of the reference, or of "
        f"{escape(judge.name)} where there is no reference. Scores are of the whole volume. A click enlarges "
        f"a picture; the arrow keys then show the other methods in the same place.</p>{cases}"
    )


def _case(report: Report, role: str, subject: str, judge: MethodResult) -> str:
    reference, mask = report.references.get(subject), report.masks.get(subject)
    top = pictures.window(judge.images[subject] if reference is None else reference)
    columns = [""]
    if reference is not None:
        columns[0] += _figure("image", "Reference", "<b>Reference</b>", pictures.grey(reference, top))
    if mask is not None:
        text = f"<b>Mask</b> <span>{100 * float(mask.mean()):.0f} % sampled</span>"
        columns[0] += _figure("mask", "Mask", text, pictures.mask(mask))
    for result in report.results:
        if subject not in result.images:
            continue
        image = result.images[subject]
        text = f"<b>{escape(result.name)}</b> {_subject_scores(report, result, subject)}"
        column = _figure("image", result.name, text, pictures.grey(image, top))
        if reference is not None:
            png = pictures.error(image, reference, top)
            column += _figure("error", f"Error of {result.name}", _ERROR, png)
        columns.append(column)
    rank = f"{role} by {report.primary.name} of {judge.name}" if role != "only" else ""
    strip = "".join(f'<div class="column">{column}</div>' for column in columns if column)
    bar = _bar() if reference is not None else ""
    return (
        f'<div class="case"><h3>{escape(subject)} <small>{escape(rank)}</small></h3>'
        f'<div class="strip">{strip}</div>{bar}</div>'
    )


_ERROR = f"<span>error ×{pictures.ERROR_GAIN}</span>"


def _bar() -> str:
    uri, limit = pictures.data_uri(pictures.colour_bar()), f"{100 / pictures.ERROR_GAIN:.0f} %"
    return f'<p class="bar">Error: 0 <img src="{uri}" alt="from black to pale yellow"> {limit} of white</p>'


def _subject_scores(report: Report, result: MethodResult, subject: str) -> str:
    values = {
        metric: result.values(metric).get(subject)
        for metric in METRICS
        if metric.key in ("psnr", "ssim", "gamma")
    }
    return " ".join(
        f"<span>{metric.name} {number(value, digits(report, metric))}</span>"
        for metric, value in values.items()
        if value is not None
    )


def _figure(kind: str, name: str, caption: str, png: bytes) -> str:
    return (
        f'<figure><button type="button" data-kind="{kind}">'
        f'<img src="{pictures.data_uri(png)}" alt="{escape(name)}"></button>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
