"""Where the slices of a volume lie, from the headers of all of them or of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from noref.scan import Header

Vector = tuple[float, float, float]

EVEN = 1e-3
"""Millimetres by which steps between slices may differ, and the share of a step."""


def headers_of(header: Header | Sequence[Header], slices: int) -> list[Header]:
    """The header of every slice; those behind the first go on along its normal where it stands for all."""
    if not isinstance(header, Header):
        return list(header)
    if header.position is None or header.directions is None or header.spacing is None:
        return [header] * slices
    position, normal = np.array(header.position), np.array(header.directions[2])
    steps = (position + index * header.spacing[2] * normal for index in range(slices))
    return [replace(header, position=vector(step)) for step in steps]


def step_of(headers: Sequence[Header]) -> NDArray[np.float64] | None:
    """Millimetres LPS from one slice to the next; None unless known, the same all along, and not zero."""
    positions = [header.position for header in headers if header.position is not None]
    if len(positions) < len(headers):
        return None
    if len(headers) == 1:
        spacing, directions = headers[0].spacing, headers[0].directions
        return None if spacing is None or directions is None else spacing[2] * np.array(directions[2])
    steps = np.diff(np.array(positions), axis=0)
    step: NDArray[np.float64] = steps.mean(0)
    length = float(np.linalg.norm(step))
    uneven = float(np.linalg.norm(steps - step, axis=1).max()) > EVEN * (1 + length)
    return None if uneven or length < EVEN else step


def corner_of(header: Header, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """Millimetres LPS of the centre of the first pixel of an image `(y, x)`; None unless known.

    `p − ½·(x − 1)·Δx·d_x − ½·(y − 1)·Δy·d_y`.
    """
    if header.spacing is None or header.position is None or header.directions is None:
        return None
    (rows, columns), (step_y, step_x, _) = shape, header.spacing
    along_x, along_y, _ = (np.array(direction) for direction in header.directions)
    corner: NDArray[np.float64] = (
        np.array(header.position) - (columns - 1) / 2 * step_x * along_x - (rows - 1) / 2 * step_y * along_y
    )
    return corner


def centre_of(corner: NDArray[np.float64], along: NDArray[np.float64], shape: tuple[int, int]) -> Vector:
    """Millimetres LPS of the centre of an image `(y, x)`.

    Args:
        corner: centre of its first pixel.
        along: millimetres from one pixel to the next along x and along y, `(2, 3)`.
        shape: of the image.
    """
    rows, columns = shape
    return vector(corner + (columns - 1) / 2 * along[0] + (rows - 1) / 2 * along[1])


def vector(values: NDArray[np.float64]) -> Vector:
    """Three numbers as a header holds them."""
    x, y, z = (float(value) for value in values)
    return x, y, z
