"""Small charts as SVG for reports; colours and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

WIDTH = 520
COLOURS = 8
"""How many series the style sheet has colours for; more repeat them with dashes."""

_MOST_POINTS = 300
_LETTER = 6.6  # width of a letter at the charts' size of text, in user units


def strip_chart(
    label: str,
    scores: Mapping[str, Mapping[str, float]],
    digits: int,
    line: tuple[float, str] | None = None,
    logarithmic: bool = False,
) -> str:
    """Every subject's score, a row a method; a faint line joins the scores of one subject.

    Args:
        label: of the axis.
        scores: each method's score of each subject.
        digits: decimals of the means written at the right.
        line: a value to mark, and its name; left out where it lies far outside the scores.
        logarithmic: a logarithmic axis; all scores are positive.
    """
    values = [value for row in scores.values() for value in row.values()]
    low, high = min(values), max(values)
    if line and not low - (high - low) / 2 <= line[0] <= high + (high - low) / 2:
        line = None
    low, high = (min(low, line[0]), max(high, line[0])) if line else (low, high)
    left = 18 + _LETTER * min(26, max(map(len, scores)))
    right, top, step = WIDTH - 62, 18 if line else 6, 30
    bottom = top + step * len(scores)
    x, ticks = _axis(low, high, left + 6, right - 6, logarithmic)
    rows = {name: top + step * (i + 0.5) for i, name in enumerate(scores)}

    parts = [_text(f"{tick:g}", x(tick), bottom + 18, "middle", "tick") for tick in ticks]
    parts += [_line(x(tick), top, x(tick), bottom, "grid") for tick in ticks]
    if line:
        parts.append(_line(x(line[0]), top, x(line[0]), bottom, "mark"))
        parts.append(
            _text(line[1], x(line[0]), top - 6, "end" if x(line[0]) > WIDTH / 2 else "start", "tick")
        )
    for subject in dict.fromkeys(subject for row in scores.values() for subject in row):
        points = [(x(row[subject]), rows[name]) for name, row in scores.items() if subject in row]
        parts.append(f'<path class="pair" d="{_path(points)}"/>')
    for name, row in scores.items():
        y = rows[name]
        parts.append(_text(_short(name, 26), left - 6, y + 4, "end", "name", name))
        for subject, value in row.items():
            hint = escape(f"{name}, {subject}: {value:.{digits}f}")
            parts.append(
                f'<circle class="dot" cx="{x(value):.1f}" cy="{y}" r="4"><title>{hint}</title></circle>'
            )
        mean = sum(row.values()) / len(row)
        parts.append(_line(x(mean), y - 9, x(mean), y + 9, "mean"))
        parts.append(_text(f"{mean:.{digits}f}", WIDTH - 4, y + 4, "end", "value"))
    parts.append(_text(label, (left + right) / 2, bottom + 38, "middle", "label"))
    return _svg(parts, bottom + 46, f"{label} of every subject, by method")


def line_chart(
    label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    colours: Mapping[str, int],
    marks: Sequence[float] = (),
    logarithmic: bool = False,
) -> str:
    """Curves over optimiser steps; long ones are averaged down to 300 points.

    Args:
        label: of the vertical axis.
        series: points `(step, value)` of each run, at least one in all; values are positive if `logarithmic`.
        colours: each run's place in the style sheet's colours.
        marks: steps to mark, such as those where a stage begins.
        logarithmic: a logarithmic vertical axis.
    """
    curves = {name: _thinned(points) for name, points in series.items() if len(points)}
    every = np.concatenate([np.array(points) for points in curves.values()])
    (first, low), (last, high) = every.min(0), every.max(0)
    left, right, top, bottom = 58, WIDTH - 14, 10, 236
    x, across = _axis(first, last, left, right)
    y, up = _axis(low, high, bottom, top, logarithmic)
    parts = [_text(_steps(tick), x(tick), bottom + 18, "middle", "tick") for tick in across]
    for tick in up:
        parts.append(_line(left, y(tick), right, y(tick), "grid"))
        parts.append(_text(f"{tick:g}", left - 8, y(tick) + 4, "end", "tick"))
    parts += [_line(x(mark), top, x(mark), bottom, "mark") for mark in marks if first <= mark <= last]
    for name, points in curves.items():
        placed = [(x(step), y(value)) for step, value in points]
        look = f'class="curve {colour_class(colours[name])}"'
        title = f"<title>{escape(name)}</title>"
        if len(placed) == 1:
            parts.append(
                f'<circle {look} cx="{placed[0][0]:.1f}" cy="{placed[0][1]:.1f}" r="2">{title}</circle>'
            )
        else:
            parts.append(f'<path {look} d="{_path(placed)}">{title}</path>')
    parts.append(_text("step", (left + right) / 2, bottom + 38, "middle", "label"))
    return _svg(parts, bottom + 46, f"{label} over the steps of {', '.join(curves)}")


def scatter_chart(
    across: str,
    up: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    colours: Mapping[str, int],
) -> str:
    """Points of two quantities, a colour a run.

    Args:
        across: label of the horizontal axis.
        up: label of the vertical axis.
        series: points of each run, at least one in all.
        colours: each run's place in the style sheet's colours.
    """
    every = np.concatenate([np.array(points) for points in series.values() if len(points)])
    (first, low), (last, high) = every.min(0), every.max(0)
    left, right, top, bottom = 58, WIDTH - 14, 10, 236
    x, ticks = _axis(first, last, left, right)
    y, levels = _axis(low, high, bottom, top)
    parts = [_text(f"{tick:g}", x(tick), bottom + 18, "middle", "tick") for tick in ticks]
    for level in levels:
        parts.append(_line(left, y(level), right, y(level), "grid"))
        parts.append(_text(f"{level:g}", left - 8, y(level) + 4, "end", "tick"))
    for name, points in series.items():
        look = f'class="curve {colour_class(colours[name])}"'
        parts += [
            f'<circle {look} cx="{x(a):.1f}" cy="{y(b):.1f}" r="1.5"><title>{escape(name)}</title></circle>'
            for a, b in points
        ]
    parts.append(_text(across, (left + right) / 2, bottom + 38, "middle", "label"))
    return _svg(parts, bottom + 46, f"{up} against {across} of {', '.join(series)}")


def colour_class(index: int) -> str:
    """The style sheet's classes for the series of this index."""
    return f"c{index % COLOURS}" + (" dashed" if index // COLOURS % 2 else "")


def linear_ticks(low: float, high: float) -> list[float]:
    """A few round numbers, 1, 2 or 5 times a power of ten apart, that span low to high."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 6))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 6)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, digits) for index in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with their double and fivefold over less than two decades, that span low to high."""
    factors = (1, 2, 5) if high / low < 100 else (1,)
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [float(f"{factor}e{exponent}") for exponent in exponents for factor in factors]
    first = max(index for index, tick in enumerate(ticks) if tick <= low)
    last = min(index for index, tick in enumerate(ticks) if tick >= high and index > first)
    return ticks[first : last + 1]


def _axis(
    low: float, high: float, start: float, end: float, logarithmic: bool = False
) -> tuple[Callable[[float], float], list[float]]:
    """Where a value is drawn between `start` and `end`, and the ticks, which span low to high."""
    ticks = log_ticks(low, high) if logarithmic else linear_ticks(low, high)
    low, high = ticks[0], ticks[-1]
    if logarithmic:
        return lambda value: start + (end - start) * math.log(value / low) / math.log(high / low), ticks
    return lambda value: start + (end - start) * (value - low) / (high - low), ticks


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    pieces = np.array_split(np.array(points, dtype=float), min(len(points), _MOST_POINTS))
    return [(step, value) for step, value in (piece.mean(0) for piece in pieces)]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(text: str, x: float, y: float, anchor: str, kind: str, hint: str = "") -> str:
    title = f"<title>{escape(hint)}</title>" if hint not in ("", text) else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}{title}</text>'


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _steps(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


def _svg(parts: Sequence[str], height: float, description: str) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(description)}">{body}</svg>'
