"""Missing lines of a regularly undersampled scan, filled in from the acquired lines beside them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from noref.coils.calibration import acs_box
from noref.errors import NorefError
from noref.physics import CartesianEncoding, Encoding

Predictor = Callable[[Tensor], Tensor]
"""Makes missing lines `(lines, coils, kx)` of the lines beside them, `(lines, sources, coils, kx)`."""

Learner = Callable[[Tensor, Tensor], Predictor]
"""Makes a `Predictor` of both in the ACS, `(places, sources, coils, kx)` and `(places, coils, kx)`."""

NEIGHBOURS = 2
"""Acquired lines on either side that a missing line is made of."""

_POSITIONS = 4
"""Fewest places of the ACS that a relation between lines is learned from."""

_WIDEST = 3
"""Spacings that a gap may be wide; more than one where lines were held out."""

_REGULAR = 0.5
"""Share of neighbouring lines that must be one spacing apart; the others stand beside held-out lines."""


def interpolate(kspace: Tensor, encoding: Encoding, learner: Learner, method: str) -> Tensor:
    """The combined image `Aᴴ ŷ` of a batch whose missing lines were filled in; acquired samples are kept.

    Every missing line is made of the two nearest acquired lines on either side of it, or of fewer where
    k-space ends or the ACS is too short for such a distance. What relates them is learned from the ACS, once
    for all lines with neighbours at the same distances: in the regular part of k-space that is once for each
    of the R − 1 lines between two acquired ones. Lines that were held out are missing lines like any other,
    never read, and the lines beside them are made of the nearest that are left.

    Args:
        kspace: complex64 `(batch, coils, ky, kx)`; samples outside the encoding's mask are not read.
        encoding: of the samples. Its lines without any signal are padding, and stay zero.
        learner: what relates lines.
        method: its name, for messages.

    Returns:
        complex64 `(batch, sets, y, x)`.

    Raises:
        NorefError: if the scan was not sampled in evenly spaced lines around an ACS that shows how lines at
            such distances are related.
    """
    if not (isinstance(encoding, CartesianEncoding) and encoding.lines):
        raise NorefError(f"{method} needs whole phase-encode lines; use another method, such as cg-sense")
    kspace = torch.where(encoding.mask[:, None], kspace, 0)
    filled = [
        _fill(one, mask[:, 0], learner, method) for one, mask in zip(kspace, encoding.mask, strict=True)
    ]
    return encoding.full().adjoint(torch.stack(filled))


def _fill(kspace: Tensor, known: Tensor, learner: Learner, method: str) -> Tensor:
    """k-space `(coils, ky, kx)` without missing lines; `known`, bool `(ky,)`, are the others and padding."""
    lines = kspace.movedim(-2, 0)
    acquired = known & lines.abs().sum((1, 2)).bool()
    acs, _ = acs_box(acquired[:, None])
    filled = lines.clone()
    for offsets, missing in neighbourhoods(acquired, known, acs, method).items():
        places = torch.arange(acs.start - min(0, *offsets), acs.stop - max(0, *offsets))
        beside = torch.tensor(offsets)
        predict = learner(lines[places[:, None] + beside], lines[places])
        filled[missing] = predict(lines[torch.tensor(missing)[:, None] + beside])
    return filled.movedim(0, -2)


def neighbourhoods(
    acquired: Tensor, known: Tensor, acs: slice, method: str
) -> dict[tuple[int, ...], list[int]]:
    """Missing lines by the offsets of the acquired lines that each is made of.

    Args:
        acquired: bool `(ky,)`.
        known: bool `(ky,)`, acquired lines and padding.
        acs: the lines of the ACS.
        method: its name, for messages.

    Raises:
        NorefError: as `interpolate`.
    """
    missing = torch.nonzero(~known).flatten().tolist()
    if not missing:
        return {}
    positions = torch.nonzero(acquired).flatten()
    length = acs.stop - acs.start
    _check_regular(positions, torch.nonzero(acquired | ~known).flatten(), acs, method)
    groups: dict[tuple[int, ...], list[int]] = {}
    for line in missing:
        distances = positions - line
        near = torch.cat((distances[distances < 0][-NEIGHBOURS:], distances[distances > 0][:NEIGHBOURS]))
        offsets: list[int] = []
        for offset in sorted(near.tolist(), key=abs):
            reach = (0, *offsets, offset)
            if max(reach) - min(reach) + _POSITIONS <= length:
                offsets.append(offset)
        if not offsets:
            raise NorefError(
                f"{method} needs a longer ACS: {length} lines do not show how lines "
                f"{int(near.abs().min())} apart are related; use another method, such as cg-sense"
            )
        groups.setdefault(tuple(sorted(offsets)), []).append(line)
    return groups


def _check_regular(positions: Tensor, inside: Tensor, acs: slice, method: str) -> None:
    """Refuses lines that are not evenly spaced on both sides of an ACS, up to rounding and held-out lines.

    Args:
        positions: of the acquired lines.
        inside: positions of all lines but the padding.
        acs: the lines of the ACS.
        method: its name, for messages.
    """
    sides = positions[positions < acs.start], positions[positions >= acs.stop]
    gaps = torch.cat([side.diff() for side in sides])
    spacing = int(gaps.min()) if len(gaps) else 1
    # A spacing that is no whole number is rounded to one of two.
    steps = torch.ceil(gaps / (spacing + 1))
    even = bool((steps * spacing <= gaps).all()) and float((steps == 1).float().mean()) >= _REGULAR
    widest = int(torch.cat((inside[:1] - 1, positions, inside[-1:] + 1)).diff().max())
    complete = widest <= _WIDEST * (spacing + 1)
    if spacing < 2 or not even or not complete or acs.stop - acs.start < 2 * _POSITIONS:
        raise NorefError(
            f"{method} needs evenly spaced lines over all of k-space and an ACS of at least "
            f"{2 * _POSITIONS} lines; use another method, such as cg-sense"
        )
