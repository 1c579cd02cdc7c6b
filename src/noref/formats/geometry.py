"""Where the slices of a volume lie, from the headers of all of them or of the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.scan import Header

Vector = tuple[float, float, float]

Images = NDArray[Any] | Sequence[NDArray[Any]]
"""`(slices, y, x)`, or as many arrays `(y, x)`, which may differ in size."""

EVEN = 1e-3
"""Millimetres within which two places are one; and, with this share of a step, two steps are equal."""

COUNTERS = ("average", "contrast", "phase", "repetition", "set")
"""What tells images of one slice apart, as a header calls it."""


def header_of_frame(frame: int, frames: int) -> Header:
    """The header of a frame of a dynamic scan, of so many; of one alone it says nothing."""
    return Header(frame=(frame, frames), phase=frame) if frames > 1 else Header()


def headers_of(header: Header | Sequence[Header], slices: int) -> list[Header]:
    """The header of every slice; those behind the first go on along its normal where it stands for all."""
    if not isinstance(header, Header):
        return list(header)
    if header.position is None or header.directions is None or header.spacing is None:
        return [header] * slices
    position, normal = np.array(header.position), np.array(header.directions[2])
    steps = (position + index * header.spacing[2] * normal for index in range(slices))
    return [replace(header, position=vector(step)) for step in steps]


def places_of(headers: Sequence[Header]) -> list[int]:
    """The number of each image's place, from 0 in the order of the images; those of one slice share it.

    A place is a position and an orientation. Where one is not known, it is the image's number among those of
    equal counters.
    """
    if any(header.position is None or header.directions is None for header in headers):
        return slices_of(headers)
    planes = np.array([[header.position, *(header.directions or ())] for header in headers])
    firsts, numbers = list[int](), list[int]()
    for index, plane in enumerate(planes):
        same = np.flatnonzero(np.abs(planes[firsts] - plane).max((1, 2)) < EVEN)
        if not len(same):
            firsts.append(index)
        numbers.append(int(same[0]) if len(same) else len(firsts) - 1)
    return numbers


def counters_of(header: Header) -> tuple[int, ...]:
    """The values of `COUNTERS`."""
    return tuple(getattr(header, name) for name in COUNTERS)


def with_counters(header: Header, numbers: Mapping[str, Any]) -> Header:
    """The header with the values of `COUNTERS`, 0 where they are missing."""
    average, contrast, phase, repetition, set_ = (int(numbers.get(name, 0)) for name in COUNTERS)
    return replace(header, average=average, contrast=contrast, phase=phase, repetition=repetition, set=set_)


def slices_of(headers: Sequence[Header]) -> list[int]:
    """The number of each image among those of equal counters, from 0 in the order of the images."""
    before, numbers = Counter[tuple[int, ...]](), list[int]()
    for header in headers:
        counters = counters_of(header)
        numbers.append(before[counters])
        before[counters] += 1
    return numbers


def alike(images: Images) -> list[list[int]]:
    """The numbers of the images of each size, in the order in which sizes first come."""
    found: dict[tuple[int, ...], list[int]] = {}
    for index, values in enumerate(images):
        found.setdefault(values.shape, []).append(index)
    return list(found.values())


def volumes_of(headers: Sequence[Header]) -> list[list[int]] | None:
    """The numbers of the images of each volume, in which every place occurs once.

    The n-th image at a place is of the n-th volume. Slices are in the order in which they come, or by their
    height where that alone is even. None if some places occur more often than others.
    """
    found: dict[int, list[int]] = {}
    for index, place in enumerate(places_of(headers)):
        found.setdefault(place, []).append(index)
    if len({len(images) for images in found.values()}) > 1:
        return None
    volumes = [list(volume) for volume in zip(*found.values(), strict=True)]
    first = [headers[index] for index in volumes[0]]
    if step_of(first) is None and all(header.position and header.directions for header in first):
        normal = np.array(first[0].directions)[2]
        order = sorted(range(len(first)), key=lambda i: float(normal @ np.array(first[i].position)))
        if step_of([first[i] for i in order]) is not None:
            return [[volume[i] for i in order] for volume in volumes]
    return volumes


def step_of(headers: Sequence[Header]) -> NDArray[np.float64] | None:
    """Millimetres LPS from one slice to the next; None unless known, the same all along, and not zero.

    Slices that lie in different directions have none.
    """
    positions = [header.position for header in headers if header.position is not None]
    if len(positions) < len(headers):
        return None
    if len(headers) == 1:
        spacing, directions = headers[0].spacing, headers[0].directions
        return None if spacing is None or directions is None else spacing[2] * np.array(directions[2])
    if any(header.directions is None for header in headers):
        return None
    planes = np.array([header.directions for header in headers])
    if np.abs(planes - planes[0]).max() > EVEN:
        return None
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
