"""Grey pictures to look at: one slice, or all of a volume on one sheet."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noref.files import whole

WINDOW = 99.5
"""Percentile of the magnitude that is shown white."""


def grey(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Magnitudes as 0…255, white at the 99.5th percentile of all of them (or the maximum where that is 0)."""
    values = np.abs(images)
    white = np.percentile(values, WINDOW) or values.max() or 1
    return np.asarray((np.clip(values / white, 0, 1) * 255).round(), np.uint8)


def sheet(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images `(slices, y, x)` side by side in rows, on a sheet as square as their number allows."""
    slices, y, x = images.shape
    columns = math.ceil(math.sqrt(slices))
    rows = math.ceil(slices / columns)
    cells = np.zeros((rows * columns, y, x), np.uint8)
    cells[:slices] = images
    return cells.reshape(rows, columns, y, x).swapaxes(1, 2).reshape(rows * y, columns * x)


def write(path: Path, images: NDArray[Any], made: str = "") -> None:
    """Writes images `(slices, y, x)`, windowed together, as one picture described as `made`."""
    save(path, sheet(grey(images)), made)


def write_each(folder: Path, images: NDArray[Any]) -> None:
    """Writes images `(slices, y, x)`, windowed together, as `000.png`, `001.png`, … in a folder."""
    for index, image in enumerate(grey(images)):
        save(folder / f"{index:03d}.png", image)


def save(path: Path, picture: NDArray[np.uint8], description: str = "") -> None:
    """Writes a grey picture `(y, x)` as it is."""
    with whole(path) as temporary:
        temporary.write_bytes(encoded(picture, description))


def encoded(picture: NDArray[np.uint8], description: str = "") -> bytes:
    """A grey picture `(y, x)` as the bytes of a PNG, with a description in its text."""
    file, texts = io.BytesIO(), PngInfo()
    if description:
        texts.add_itxt("Description", description)
    Image.fromarray(picture).save(file, format="png", pnginfo=texts)
    return file.getvalue()
