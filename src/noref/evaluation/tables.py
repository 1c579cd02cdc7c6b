"""The report's tables and the sentence above them, as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from noref.evaluation.compare import FEWEST_SUBJECTS, Difference, choice_by_gamma
from noref.evaluation.results import METRICS, Metric, Report, Summary, summarise

NONE = '<span class="none">–</span>'
_ARROWS = {
    "highest": ' <small title="higher is better">↑</small>',
    "lowest": ' <small title="lower is better">↓</small>',
}


def digits(report: Report, metric: Metric) -> int:
    """Decimals of a metric: its own, or those that leave the smallest mean two digits."""
    if metric.digits is not None:
        return metric.digits
    summaries = [summarise(result.values(metric)) for result in report.results]
    means = [abs(summary.mean) for summary in summaries if summary and summary.mean]
    return min(7, max(0, 1 - math.floor(math.log10(min(means))))) if means else 2


def score_table(report: Report) -> str:
    """Methods × metrics, mean ± standard deviation over subjects, the best of each column marked."""
    compared = report.differences(report.primary)
    heads = "".join(_head(metric.name, metric.unit, _ARROWS.get(metric.best or "", "")) for metric in METRICS)
    if report.baseline is not None:
        heads += _head(f"Δ {report.primary.name}", f"against {report.baseline}")
    heads += "".join(_head(column.name, column.note) for column in report.columns)
    columns = [_column(report, metric) for metric in METRICS]
    rows = ""
    for result in report.results:
        cells = "".join(column[result.name] for column in columns)
        if result.name == report.baseline:
            cells += '<td data-value="0"><span class="none">baseline</span></td>'
        elif report.baseline is not None:
            cells += _delta(compared.get(result.name), digits(report, report.primary))
        for further in report.columns:
            text = further.cells.get(result.name)
            cells += f"<td>{NONE if text is None else escape(text)}</td>"
        rows += f'<tr><th scope="row">{escape(result.name)}</th>{cells}</tr>'
    return (
        f'<div class="scroll"><table class="sortable"><caption>{_caption(report)}</caption>'
        f"<thead><tr>{_head('Method')}{heads}</tr></thead><tbody>{rows}</tbody>{_ceiling(report)}</table></div>"
    )


def subject_table(report: Report) -> str:
    """Subjects × methods: the metric that methods are compared by."""
    metric = report.primary
    values = {result.name: result.values(metric) for result in report.results}
    places = digits(report, metric)
    rows = ""
    for subject in report.volumes:
        cells = "".join(_value_cell(of.get(subject), places) for of in values.values())
        rows += f'<tr><th scope="row">{escape(subject)}</th>{cells}</tr>'
    heads = "".join(_head(name) for name in values)
    unit = f", {metric.unit}" if metric.unit else ""
    return (
        f'<div class="scroll"><table class="sortable"><caption>{metric.name}{unit}</caption>'
        f"<thead><tr>{_head('Subject')}{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def pair_table(pairs: Mapping[str, str]) -> str:
    """Names and values; empty without any."""
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in pairs.items())
    return f'<div class="scroll"><table class="pairs"><tbody>{rows}</tbody></table></div>' if rows else ""


def lead(report: Report) -> str:
    """What the table says, in words; claims no more than the number of subjects allows."""
    metric = report.primary
    means = {name: summary.mean for name, summary in _comparable(report, metric).items()}
    text = ""
    if metric.key == "gamma":
        text = "No reference exists for these scans: methods are compared by Γ alone. "
    if len(means) > 1:
        best = _best(metric, means)
        value = f"{number(means[best], digits(report, metric))}{_unit(metric)}"
        over = "one subject" if len(report.volumes) == 1 else f"the mean over {_count(report)}"
        text += f"<strong>{escape(best)}</strong> has the {metric.best} {metric.name}: {value}, {over}"
        difference = report.differences(metric).get(best)
        text += f"; {_in_words(report, metric, difference)}. " if difference else ". "
    text += _by_gamma(report)
    if report.descriptive:
        few = f"With fewer than {FEWEST_SUBJECTS} subjects"
        text += f"As {report.untested}" if report.untested else few
        text += ", intervals are descriptive and no significance is claimed."
    return f'<p class="lead">{text}</p>' if text else ""


def _by_gamma(report: Report) -> str:
    """Which method one would have taken without references, where there are some to tell."""
    psnr, gamma = (next(metric for metric in METRICS if metric.key == key) for key in ("psnr", "gamma"))
    good, held_out = _comparable(report, psnr), _comparable(report, gamma)
    both = {
        name: {"psnr": good[name].mean, "gamma": held_out[name].mean} for name in good if name in held_out
    }
    choice = choice_by_gamma(list(both.values()))
    if choice is None:
        return ""
    chosen = min(both, key=lambda name: both[name]["gamma"])
    behind = f"{number(choice.lost, 2)} dB below the best" if choice.lost > 0 else "the best by PSNR, too"
    return (
        f"Of the {choice.candidates} methods with both, Γ, which needs no reference, would have chosen "
        f"{escape(chosen)}, {behind}; its rank correlation with PSNR is "
        f"{number(choice.rank_correlation, 2)}. "
    )


def _in_words(report: Report, metric: Metric, difference: Difference) -> str:
    places = digits(report, metric)
    ends = difference.low, difference.high
    if ends[0] > 0 or ends[1] < 0:
        ends = min(map(abs, ends)), max(map(abs, ends))
    interval = f"{number(ends[0], places)} to {number(ends[1], places)}"
    direction = "above" if difference.mean >= 0 else "below"
    size = (
        f"{number(abs(difference.mean), places)}{_unit(metric)} {direction} {escape(report.baseline or '')}"
    )
    if difference.subjects == 1:
        return size
    if difference.p is None:
        return f"{size} ({interval} over the subjects)"
    return f"{size} (95 % interval {interval}; {_p(difference.p)})"


def number(value: float, places: int, signed: bool = False) -> str:
    """A number as it is printed, with a true minus sign, and none before zero."""
    return f"{round(value, places) + 0.0:{'+' if signed else ''}.{places}f}".replace("-", "−")


def percent(share: float) -> str:
    """A share as it is printed, in whole per cent."""
    return f"{number(100 * share, 0)}%"


def _count(report: Report) -> str:
    volumes, subjects = len(report.volumes), len(report.subjects)
    people = "one subject" if subjects == 1 else f"{subjects} subjects"
    return people if volumes == subjects else f"{volumes} scans of {people}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _unit(metric: Metric) -> str:
    return f" {metric.unit}" if metric.unit else ""


def _head(name: str, small: str = "", mark: str = "") -> str:
    extra = f" <small>{escape(small)}</small>" if small else ""
    return f'<th scope="col">{escape(name)}{extra}{mark}</th>'


def _value_cell(value: float | None, places: int) -> str:
    return f"<td>{NONE}</td>" if value is None else f'<td data-value="{value!r}">{number(value, places)}</td>'


def _comparable(report: Report, metric: Metric) -> dict[str, Summary]:
    """Summaries of the methods that were scored on every subject that any was: means of the same things."""
    values = {result.name: result.values(metric) for result in report.results}
    scored = {subject for of in values.values() for subject in of}
    summaries = {name: summarise(of) for name, of in values.items() if of.keys() == scored}
    return {name: summary for name, summary in summaries.items() if summary}


def _best(metric: Metric, means: Mapping[str, float]) -> str:
    return (max if metric.best == "highest" else min)(means, key=means.__getitem__)


def _column(report: Report, metric: Metric) -> dict[str, str]:
    places = digits(report, metric)
    comparable = {name: summary.mean for name, summary in _comparable(report, metric).items()}
    marked = metric.best is not None and len(comparable) > 1
    best = number(comparable[_best(metric, comparable)], places) if marked else ""
    cells = {}
    for result in report.results:
        summary = summarise(result.values(metric))
        cells[result.name] = _score_cell(
            summary, len(report.volumes), places, best if result.name in comparable else ""
        )
    return cells


def _score_cell(summary: Summary | None, volumes: int, places: int, best: str) -> str:
    if summary is None:
        return f"<td>{NONE}</td>"
    shown = number(summary.mean, places)
    if shown == best:
        shown = f'<strong>{shown}<span class="sr"> (best)</span></strong>'
    spread = f" <small>± {number(summary.sd, places)}</small>" if summary.sd is not None else ""
    partial = f" <small>{summary.volumes} of {volumes}</small>" if summary.volumes < volumes else ""
    return f'<td data-value="{summary.mean!r}">{shown}{spread}{partial}</td>'


def _caption(report: Report) -> str:
    if len(report.volumes) == 1:
        return "One subject."
    text = f"Mean ± standard deviation over {_count(report)}."
    if report.baseline is not None:
        spread = "smallest and largest" if report.descriptive else "95 % bootstrap interval"
        text += f" Δ: paired differences, their mean and {spread}"
        text += "." if report.descriptive else "; p: Wilcoxon signed-rank, Holm-corrected."
    return text


def _ceiling(report: Report) -> str:
    if report.ceiling_psnr is None:
        return ""
    rest = "<td></td>" * (len(METRICS) - 1 + (report.baseline is not None) + len(report.columns))
    name = "Ceiling <small>a perfect reconstruction against this noisy reference</small>"
    return f'<tfoot><tr><th scope="row">{name}</th><td>{report.ceiling_psnr:.2f}</td>{rest}</tr></tfoot>'


def _delta(difference: Difference | None, places: int) -> str:
    if difference is None:
        return f"<td>{NONE}</td>"
    spread = ""
    if difference.subjects > 1:
        p = f", {_p(difference.p)}" if difference.p is not None else ""
        ends = f"{number(difference.low, places, True)} to {number(difference.high, places, True)}"
        spread = f" <small>{ends}{p}</small>"
    return f'<td data-value="{difference.mean!r}">{number(difference.mean, places, True)}{spread}</td>'
