"""PNG pictures for reports: reconstruction, error and mask, every method in the reference's window."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ERROR_GAIN = 5
# sRGB at equal steps of CIE lightness, 2 to 97: equal differences of error look equally large.
_COLOURS = ("070613", "2f1355", "5e1883", "a4157e", "de2d54", "f8662d", "fe9e24", "fece63", "fcf9c3")


def colour_map() -> NDArray[np.uint8]:
    """The error's colours, sRGB `(256, 3)`: black for none, pale yellow for most, lightness always rising."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS])
    at = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(at, range(len(anchors)), channel) for channel in anchors.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def window(image: NDArray[Any]) -> float:
    """What is shown as white: the 99.5th percentile of a magnitude image `(y, x)`; vessels may clip."""
    top = float(np.percentile(image, 99.5))
    return top if top > 0 else float(image.max()) or 1.0


def grey(image: NDArray[Any], top: float) -> bytes:
    """PNG of a magnitude image `(y, x)`, black at 0 and white from `top` on."""
    return _png(Image.fromarray(_levels(image / top)))


def error(image: NDArray[Any], reference: NDArray[Any], top: float) -> bytes:
    """PNG of `5 · |image − reference|`, both `(y, x)`, through `colour_map` in the window `top`."""
    picture = Image.fromarray(_levels(ERROR_GAIN * np.abs(image - reference) / top))
    picture.putpalette(colour_map().tobytes())
    return _png(picture)


def mask(mask: NDArray[np.bool_]) -> bytes:
    """PNG of a mask `(ky, kx)`: white where k-space was sampled."""
    return _png(Image.fromarray(_levels(mask.astype(np.float32))))


def colour_bar() -> bytes:
    """PNG of the error's colours from left to right, 256 pixels wide and 1 high."""
    picture = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    picture.putpalette(colour_map().tobytes())
    return _png(picture)


def data_uri(png: bytes) -> str:
    """The picture as an address that an HTML page carries within itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _levels(share: NDArray[Any]) -> NDArray[np.uint8]:
    # NaN has no grey; black is where an image without signal is.
    levels: NDArray[np.uint8] = (255 * np.clip(np.nan_to_num(share), 0, 1)).round().astype(np.uint8)
    return levels


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
