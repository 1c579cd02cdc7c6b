"""What a store holds, in words and in a picture: the quickest way to see that something went wrong."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noref.data.dataset import Seen, raw_labels, volume_of
from noref.data.packed import unpacked
from noref.data.shown import cropped, magnitude
from noref.data.store import Store
from noref.formats import png
from noref.scan import Scan, encoding_of

SHEET = "contact.png"
"""The picture's file in a store."""

THUMBNAIL = 128
"""Pixels of the longer side of a picture on the sheet."""

MOST = 100
"""Volumes looked at; of more, some are, evenly spread."""


def summary(store: Store) -> str:
    """A table of the store: a line for all slices of equal matrix and coils."""
    lines = [("matrix", "coils", "sets", "volumes", "slices", "full", "R", "held out")]
    order = sorted(store.survey, key=lambda seen: seen.bucket)
    for (sets, coils, *_, ky, kx), group in groupby(order, key=lambda seen: seen.bucket):
        alike = list(group)
        rates = [_rate(seen) for seen in alike]
        held = [1 - int(unpacked(s.allowed).sum()) / int(unpacked(s.mask).sum()) for s in alike]
        lines.append(
            (
                f"{ky}×{kx}",
                str(coils),
                str(sets),
                str(len({volume_of(seen.id) for seen in alike})),
                str(len(alike)),
                str(sum(seen.full for seen in alike)),
                _range(rates, 1),
                _range([100 * share for share in held], 0) + " %",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    how = store.how
    done = [f"coil maps by {how.maps}", "whitened" if how.whiten else "not whitened"]
    done += [f"{how.coils} virtual coils by {how.compression}"] if how.coils else []
    done += ["read-out oversampling removed"] if how.oversampling == "remove" else []
    rows.append(f"{store.role}s; {', '.join(done)}")
    rows += raw_labels(store.survey)
    looked_at = [store[index].header.filled_lines > 0 for index in _middles(store)]
    if any(looked_at):
        rows.append(
            f"in {sum(looked_at)} of {len(looked_at)} volumes looked at, lines were left out that parallel "
            "imaging seems to have computed; acquired=all believes them"
        )
    return "\n".join(rows)


def contact_sheet(store: Store) -> None:
    """Writes `SHEET` into a store: the middle slice of every volume, as its visible samples alone show it.

    Each in a window of its own, in the order of the store.
    """
    pictures = [_thumbnail(store[index]) for index in _middles(store)]
    store.storage.write(SHEET, png.encoded(png.sheet(np.stack(pictures))))


def _middles(store: Store) -> list[int]:
    """The middle slice of every volume, or of `MOST` of them."""
    volumes = [list(indices) for _, indices in groupby(range(len(store)), lambda i: volume_of(store.ids[i]))]
    return [of[len(of) // 2] for of in volumes[:: -(-len(volumes) // MOST)]]


def _thumbnail(scan: Scan) -> NDArray[np.uint8]:
    """The zero-filled image of Ω∖Γ, on a square of `THUMBNAIL` pixels."""
    image = cropped(magnitude(encoding_of(scan, scan.allowed).adjoint(scan.kspace[None])[0]), scan)
    picture = Image.fromarray(png.grey(image.numpy()))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    square = Image.new("L", (THUMBNAIL, THUMBNAIL))
    square.paste(picture, ((THUMBNAIL - picture.width) // 2, (THUMBNAIL - picture.height) // 2))
    return np.asarray(square)


def _rate(seen: Seen) -> float:
    """R, padding left out."""
    if seen.trajectory:
        return seen.rate
    return int((~unpacked(seen.padding)).sum()) / int(unpacked(seen.mask).sum())


def _range(values: list[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}–{high}"
