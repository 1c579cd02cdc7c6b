"""The page of an acceptance: to print on one or two sheets, and to read without a network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noref.acceptance.measure import INSERTED
from noref.acceptance.results import (
    VISIBLE,
    Pictures,
    SliceResult,
    geometric_mean,
    mean_recovery,
)
from noref.acceptance.verdict import Acceptance, Criterion
from noref.evaluation import pictures
from noref.evaluation.document import document, labels_list, resource, sections
from noref.evaluation.tables import NONE, number

PAGE = "acceptance"
"""Of the files' names."""

_ROWS = 12
"""Scans that the page lists; more are in the numbers beside it."""

_PATCH = 8
"""Pixels of a picture for each of a lesion's."""


def page(made: Acceptance, seen: Pictures) -> str:
    """The page as HTML; every text in it is escaped.

    Args:
        made: what was measured.
        seen: the slice that is shown.
    """
    contents = {
        "Verdict": _verdict(made),
        "Held-out samples": _gamma(made),
        "What was added": _added(made, seen),
        "Inserted lesions": _lesions(made, seen),
        "Measured twice": _repeats(made),
        "Beside the scanner's image": _vendor(made, seen),
        "Readers": _readers(made),
        "How to read this": _advice(),
    }
    title = f"Acceptance of {made.model}"
    few = f", {len(made.slices)} of {made.given}" if len(made.slices) < made.given else ""
    rates = sorted(one.acceleration for one in made.slices)
    head = (
        f"<header><h1>{escape(title)}</h1>{labels_list(made.labels)}"
        f"<p>{escape(made.made)}. {len(made.slices)} slices{few}, R = {rates[0]:.2f} to {rates[-1]:.2f}. No "
        "reference was used: nobody has a full scan of these.</p></header>"
    )
    style = resource("noref.acceptance", "acceptance.css")
    return document(title, head + sections(contents), style=style)


def _verdict(made: Acceptance) -> str:
    kind, rest = _class(made.verdict), escape(made.verdict.measured)
    rows = "".join(
        f'<tr><th scope="row">{escape(line.name)}</th><td>{escape(line.measured)}</td>'
        f"<td>{escape(line.threshold)}</td>"
        f'<td class="mark {_class(line)}">{line.verdict}</td>'
        f"<td><small>{escape(line.reason)}</small></td></tr>"
        for line in made.criteria
    )
    return (
        f'<p class="verdict {kind}"><b>{str(made.verdict.verdict).capitalize()}</b> <span>{rest}</span></p>'
        f'<div class="scroll"><table class="criteria"><caption>The thresholds are conventions, to be set by '
        "who is responsible; no standard names them. What was not tested does not count.</caption>"
        f"{_heads('Criterion', 'Measured', 'Threshold', 'Verdict', 'Why')}<tbody>{rows}</tbody></table></div>"
    )


def _gamma(made: Acceptance) -> str:
    names = list(made.slices[0].gamma)
    volumes: dict[str, list[SliceResult]] = {}
    for one in made.slices:
        volumes.setdefault(one.volume, []).append(one)
    rows = "".join(_gamma_row(name, of, names, made.model) for name, of in list(volumes.items())[:_ROWS])
    more = f" {len(volumes) - _ROWS} more scans are in the numbers." if len(volumes) > _ROWS else ""
    sources = ", ".join(dict.fromkeys(one.floor.source for one in made.slices))
    return (
        "<p>Γ is the normalised error on acquired samples that were held out; its floor is what the noise in "
        "these samples leaves to a perfect image.</p>"
        f'<div class="scroll"><table class="compact"><caption>Means over the slices of a scan. Noise from: '
        f"{escape(sources)}.{more}</caption>"
        f"{_heads('Scan', *names, 'Floor', 'Γ / floor')}<tbody>{rows}</tbody></table></div>"
    )


def _gamma_row(name: str, slices: Sequence[SliceResult], names: Sequence[str], model: str) -> str:
    cells = ""
    for method in names:
        value = number(fmean(one.gamma[method] for one in slices), 4)
        cells += f"<td>{f'<b>{value}</b>' if method == model else value}</td>"
    floors = [one.floor.value for one in slices if one.floor.value]
    ratios = [one.gamma[model] / one.floor.value for one in slices if one.floor.value]
    told = (number(fmean(floors), 4), number(geometric_mean(ratios), 2)) if floors else (NONE, NONE)
    return f'<tr><th scope="row">{escape(name)}</th>{cells}<td>{told[0]}</td><td>{told[1]}</td></tr>'


def _added(made: Acceptance, seen: Pictures) -> str:
    top = pictures.window(seen.images[seen.acquired])
    shown = [(seen.acquired, "acquired samples alone", seen.images[seen.acquired])]
    for name in seen.differences:
        if name != "zero-filled":
            shown.append((name, "", seen.images[name]))
            shown.append((f"{name} − {seen.acquired}", "magnitude", seen.differences[name]))
    figures = "".join(_figure(name, note, pictures.grey(image, top)) for name, note, image in shown)
    rows = ""
    for name in made.slices[0].added:
        found = [one.added[name] for one in made.slices]
        energy, unacquired, residual = (
            _mean([getattr(one, key) for one in found]) for key in ("energy", "unacquired", "residual")
        )
        rows += _row(
            made,
            name,
            (_percent(energy), _percent(unacquired), NONE if residual is None else number(residual, 2)),
        )
    return (
        f"<p>The slice in which the model does worst against wavelets, {escape(seen.id)}, in one grey scale. "
        "What was added is not an error: nobody knows what lies between the samples. At unacquired samples "
        "nothing measured contradicts it.</p>"
        f'<div class="pictures">{figures}</div><div class="scroll"><table class="compact"><caption>Means over '
        "slices, beside the image of acquired samples alone. Misfit: energy of the change to acquired samples "
        "over that of their noise; 1 is noise alone.</caption>"
        f"{_heads('Method', 'Energy added', 'of it at unacquired samples', 'Misfit to the acquired')}"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _lesions(made: Acceptance, seen: Pictures) -> str:
    every = [lesion for one in made.slices for lesion in one.lesions]
    if not every:
        return "<p>No slice has room for a lesion.</p>"
    rows = ""
    for name in made.slices[0].gamma:
        bright, dark = (mean_recovery(made.slices, name, kind) for kind in (True, False))
        cells = [NONE if one is None else number(one.contrast, 2) for one in (bright, dark)]
        there = [one for one in (bright, dark) if one is not None]
        width = _mean([one.width for one in there])
        cells += [
            NONE if width is None else number(width, 2),
            _percent(_mean([one.leakage for one in there])),
        ]
        rows += _row(made, name, cells)
    contrasts = sorted({lesion.contrast for lesion in every}, key=lambda value: (-abs(value), -value))
    hidden = sum(not lesion.counted for lesion in every)
    unseen = f" {hidden} of {len(every)} are not counted: noise hides them." if hidden else ""
    figures = ""
    for contrast in (max(seen.patches, default=0.0), min(seen.patches, default=0.0)):
        for name, values in seen.patches.get(contrast, {}).items():
            note = f"{number(100 * contrast, 0, True)} %" if name == INSERTED else ""
            figures += _figure(name, note, _signed(values, 1.25 * abs(contrast)))
    return (
        "<p>Discs of known contrast were added to the measured k-space, through the scan's maps and samples; "
        "what is shown is the difference that each makes to the image.</p>"
        f'<div class="columns"><div class="scroll"><table class="compact"><caption>{len(every)} lesions of '
        f"{escape(_listed(contrasts))}, shares of what was inserted.{unseen} Leakage: energy beyond two radii."
        f"</caption>{_heads('Method', 'Contrast, bright', 'Contrast, dark', 'Width', 'Leakage')}"
        f"<tbody>{rows}</tbody></table></div>"
        f'<div class="pictures patches" style="--n:{len(made.slices[0].gamma) + 1}">{figures}</div></div>'
    )


def _repeats(made: Acceptance) -> str:
    measured = [one for one in made.slices if one.repeats]
    if not measured:
        return ""
    rows = ""
    for name in measured[0].repeats:
        found = [one.repeats[name] for one in measured]
        difference, noise, predicted, ratio = (
            _mean([getattr(one, key) for one in found])
            for key in ("difference", "noise", "predicted", "ratio")
        )
        less = None if noise is None or difference is None else difference - noise
        told = NONE if ratio is None else number(ratio, 2)
        rows += _row(
            made, name, (_percent(difference), _percent(noise), _percent(less), told, _percent(predicted))
        )
    heads = ("Method", "Difference", "Noise alone", "Without noise", "Ratio", "Error of the other's samples")
    return (
        "<p>Two measurements of the same slice, each reconstructed; after one complex gain. What noise alone "
        "would do is what as much noise, added once more, did.</p>"
        f'<div class="scroll"><table class="compact"><caption>Energies, means over {len(measured)} slices. '
        "Last column: the error of one half's image on what the other half measured, both ways, less the noise "
        "in it.</caption>"
        f"{_heads(*heads)}<tbody>{rows}</tbody></table></div>"
    )


def _vendor(made: Acceptance, seen: Pictures) -> str:
    found = [one.vendor for one in made.slices if one.vendor is not None]
    if not found or seen.vendor is None:
        return ""
    rows = "".join(
        _row(
            made,
            name,
            [
                number(fmean(of[name] for of in column), 3)
                for column in ([one.correlation for one in found], [one.ssim for one in found])
            ],
        )
        for name in found[0].correlation
    )
    both = {"The scanner's": seen.vendor, made.model: seen.images[made.model]}
    figures = "".join(
        _figure(name, "", pictures.grey(image, pictures.window(image))) for name, image in both.items()
    )
    return (
        "<p>Not a reference: it was filtered, interpolated and corrected by means that nobody tells. "
        "Magnitudes, on the reconstruction's grid, each in its own window.</p>"
        f'<div class="columns"><div class="pictures two">{figures}</div><div class="scroll">'
        '<table class="compact"><caption>Over the object, means over slices. No threshold.</caption>'
        f"{_heads('Method', 'Correlation', 'SSIM')}<tbody>{rows}</tbody></table></div></div>"
    )


def _readers(made: Acceptance) -> str:
    if not made.seal:
        return ""
    return (
        "<p>Pictures without names and sheets to score them are in the folder readers. Keep readers-key.json "
        f"from the readers; its SHA-256 begins with <code>{made.seal[:16]}</code>. <code>noref unblind</code> "
        "joins both.</p>"
    )


def _advice() -> str:
    return (
        "<p>An accepted model predicted samples of these scans that it did not see, and gave back what was put "
        "in. That is no proof of what it does to a lesion that is not a disc, nor to other scanners, coils or "
        f"anatomies. Lesions with a signal-to-noise ratio below {VISIBLE:g} are not counted. Γ covers what the "
        "masks sample; lines that no scan holds are in none of these numbers. Noise from the border of k-space "
        "or the air is an upper bound, and the floor is then one, too.</p>"
    )


def _row(made: Acceptance, name: str, cells: Sequence[str]) -> str:
    judged = ' class="judged"' if name == made.model else ""
    return (
        f'<tr{judged}><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    )


def _heads(*names: str) -> str:
    return "<thead><tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in names) + "</tr></thead>"


def _figure(name: str, note: str, png: bytes) -> str:
    aside = f" {escape(note)}" if note else ""
    return (
        f'<figure><img src="{pictures.data_uri(png)}" alt="{escape(name)}">'
        f"<figcaption><b>{escape(name)}</b>{aside}</figcaption></figure>"
    )


def _signed(values: NDArray[Any], top: float) -> bytes:
    """PNG of values `(y, x)` from −top, black, to top, white."""
    levels = np.clip(127.5 + 127.5 * values / top, 0, 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.repeat(_PATCH, 0).repeat(_PATCH, 1)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{number(100 * share, 1)} %"


def _listed(contrasts: Sequence[float]) -> str:
    return ", ".join(f"{number(100 * contrast, 0, True)} %" for contrast in contrasts)


def _class(line: Criterion) -> str:
    return str(line.verdict).replace(" ", "-")
