"""The results as a page of the docs."""

from __future__ import annotations

from statistics import median

from .measure import Measured, Result, Three
from .results import Results
from .row import GRAPH, Row
from .rows import ROWS

LIMIT = "convolutions alone"
"""How the names of sides begin that are no one's code."""

HEAD = """\
# Speed

Written by `make bench`. Every row is the same work for noref and for every peer that can be installed, in
processes of their own that take turns, A B A B: same data, same sizes, and the same weights where a peer's
can be copied; what then comes out agrees to each row's tolerance, in brackets after the difference, in
float32. A difference is `max |a − b| / max |a|`; that of ESPIRiT's maps is the relative rms where both have
maps, after every pixel's phase is aligned. Figures are the median and, in brackets, the quartiles over the
turns. CPU time is that of all threads, and suffers less than wall time from whatever else the machine does.
Memory is the peak over what imports take. A ratio is a side's CPU time over noref's, formed turn by turn:
above 1, noref is faster. All sides keep freed memory as noref's commands do. bf16 is never compared with
float32 of peers.

*Convolutions alone* are those of a step, forwards and backwards, same shapes and nothing between them, each
in the faster memory format: the least that a step can take. A *step* of training is a pass forwards, the mean
absolute error of the images, and its gradient, without the optimiser, for one slice of 256×256 and 8 coils.

*Recorded elsewhere* are figures of two cores of an AMD Zen 5 with PyTorch 2.13. DIRECT and the authors' code
of ISTA-Net+ cannot be installed beside the others; theirs are such figures only. A difference of outputs is
told where other weights or algorithms meet, too.

Outputs of untrained networks in bf16 do not tell what bf16 costs, for an untrained vSHARP is ill-conditioned:
with 8 × 6 steps and 1-D masks its output changes by 0.35 in bf16, but by 0.22 in float32, too, when only the
weights are rounded to bf16, and by 0.10 when the samples get relative noise of 2⁻⁹, which is bf16's rounding.
How well networks trained in bf16 reconstruct is told in [recipes.md](recipes.md).
"""


GPU = """\
## On a GPU

Wall times between the device's events; memory as allocated, which a graph holds while it exists. noref's
times are those of CUDA graphs, as training replays them: a graph launches all of a step's operators at once.
The same step launched operator by operator stands beside it, and so launch peers. Convolutions alone are a
graph, too. float32 convolutions round their factors to TF32, as PyTorch does by default, on all sides; the
outputs that are compared are computed without.
"""

_SKIPPED = Measured(skipped="not measured")


def number(value: float) -> str:
    """Three digits, or all before the point."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}"


def spread(values: Three, rounds: int) -> str:
    """Median and quartiles, which one turn has not."""
    low, middle, high = map(number, values)
    return f"{middle} [one turn]" if rounds == 1 else f"{middle} [{low}–{high}]"


def factor(results: Results) -> float | None:
    """How much longer this machine takes than the recorded ones: the median over peers, None without any."""
    found = [
        result.sides[peer].cpu[1] / time  # type: ignore[index] # timed ones
        for name, result in results.rows.items()
        if name in ROWS
        for peer, time in ROWS[name].recorded.items()
        if peer in result.sides and not result.sides[peer].skipped
    ]
    return median(found) if found else None


def multiple(result: Result, side: str) -> float | None:
    """A noref step as a multiple of its convolutions alone."""
    for other, measured in result.sides.items():
        if other.startswith(LIMIT) and measured.versus == side and measured.ratio:
            return 1 / measured.ratio[1]
    return None


def render(cpu: Results, cuda: Results | None = None) -> str:
    """The page."""
    parts = [HEAD, _place(cpu), _summary(cpu)]
    parts += [_details(ROWS[name], cpu.rows[name], "cpu") for name in ROWS if name in cpu.rows]
    if cuda is not None and cuda.rows:
        parts.append(GPU)
        parts += [_place(cuda), _summary(cuda)]
        parts += [_details(ROWS[name], cuda.rows[name], "cuda") for name in ROWS if name in cuda.rows]
        if cuda.profile:
            parts.append(_profile(cuda))
    return "\n".join(parts)


def _place(results: Results) -> str:
    known = ", ".join(
        f"{name} {version}" for name, version in results.versions.items() if version != "absent"
    )
    absent = [name for name, version in results.versions.items() if version == "absent"]
    lines = [f"Measured on {results.machine}, with noref {results.noref}, {known}."]
    if absent:
        lines.append(f"Not installed, and skipped: {', '.join(absent)}.")
    return "\n\n".join(["\n".join(lines), *results.remarks]) + "\n"


def _time(measured: Measured, device: str) -> Three | None:
    return measured.wall if device == "cuda" else measured.cpu


def _summary(results: Results) -> str:
    slower = factor(results) if results.device == "cpu" else None
    lines = ["## Overview", ""] if results.device == "cpu" else []
    lines += [
        f"| work | noref, ms {'wall' if results.device == 'cuda' else 'CPU'} | MiB | × convolutions "
        "| bf16, ms | peers, ms (ratio) | wanted |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for name, row in ROWS.items():
        if name not in results.rows:
            continue
        result = results.rows[name]
        ours = _best(row.sides[0].name, result)
        measured, half = result.sides[ours], result.sides.get(_best(f"{row.sides[0].name}, bf16", result))
        time = _time(measured, results.device)
        if time is None:
            lines.append(f"| {row.title} | {measured.skipped} |  |  |  |  |  |")
            continue
        half_time = _time(half, results.device) if half else None
        times = multiple(result, ours)
        cells = (
            row.title,
            f"**{number(time[1])}**",
            number(measured.peak or 0),
            f"{times:.2f}" if times else "",
            number(half_time[1]) if half_time else "",
            "; ".join(_peer(other, result, results.device) for other in _peers(row, result)),
            _wanted(row, slower) if results.device == "cpu" else "",
        )
        lines.append("| " + " | ".join(cells) + " |")
    if slower is not None:
        lines.append("")
        lines.append(
            "Wanted times are those of the machine that the peers' recorded figures come from; in brackets "
            f"what they are here, where peers take {slower:.2f} times as long as recorded (median)."
        )
    return "\n".join(lines) + "\n"


def _best(side: str, result: Result) -> str:
    """A side's CUDA graph where it was measured, as training replays it."""
    return side + GRAPH if result.sides.get(side + GRAPH, _SKIPPED).wall else side


def _peers(row: Row, result: Result) -> list[str]:
    return [
        name
        for name in result.sides
        if not name.startswith((row.sides[0].name, LIMIT)) or result.sides[name].skipped
    ]


def _peer(name: str, result: Result, device: str) -> str:
    measured = result.sides[name]
    time = _time(measured, device)
    if time is None or measured.ratio is None:
        return f"{name} skipped"
    return f"{name} {number(time[1])} ({measured.ratio[1]:.2f}×)"


def _wanted(row: Row, slower: float | None) -> str:
    if row.target is None:
        return row.aim
    here = f" ({number(row.target * slower)})" if slower else ""
    return f"≤ {number(row.target)}{here}" + (f"; {row.aim}" if row.aim else "")


def _details(row: Row, result: Result, device: str) -> str:
    load = "–".join(map(str, result.load))
    turns = "one turn" if result.rounds == 1 else f"{result.rounds} turns"
    tolerances = {side.name: side.tolerance for side in row.sides}
    lines = [
        f"### {row.title}",
        "",
        f"`{row.name}`, {result.date} UTC, {turns}, load average {load}.",
        "",
        "| | CPU ms | wall ms | MiB | ratio | difference | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, measured in result.sides.items():
        if measured.skipped or measured.cpu is None or measured.wall is None:
            lines.append(f"| {name} | skipped |  |  |  |  | {measured.skipped} |")
            continue
        ratio = ""
        if measured.ratio:
            low, middle, high = measured.ratio
            ratio = f"{middle:.2f}×" + ("" if result.rounds == 1 else f" [{low:.2f}–{high:.2f}]")
        difference = _difference(measured, tolerances.get(name))
        note = measured.note
        if measured.parameters:
            note = "; ".join(filter(None, (f"{measured.parameters:,} parameters", note)))
        peak = "" if measured.peak is None or name.startswith(LIMIT) else number(measured.peak)
        times = (spread(time, result.rounds) for time in (measured.cpu, measured.wall))
        cells = (name, *times, peak, ratio, difference, note)
        lines.append("| " + " | ".join(cells) + " |")
    for peer, time in row.recorded.items() if device == "cpu" else ():
        lines.append(f"| {peer}, recorded elsewhere | {number(time)} |  |  |  |  |  |")
    return "\n".join(lines) + "\n"


def _difference(measured: Measured, tolerance: float | None) -> str:
    """The difference of outputs, and what it may be."""
    if measured.difference is None:
        return ""
    told = f"{measured.difference:.1e}"
    if tolerance is not None:
        told += f" (≤ {tolerance:.0e})"
    return f"**{told}, too much**" if measured.agrees is False else told


def _profile(results: Results) -> str:
    lines = ["### Where the paper-size vSHARP step spends its time", "", "| operator | calls | ms |"]
    lines += ["|---|---:|---:|"]
    lines += [f"| `{name}` | {calls} | {number(time)} |" for name, calls, time in results.profile]
    return "\n".join(lines) + "\n"
