"""Tables, pictures and numbers of the page, as HTML."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noref.evaluation.pictures import data_uri
from noref.evaluation.tables import NONE, number

_PIXELS = 8
"""Of a picture for each pixel of what is around a lesion."""


def table(caption: str, heads: Sequence[str], rows: str, kind: str = "compact") -> str:
    """A table; caption and heads are not yet escaped, rows are HTML."""
    cells = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    return (
        f'<div class="scroll"><table class="{kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def row(name: str, cells: Sequence[str], judged: bool = False) -> str:
    """A row of HTML cells under its name, which is not yet escaped; the judged method's stands out."""
    kind = ' class="judged"' if judged else ""
    values = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr{kind}><th scope="row">{escape(name)}</th>{values}</tr>'


def figure(name: str, note: str, png: bytes) -> str:
    """A picture over its name."""
    aside = f" {escape(note)}" if note else ""
    return (
        f'<figure><img src="{data_uri(png)}" alt="{escape(name)}">'
        f"<figcaption><b>{escape(name)}</b>{aside}</figcaption></figure>"
    )


def signed(values: NDArray[Any], top: float) -> bytes:
    """PNG of values `(y, x)` from −top, black, to top, white; zero is grey."""
    levels = np.clip(127.5 + 127.5 * values / top, 0, 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.repeat(_PIXELS, 0).repeat(_PIXELS, 1)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def plain(value: float | None, places: int = 2) -> str:
    """A number, or a dash."""
    return NONE if value is None else number(value, places)


def percent(share: float | None, places: int = 1) -> str:
    """A share in per cent, or a dash."""
    return NONE if share is None else f"{number(100 * share, places)}\N{NO-BREAK SPACE}%"


def change(share: float) -> str:
    """A share in whole per cent, with its sign."""
    return f"{number(100 * share, 0, True)}\N{NO-BREAK SPACE}%"
