"""Reconstructing a data set with every method and scoring it, with and without references."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref import metrics
from noref.classical import CLASSICAL, choose, fit
from noref.classical import reconstruct as classical
from noref.data.dataset import Dataset
from noref.data.shown import shown
from noref.evaluation.results import MethodResult, SubjectScore
from noref.networks import Estimate
from noref.sampling.holdout import holdout_error
from noref.scan import Scan

AGAINST_REFERENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr": metrics.psnr,
    "ssim": metrics.ssim,
    "nmse": metrics.nmse,
    "nmae": metrics.nmae,
    "hfen1": metrics.hfen1,
}
"""What scores a volume where it has references."""


@dataclass(frozen=True)
class Reconstruction:
    """What a method made of one scan.

    Attributes:
        image: complex64 `(sets, y, x)`, from all of Ω, in the scan's scaled units.
        gamma: error on Γ of what it makes of Ω∖Γ, or None without Γ.
        seconds: that the image took, the choice of its regularisation included.
    """

    image: Tensor
    gamma: float | None
    seconds: float


Reconstructor = Callable[[Scan], Reconstruction]


def by_network(estimate: Callable[[Scan], Estimate]) -> Reconstructor:
    """A network's reconstruction: once from all of Ω, once from Ω∖Γ for the score.

    Args:
        estimate: makes a batch of one of a scan.
    """

    def run(scan: Scan) -> Reconstruction:
        started = time.perf_counter()
        image = estimate(scan).image[0]
        seconds = time.perf_counter() - started
        gamma = None
        if scan.holdout is not None:
            held = estimate(scan.as_target())
            gamma = holdout_error(scan, held.image[0], held.encoding.maps[0])
        return Reconstruction(image, gamma, seconds)

    return run


def by_classical(name: str) -> Reconstructor:
    """A classical method's reconstruction, its regularisation chosen by Γ where there is one."""
    method = CLASSICAL[name]

    def run(scan: Scan) -> Reconstruction:
        started = time.perf_counter()
        if scan.holdout is None:
            return Reconstruction(classical(method, scan), None, time.perf_counter() - started)
        choice = choose(method, scan)
        image = fit(method, scan, choice.for_all)
        return Reconstruction(image, choice.errors[choice.strength], time.perf_counter() - started)

    return run


def score(name: str, reconstruct: Reconstructor, scans: Dataset) -> MethodResult:
    """One method's scores, a subject at a time; metrics are of whole volumes, in the file's own units.

    Args:
        name: of the method in the report.
        reconstruct: makes an image of a scan.
        scans: prepared, with Γ; references where there are any.
    """
    # PyTorch imports its compiler, for seconds, when it calls an operator of noref's for the first time.
    from torch import _dynamo  # noqa: F401

    scores: list[SubjectScore] = []
    images: dict[str, NDArray[np.float32]] = {}
    for volume, members in volumes(scans):
        made = [(scan, reconstruct(scan)) for scan in map(scans.scan, members)]
        pictures = torch.stack([shown(r.image, scan) for scan, r in made])
        gammas = [r.gamma for _, r in made if r.gamma is not None]
        references = [shown(s.reference, s) for s, _ in made if s.reference is not None]
        values: dict[str, float | None] = dict.fromkeys(AGAINST_REFERENCES)
        if len(references) == len(made):
            reference = torch.stack(references)
            values = {name: float(of(reference, pictures)) for name, of in AGAINST_REFERENCES.items()}
        gamma = sum(gammas) / len(gammas) if gammas else None
        seconds = sum(r.seconds for _, r in made) / len(made)
        scores.append(SubjectScore(volume, **values, gamma=gamma, seconds=seconds))
        images[volume] = pictures[len(made) // 2].numpy()
    return MethodResult(name, scores, images)


def volumes(scans: Dataset) -> Sequence[tuple[str, list[int]]]:
    """The slices of each volume, by its `subject` or, where a subject has several, `subject/scan`."""
    places = groupby(range(len(scans)), key=lambda index: scans.ids[index].rsplit("/", 1)[0])
    by_scan = [(key, list(group)) for key, group in places]
    subjects = [key.split("/", 1)[0] for key, _ in by_scan]
    return [
        (subject if subjects.count(subject) == 1 else key, group)
        for subject, (key, group) in zip(subjects, by_scan, strict=True)
    ]


def pictured(scans: Dataset) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.bool_]]]:
    """Reference and mask of the slice that reports show of each volume."""
    references, masks = {}, {}
    for volume, members in volumes(scans):
        scan = scans.scan(members[len(members) // 2])
        masks[volume] = scan.mask.numpy()
        if scan.reference is not None:
            references[volume] = shown(scan.reference, scan).numpy()
    return references, masks
