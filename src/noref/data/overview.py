"""What a store holds, in words and in a picture: the quickest way to see that something went wrong."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noref.data.files import volume_of
from noref.data.noise import noise_power
from noref.data.packed import unpacked
from noref.data.recognised import recognised
from noref.data.seen import Seen, raw_labels
from noref.data.shown import cropped, magnitude
from noref.data.store import Store
from noref.formats import png
from noref.scan import Role, Scan, encoding_of

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
    rows += _unlike(store)
    looked_at = [store[index] for index in _middles(store)]
    of = f"of {len(looked_at)} volumes looked at"
    sources = Counter(map(_noise_of, looked_at))
    rows.append(f"noise: {', '.join(f'{source} in {n}' for source, n in sources.most_common())} {of}")
    shown = Counter(name for scan in looked_at for name in recognised(scan))
    if shown:
        rows.append(f"recognised: {', '.join(f'{name} in {n}' for name, n in shown.most_common())} {of}")
    filled = sum(scan.header.filled_lines > 0 for scan in looked_at)
    if filled:
        rows.append(
            f"in {filled} {of}, lines were left out that parallel imaging seems to have computed; "
            "acquired=all believes them"
        )
    return "\n".join(rows)


def _noise_of(scan: Scan) -> str:
    """Where the noise of a scan was found."""
    if scan.header.whitened_by:
        return scan.header.whitened_by
    power, found = noise_power(scan)
    if power is None:
        return f"unknown ({found})"
    return f"{found} of k-space" if found in ("corners", "border") else found


def _unlike(store: Store) -> list[str]:
    """What was not done to all scans alike, where full and accelerated ones mix."""
    whole = sum(seen.whole and seen.mask == seen.allowed for seen in store.survey)
    if store.how.mask != "acquired":
        kept = sum(not seen.full for seen in store.survey)
        if 0 < kept < len(store.survey):
            return [
                f"mask={store.how.mask} is of the full slices; {kept} were accelerated and stay as they are"
            ]
    elif whole > 0 and store.role is Role.TARGET and store.how.holdout > 0:
        return [f"nothing is held out of {whole} full slices, which have a reference"]
    return []


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
