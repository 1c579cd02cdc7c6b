"""The acceptance of a trained model on a site's own scans, of which nobody has a full one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from noref import api
from noref.acceptance.added import acquired_only
from noref.acceptance.candidates import Candidate, by_classical, by_network
from noref.acceptance.lesion import CONTRASTS
from noref.acceptance.measure import Plan, measure
from noref.acceptance.page import PAGE, page
from noref.acceptance.readers import Case, export
from noref.acceptance.results import Pictures, SliceResult, numbers
from noref.acceptance.vendor import assigned, counterpart
from noref.acceptance.verdict import BASELINE, Acceptance, Thresholds, criteria, overall
from noref.classical import CLASSICAL
from noref.config import PLACE, Source
from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.errors import NorefError
from noref.files import check_free, whole_folder
from noref.scan import Role
from noref.scoring import check_unseen, labels_of

VENDOR = "vendor"
"""What the scanner's image is called where readers' pictures are told apart."""

_AVERAGE = re.compile(r"(^|\.)average\d+(?=\.|$)")
"""The part of a scan's name by which averages that were kept apart differ."""


@dataclass(frozen=True)
class Judged:
    """The method that is judged.

    Attributes:
        name: that tables call it.
        candidate: its reconstruction.
        base: how its scans are read and prepared, where nobody says otherwise.
        made: what it is, for people.
        model: the trained one; None of a classical method.
    """

    name: str
    candidate: Candidate
    base: Source
    made: str
    model: api.Model | None = None


def judged(model: str | Path) -> Judged:
    """A model or run folder, or the classical method of that name.

    Raises:
        NorefError: if there is none.
    """
    name = str(model)
    plain = Source(path=[])  # type: ignore[call-arg] # every field has a default
    if name in CLASSICAL:
        return Judged(f"{name} (judged)", by_classical(name), plain, f"classical method {name}")
    if not Path(model).exists():
        raise NorefError(f"{model}: neither a folder nor one of {', '.join(CLASSICAL)}")
    trained = api.load(model)
    given = trained.config.data.target or trained.config.data.proxy or plain
    held = given.holdout or Preparation.model_fields["holdout"].default
    # What a site measured is judged, however the training's scans were undersampled.
    site = {"mask": "acquired", "holdout": held, "subject_folder": 0}
    base = plain.model_copy(update={**given.model_dump(exclude=set(PLACE)), **site})
    folder = Path(model).resolve()
    folder = folder.parent if folder.name == "model" else folder
    made = "network {} trained by {}".format(trained.config.network["name"], trained.config.method["name"])
    called = f"{folder.name} (judged)" if folder.name in CLASSICAL else folder.name
    return Judged(called, by_network(trained), base, made, trained)


def accept(
    model: str | Path | Judged,
    scans: Source | str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    again: Source | str | Path | Sequence[str | Path] | None = None,
    vendor: Sequence[str | Path] = (),
    readers: int = 0,
    slices: int = 12,
    lesions: int = len(CONTRASTS),
    seed: int = 0,
    thresholds: Thresholds | None = None,
) -> Acceptance:
    """Judges a model without any reference: writes `acceptance.html` and `acceptance.json`.

    Γ against its noise floor and against classical methods, what was added to the acquired samples,
    inserted lesions, repeatability where slices were measured twice, and the scanner's own images if there
    are some.

    Args:
        model: a model or run folder, a classical method's name, or what `judged` made of one.
        scans: undersampled, such as the scanner measured; of a `Source`, with `averages="apart"` the averages
            of an ISMRMRD file are held against each other.
        output: a new or empty folder.
        again: the same slices measured again, in the same order.
        vendor: the scanner's images, DICOM series, NIfTI volumes or MRD files: one for all, or one for each
            scan, in order.
        readers: how many sheets to write for readers who do not know the methods, with their pictures.
        slices: how many are judged at most, evenly spaced among the scans.
        lesions: how many are inserted into each.
        seed: draws places of lesions, added noise, and readers' names of pictures.
        thresholds: of the verdict.

    Raises:
        NorefError: for bad input; nothing is written then.
    """
    output, limits = Path(output), thresholds or Thresholds()
    check_free(output)
    method = model if isinstance(model, Judged) else judged(model)
    data = _dataset(method, scans)
    second = None if again is None else _dataset(method, again)
    pairs = _pairs(data, second)
    if method.model is not None:
        check_unseen(method.name, method.model, data)
    pictured = assigned([Path(path) for path in vendor], [data.ids[first] for first, _ in pairs])
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(max(slices, 1), len(pairs))).round().astype(int))
    coils = max(data.buckets[first][1] for first, _ in pairs)
    acquired, _ = acquired_only(coils)
    names = dict.fromkeys(("zero-filled", acquired, BASELINE))
    candidates = {**{name: by_classical(name) for name in names}, method.name: method.candidate}
    plan = Plan(method.name, candidates, acquired, lesions, seed)
    results, pictures = list[SliceResult](), list[Pictures]()
    for index in track(chosen.tolist(), "measuring", console=Console(stderr=True)):
        first, other = pairs[index]
        scan = data.scan(first)
        repeated = None if other is None else (data if second is None else second).scan(other)
        image = counterpart(pictured[index][0], pictured[index][1], scan) if pictured else None
        result, seen = measure(plan, scan, repeated, image)
        results.append(result)
        pictures.append(seen)
    lines = criteria(results, method.name, limits)
    worst = max(range(len(results)), key=lambda i: results[i].gamma[method.name] / results[i].gamma[BASELINE])
    with whole_folder(output) as folder:
        seal = export(folder, _cases(plan, pictures), readers, seed) if readers else ""
        made = Acceptance(
            method.name,
            method.made,
            overall(lines),
            lines,
            limits,
            results,
            labels_of(data, [pairs[index][0] for index in chosen]),
            seed,
            acquired,
            seal,
            len(pairs),
        )
        text = json.dumps(numbers(made), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / f"{PAGE}.json").write_text(text + "\n", encoding="utf-8")
        (folder / f"{PAGE}.html").write_text(page(made, pictures[worst]), encoding="utf-8")
    return made


def _dataset(method: Judged, scans: Source | str | Path | Sequence[str | Path]) -> Dataset:
    if not isinstance(scans, Source):
        paths = [scans] if isinstance(scans, str | Path) else scans
        scans = method.base.model_copy(update={"path": [str(path) for path in paths]})
    return api.dataset(scans, Role.TARGET)


def _pairs(data: Dataset, second: Dataset | None) -> list[tuple[int, int | None]]:
    """Every slice, with the number of its second measurement."""
    if second is not None:
        if len(second) != len(data):
            raise NorefError(
                f"--again: {len(second)} slices for {len(data)}; give the same slices again, in order"
            )
        return [(index, index) for index in range(len(data))]
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(data.ids):
        subject, scan, slice_ = name.split("/")
        groups.setdefault(f"{subject}/{_AVERAGE.sub('', scan)}/{slice_}", []).append(index)
    return [(group[0], group[1] if len(group) > 1 else None) for group in groups.values()]


def _cases(plan: Plan, pictures: Sequence[Pictures]) -> list[Case]:
    """The judged method, the baseline, and the scanner's image of each slice."""
    cases = []
    for one in pictures:
        images = {name: one.images[name] for name in (plan.model, BASELINE)}
        if one.vendor is not None and one.covered is not None:
            images[VENDOR] = one.vendor
            # A border where the scanner's image alone is black would tell it.
            images = {name: np.where(one.covered, image, 0) for name, image in images.items()}
        cases.append(Case(one.id, images))
    return cases
