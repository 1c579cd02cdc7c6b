from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from noref.evaluation import charts


def numbers(element: ElementTree.Element, *names: str) -> tuple[float, ...]:
    return tuple(float(element.attrib[name]) for name in names)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_linear_ticks_are_round_and_span_the_values(low: float, span: float) -> None:
    assume(span > 1e-9 * abs(low))
    ticks = charts.linear_ticks(low, low + span)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= low + span - 1e-6 * step
    assert float(f"{step:.0e}") == pytest.approx(step, rel=1e-3)
    assert f"{step:.0e}"[0] in "125"


@given(st.floats(1e-9, 1e6), st.floats(1, 1e6))
def test_log_ticks_span_the_values(low: float, factor: float) -> None:
    ticks = charts.log_ticks(low, low * factor)
    assert len(ticks) >= 2
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= low
    assert ticks[-1] >= low * factor


def test_strip_chart_places_scores() -> None:
    scores = {"one": {"a": 10.0, "b": 20.0}, "two": {"a": 15.0, "c": 30.0}}
    svg = ElementTree.fromstring(charts.strip_chart("PSNR", scores, 2, (25.0, "ceiling")))
    dots = {d.find("title").text: numbers(d, "cx", "cy") for d in svg.iter("circle")}  # type: ignore[union-attr]
    assert dots.keys() == {"one, a: 10.00", "one, b: 20.00", "two, a: 15.00", "two, c: 30.00"}
    (x10, y1), (x20, _), (x15, y2), (x30, _) = dots.values()
    assert x15 == pytest.approx((x10 + x20) / 2, abs=0.1)
    assert x30 - x20 == pytest.approx(x20 - x10, abs=0.2)
    assert y2 > y1
    lines = {kind: [e for e in svg.iter("line") if e.get("class") == kind] for kind in ("mean", "mark")}
    assert [numbers(e, "x1")[0] for e in lines["mean"]] == pytest.approx([x15, (x15 + x30) / 2], abs=0.1)
    assert numbers(lines["mark"][0], "x1")[0] == pytest.approx((x20 + x30) / 2, abs=0.2)
    joined = [e.attrib["d"] for e in svg.iter("path")]
    assert joined[0] == f"M{x10:.1f} {y1:.1f}L{x15:.1f} {y2:.1f}"


def test_a_far_ceiling_does_not_squeeze_the_scores() -> None:
    svg = charts.strip_chart("PSNR", {"m": {"a": 30.0, "b": 31.0}}, 2, (60.0, "ceiling"))
    assert "ceiling" not in svg


@pytest.mark.parametrize("logarithmic", [False, True])
def test_one_value_can_be_drawn(logarithmic: bool) -> None:
    strip = charts.strip_chart("Γ", {"m": {"a": 0.3}}, 2, logarithmic=logarithmic)
    line = charts.line_chart("Γ", {"m": [(0, 0.3)]}, {"m": 0}, logarithmic=logarithmic)
    for svg in (strip, line):
        x, y = numbers(next(ElementTree.fromstring(svg).iter("circle")), "cx", "cy")
        assert 0 <= x <= charts.WIDTH
        assert y >= 0


def test_a_power_law_is_straight_on_a_logarithmic_axis() -> None:
    points = [(step, 10.0 ** (-step / 50)) for step in range(101)]
    svg = ElementTree.fromstring(
        charts.line_chart("loss", {"run": points}, {"run": 0}, [50], logarithmic=True)
    )
    drawn = next(e for e in svg.iter("path")).attrib["d"]
    places = [tuple(map(float, pair.split())) for pair in re.split("[ML]", drawn)[1:]]
    assert len(places) == 101
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(places[::20], places[20::20], strict=False)]
    assert slopes == pytest.approx([slopes[0]] * len(slopes), rel=0.01)
    marks = [e for e in svg.iter("line") if e.get("class") == "mark"]
    assert numbers(marks[0], "x1")[0] == pytest.approx(places[50][0], abs=0.1)


def test_long_curves_are_averaged() -> None:
    points = [(step, 1 + (-1) ** step) for step in range(30_000)]
    svg = ElementTree.fromstring(charts.line_chart("loss", {"run": points}, {"run": 9}))
    path = next(svg.iter("path"))
    heights = {pair.split()[1] for pair in re.split("[ML]", path.attrib["d"])[1:]}
    assert len(heights) == 1  # of the mean; the oscillation is gone
    assert path.attrib["class"] == "curve c1 dashed"
    assert all(math.isfinite(float(height)) for height in heights)


def test_names_are_escaped() -> None:
    svg = ElementTree.fromstring(charts.strip_chart("<Γ>", {'<m> & "n"': {"<s>": 1.0}}, 2))
    assert svg.attrib["aria-label"] == "<Γ> of every subject, by method"
    assert '<m> & "n"' in "".join(svg.itertext())
