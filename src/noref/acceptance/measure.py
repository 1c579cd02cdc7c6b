"""All that is measured of one slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from noref.acceptance.added import added
from noref.acceptance.candidates import Candidate, gamma
from noref.acceptance.floor import noise_floor
from noref.acceptance.lesion import CONTRASTS, contrast_map, lesions, patch, recovery, visibility
from noref.acceptance.repeat import alike, repeat
from noref.acceptance.results import LesionResult, Pictures, SliceResult, VendorResult
from noref.acceptance.vendor import agreement
from noref.data.shown import shown
from noref.scan import Scan

INSERTED = "inserted"
"""What a lesion itself is called beside what methods give back of it."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        model: the name of the method that is judged.
        candidates: all methods by name.
        acquired: the one that shows acquired samples alone.
        lesions: how many in a slice.
        seed: draws their places, and noise.
    """

    model: str
    candidates: Mapping[str, Candidate]
    acquired: str
    lesions: int = len(CONTRASTS)
    seed: int = 0


def measure(
    plan: Plan, scan: Scan, again: Scan | None = None, vendor: NDArray[np.float32] | None = None
) -> tuple[SliceResult, Pictures]:
    """One slice's results, and what the page may show of it.

    Args:
        plan: what to do.
        scan: prepared, with Γ.
        again: the same slice measured again, prepared; None if it was not.
        vendor: the scanner's image of it, from `vendor.counterpart`; None without one.

    Raises:
        NorefError: if the scan has no Γ, or the second measurement or the scanner's image is of another
            slice.
    """
    second = None if again is None else alike(scan, again)
    applied = {name: fixed(scan) for name, fixed in plan.candidates.items()}
    scores = {name: gamma(of, scan) for name, of in applied.items()}
    made = {name: of(scan) for name, of in applied.items()}
    images = {name: shown(one.image, scan).numpy() for name, one in made.items()}
    plain = made[plan.acquired]
    others = {name: one for name, one in made.items() if name != plan.acquired}
    agreements = (
        {} if vendor is None else {name: agreement(of, vendor, scan.id) for name, of in images.items()}
    )
    inserted, patches = [], dict[float, dict[str, NDArray[np.float32]]]()
    for lesion in lesions(scan, plain.image, plan.lesions, plan.seed):
        seen = {INSERTED: patch(contrast_map(lesion.image, lesion), lesion)}
        recovered = {}
        for name, of in applied.items():
            recovered[name], difference = recovery(of, scan, lesion, made[name].image)
            seen[name] = patch(contrast_map(difference, lesion), lesion)
        inserted.append(LesionResult(lesion.place, lesion.contrast, visibility(scan, lesion), recovered))
        patches.setdefault(lesion.contrast, seen)
    result = SliceResult(
        scan.id,
        scan.acceleration,
        scan.raw,
        scores,
        noise_floor(scan),
        {name: added(scan, one, plain) for name, one in others.items()},
        inserted,
        {} if second is None else {name: repeat(of, scan, second, plan.seed) for name, of in applied.items()},
        None
        if not agreements
        else VendorResult(
            {name: one.correlation for name, one in agreements.items()},
            {name: one.ssim for name, one in agreements.items()},
        ),
    )
    pictures = Pictures(
        scan.id,
        images,
        {name: _difference(one.image, plain.image, scan) for name, one in others.items()},
        plan.acquired,
        patches,
        None if vendor is None else np.nan_to_num(vendor),
        None if vendor is None else np.isfinite(vendor),
    )
    return result, pictures


def _difference(image: Tensor, plain: Tensor, scan: Scan) -> NDArray[np.float32]:
    made: NDArray[np.float32] = shown(image - plain, scan).numpy()
    return made
