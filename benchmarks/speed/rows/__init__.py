"""The rows of the table, a file for each family."""

from __future__ import annotations

from itertools import chain

from ..row import Row
from . import cgsense, istanet, loading, maps, modl, poisson, ssim, supervision, unet, varnet, vsharp

_FAMILIES = (
    istanet,
    unet,
    varnet,
    vsharp,
    modl,
    supervision,
    maps,
    cgsense,
    loading,
    poisson,
    ssim,
)

ROWS: dict[str, Row] = {row.name: row for row in chain.from_iterable(family.ROWS for family in _FAMILIES)}
"""By name, in the order of the page."""
