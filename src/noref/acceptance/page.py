"""The page of an acceptance: to print on one or two sheets, and to read without a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import fmean

from noref.acceptance.markup import change, figure, mean, percent, plain, row, signed, table
from noref.acceptance.measure import INSERTED
from noref.acceptance.results import VISIBLE, Pictures, SliceResult, geometric_mean, mean_recovery
from noref.acceptance.verdict import Acceptance, Criterion
from noref.evaluation import pictures
from noref.evaluation.document import document, labels_list, resource, sections
from noref.evaluation.tables import NONE, number

PAGE = "acceptance"
"""Of the files' names."""

_ROWS = 12
"""Scans that the page lists; more are in the numbers beside it."""

_CONVENTIONS = (
    "The thresholds are conventions, to be set by who is responsible; no standard names them. What was "
    "not tested does not count."
)
_GAMMA = (
    "Γ is the normalised error on acquired samples that were held out; its floor is what the noise in "
    "them leaves to a perfect image."
)
_ADDED = (
    "What was added is not an error: nobody knows what lies between the samples. At unacquired samples "
    "nothing measured contradicts it."
)
_MISFIT = (
    "Means over slices, beside the image of acquired samples alone. Misfit: energy of the change to "
    "acquired samples over that of their noise; 1 is noise alone."
)
_LESIONS = (
    "Discs of known contrast were added to the measured k-space, through the scan's maps and samples. "
    "Shown is the difference that each makes to the image."
)
_TWICE = (
    "Two measurements of the same slice, each reconstructed, after one complex gain. What noise alone "
    "would do is what as much noise did, added once more."
)
_OTHER_HALF = (
    "Last column: the error of one half's image on what the other half measured, both ways, less the "
    "noise in it."
)
_VENDOR = (
    "Not a reference: it was filtered, interpolated and corrected by means that nobody tells. Magnitudes,"
    " on the reconstruction's grid, each in its own window."
)
_ADVICE = (
    "An accepted model predicted samples of these scans that it did not see, and gave back what was put "
    "in. That is no proof of what it does to a lesion that is no disc, nor for other scanners, coils or "
    f"anatomies. Lesions with a signal-to-noise ratio below {VISIBLE:g} are not counted. Γ covers what the"
    " masks sample: lines that no scan holds are in none of these numbers. Noise from the border of "
    "k-space or from air is an upper bound, and the floor is one then, too."
)


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
        "How to read this": f"<p>{_ADVICE}</p>",
    }
    title = f"Acceptance of {made.model}"
    rates = sorted(one.acceleration for one in made.slices)
    rate = f"{rates[0]:.2f}" + (f" to {rates[-1]:.2f}" if rates[-1] - rates[0] >= 0.005 else "")
    head = (
        f"<header><h1>{escape(title)}</h1>{labels_list(made.labels)}<p>{escape(made.made.capitalize())}; "
        f"{_count(made)}, R = {rate}. No reference was used.</p></header>"
    )
    style = resource("noref.acceptance", "acceptance.css")
    return document(title, head + sections(contents), style=style)


def _verdict(made: Acceptance) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(line.name)}</th><td>{escape(line.measured)}</td>'
        f'<td>{escape(line.threshold)}</td><td class="mark {_class(line)}">{line.verdict}</td>'
        f"<td><small>{escape(line.reason)}</small></td></tr>"
        for line in made.criteria
    )
    heads = ("Criterion", "Measured", "Threshold", "Verdict", "Why")
    return (
        f'<p class="verdict {_class(made.verdict)}"><b>{str(made.verdict.verdict).capitalize()}</b> '
        f"<span>{escape(made.verdict.measured)}</span></p>{table(_CONVENTIONS, heads, rows, 'criteria')}"
    )


def _gamma(made: Acceptance) -> str:
    names = list(made.slices[0].gamma)
    volumes: dict[str, list[SliceResult]] = {}
    for one in made.slices:
        volumes.setdefault(one.volume, []).append(one)
    rows = "".join(_gamma_row(name, of, names, made.model) for name, of in list(volumes.items())[:_ROWS])
    more = f" {len(volumes) - _ROWS} more scans are in the numbers." if len(volumes) > _ROWS else ""
    sources = ", ".join(dict.fromkeys(one.floor.source for one in made.slices))
    caption = f"Means over the slices of a scan. Noise from: {sources}.{more}"
    return f"<p>{_GAMMA}</p>{table(caption, ('Scan', *names, 'Floor', 'Γ / floor'), rows)}"


def _gamma_row(name: str, slices: Sequence[SliceResult], names: Sequence[str], model: str) -> str:
    values = {method: number(fmean(one.gamma[method] for one in slices), 4) for method in names}
    values[model] = f"<b>{values[model]}</b>"
    floors = [one.floor.value for one in slices if one.floor.value]
    ratios = [one.gamma[model] / one.floor.value for one in slices if one.floor.value]
    ratio = number(geometric_mean(ratios), 2) if ratios else NONE
    return row(_short(name), [*values.values(), plain(mean(floors), 4), ratio])


def _added(made: Acceptance, seen: Pictures) -> str:
    top = pictures.window(seen.images[seen.acquired])
    shown = [(seen.acquired, "acquired samples alone", seen.images[seen.acquired])]
    for name, difference in seen.differences.items():
        if name != "zero-filled":
            shown.append((name, "", seen.images[name]))
            shown.append((f"{name} − {seen.acquired}", "magnitude", difference))
    figures = "".join(figure(name, note, pictures.grey(image, top)) for name, note, image in shown)
    rows = ""
    for name in made.slices[0].added:
        found = [one.added[name] for one in made.slices]
        cells = (
            percent(mean([one.energy for one in found])),
            percent(mean([one.unacquired for one in found])),
            plain(mean([one.residual for one in found])),
        )
        rows += row(name, cells, name == made.model)
    heads = ("Method", "Energy added", "of it at unacquired samples", "Misfit to the acquired")
    where = escape(_short(seen.id))
    return (
        f"<p>Where the model does worst against wavelets, in {where}, in one grey scale. {_ADDED}</p>"
        f'<div class="pictures">{figures}</div>{table(_MISFIT, heads, rows)}'
    )


def _lesions(made: Acceptance, seen: Pictures) -> str:
    every = [lesion for one in made.slices for lesion in one.lesions]
    if not every:
        return "<p>No slice has room for a lesion.</p>"
    names, rows = list(made.slices[0].gamma), ""
    for name in names:
        kinds = [mean_recovery(made.slices, name, bright) for bright in (True, False)]
        there = [one for one in kinds if one is not None]
        cells = [plain(None if one is None else one.contrast) for one in kinds]
        cells.append(plain(mean([one.width for one in there])))
        cells.append(percent(mean([one.leakage for one in there])))
        rows += row(name, cells, name == made.model)
    figures = ""
    for contrast in dict.fromkeys((max(seen.patches, default=0.0), min(seen.patches, default=0.0))):
        for name, values in seen.patches.get(contrast, {}).items():
            note = change(contrast) if name == INSERTED else ""
            figures += figure(name, note, signed(values, 1.25 * abs(contrast)))
    contrasts = sorted({lesion.contrast for lesion in every}, key=lambda value: (-abs(value), -value))
    hidden = sum(not lesion.counted for lesion in every)
    caption = (
        f"{len(every)} lesions of {', '.join(map(change, contrasts))}; shares of what was inserted. "
        f"{f'Not counted, as noise hides them: {hidden}. ' if hidden else ''}"
        "Leakage: energy beyond two radii."
    )
    heads = ("Method", "Contrast, bright", "Contrast, dark", "Width", "Leakage")
    return (
        f'<p>{_LESIONS}</p><div class="columns">{table(caption, heads, rows)}'
        f'<div class="pictures patches" style="--n:{len(names) + 1}">{figures}</div></div>'
    )


def _repeats(made: Acceptance) -> str:
    measured = [one for one in made.slices if one.repeats]
    if not measured:
        return ""
    rows = ""
    for name in measured[0].repeats:
        found = [one.repeats[name] for one in measured]
        difference, noise = mean([one.difference for one in found]), mean([one.noise for one in found])
        cells = (
            percent(difference),
            percent(noise),
            percent(None if difference is None or noise is None else difference - noise),
            plain(mean([one.ratio for one in found])),
            percent(mean([one.predicted for one in found])),
        )
        rows += row(name, cells, name == made.model)
    heads = ("Method", "Difference", "Noise alone", "Less noise", "Ratio", "Error on the other's samples")
    caption = f"Energies, means over {len(measured)} slices. {_OTHER_HALF}"
    return f"<p>{_TWICE}</p>{table(caption, heads, rows)}"


def _vendor(made: Acceptance, seen: Pictures) -> str:
    found = [one.vendor for one in made.slices if one.vendor is not None]
    if not found or seen.vendor is None:
        return ""
    rows = ""
    for name in found[0].correlation:
        values = (fmean(one.correlation[name] for one in found), fmean(one.ssim[name] for one in found))
        rows += row(name, [number(value, 3) for value in values], name == made.model)
    both = {"The scanner's": seen.vendor, made.model: seen.images[made.model]}
    figures = "".join(
        figure(name, "", pictures.grey(image, pictures.window(image))) for name, image in both.items()
    )
    compared = table(
        "Over the object, means over slices. No threshold.", ("Method", "Correlation", "SSIM"), rows
    )
    return f'<p>{_VENDOR}</p><div class="columns"><div class="pictures two">{figures}</div>{compared}</div>'


def _readers(made: Acceptance) -> str:
    if not made.seal:
        return ""
    return (
        "<p>Pictures without names and sheets to score them are in the folder readers. Keep readers-key.json "
        f"from the readers; its SHA-256 begins with <code>{made.seal[:16]}</code>. "
        "<code>noref unblind</code> joins both.</p>"
    )


def _count(made: Acceptance) -> str:
    few = f" of {made.given}" if len(made.slices) < made.given else ""
    return "one slice" if made.given == 1 else f"{len(made.slices)}{few} slices"


def _short(name: str) -> str:
    """`subject/scan`, with or without a slice, without a name that it says twice."""
    return "/".join(dict.fromkeys(name.split("/")))


def _class(line: Criterion) -> str:
    return str(line.verdict).replace(" ", "-")
