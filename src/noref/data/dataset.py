"""The scans of a training, prepared and remembered."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.data.files import Scans, subject_of, volume_of
from noref.data.oversampling import without_oversampling
from noref.data.packed import PackedMasks, unpacked
from noref.data.prepare import (
    Preparation,
    can_be_undersampled,
    fully_sampled,
    prepare,
    undersample,
)
from noref.data.seen import Seen, Shape, by_shape, densities, raw_labels
from noref.errors import NorefError
from noref.formats import pseudonym
from noref.sampling.holdout import hold_out
from noref.scan import Role, Scan, shown_whole
from noref.seeding import Key


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, as loading processes have: numbers differ in their last bits with the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Dataset(Sequence[Scan]):
    """Prepared scans of one role.

    Args:
        slices: scans as read from files; read one at a time.
        how: what is done to each of them.
        role: overrides the role of every scan.
        cache_gb: prepared scans are kept in memory up to this size, in GiB.
    """

    def __init__(
        self,
        slices: Sequence[Scan],
        how: Preparation,
        role: Role = Role.TARGET,
        cache_gb: float = 4.0,
    ) -> None:
        if len(slices) == 0:
            raise NorefError("no scans to train on; check data.target.path")
        self.slices, self.how, self.role = slices, how, role
        self._budget = int(cache_gb * 2**30)
        self._cache: dict[int, Scan] = {}
        self._known: dict[bool, bool] = {}

    def __len__(self) -> int:
        return len(self.slices)

    def _raw(self, index: int) -> Scan:
        return self._as_prepared(self.slices[index])

    def _as_prepared(self, scan: Scan) -> Scan:
        scan = replace(scan, role=self.role)
        if self.how.oversampling == "keep":
            return scan
        with _one_thread():
            return without_oversampling(scan)

    def _how(self, scan: Scan) -> Preparation:
        """What is done to a scan as it was read: not to all the same where full and accelerated ones mix.

        A mask is for the full ones; Γ is not of those that are shown whole, which have a reference. Whether
        they mix, all files tell, whichever of their subjects are here: parts of a split are treated alike.
        """
        how = self.how
        if how.mask == "acquired":
            gamma = self.role is Role.TARGET and how.holdout > 0
            if gamma and shown_whole(scan) and not self._alike(full=True):
                return how.model_copy(update={"holdout": 0.0})
        elif not can_be_undersampled(scan, how) and not self._alike(full=False):
            return how.model_copy(update={"mask": "acquired"})
        return how

    def _alike(self, full: bool) -> bool:
        """Whether all volumes are full, or all accelerated, as their first slices are."""
        if full not in self._known:
            self._known[full] = all(self._is_full(*first) in (full, None) for first in self._firsts())
        return self._known[full]

    def _firsts(self) -> Iterator[tuple[Sequence[Scan], int]]:
        """The first slice of each volume: the scans that it is one of, and its number among them."""
        for slices in self.slices.parts if isinstance(self.slices, Scans) else [self.slices]:
            names = [volume_of(name) for name in getattr(slices, "ids", [])]
            firsts = [i for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
            yield from ((slices, index) for index in firsts or range(len(slices)))

    def _is_full(self, slices: Sequence[Scan], index: int) -> bool | None:
        """Whether a scan is fully sampled; None if it cannot be read, which is said where it is used."""
        try:
            return fully_sampled(self._as_prepared(slices[index]))
        except NorefError:
            return None

    @cached_property
    def ids(self) -> list[str]:
        """Of every scan."""
        return [seen.id for seen in self._survey]

    @property
    def acquired(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Ω and padding, bool `(ky, kx)`, as far as they differ between scans."""
        for mask, padding in dict.fromkeys((seen.mask, seen.padding) for seen in self._survey):
            yield unpacked(mask), unpacked(padding)

    @property
    def volumes(self) -> set[str]:
        """`subject/scan` of every slice."""
        return {volume_of(name) for name in self.ids}

    @property
    def known_as(self) -> dict[str, set[str]]:
        """Of every volume, `subject/scan`, what it could be called in another training: that among it."""
        found: dict[str, set[str]] = {volume: {volume} for volume in self.volumes}
        if isinstance(self.slices, Scans):
            for name, names in self.slices.all_names().items():
                found[volume_of(name)] |= set(map(volume_of, names))
        return found

    def subjects_among(self, known: Set[str]) -> list[str]:
        """The subjects that are among others, by whichever name they could have had, sorted.

        Args:
            known: pseudonyms of the others, see `formats.pseudonym`.
        """
        return sorted(
            {
                subject_of(volume)
                for volume, names in self.known_as.items()
                if known & {pseudonym(subject_of(name)) for name in names}
            }
        )

    @property
    def survey(self) -> Sequence[Seen]:
        """What is known of every scan without its k-space."""
        return self._survey

    @property
    def held_out(self) -> list[int]:
        """Which scans have a Γ."""
        return [index for index, seen in enumerate(self._survey) if seen.mask != seen.allowed]

    @property
    def subjects(self) -> set[str]:
        """Of every slice."""
        return {name.split("/", 1)[0] for name in self.ids}

    @property
    def references(self) -> int:
        """How many scans have a reference."""
        return sum(seen.full for seen in self._survey)

    @property
    def labels(self) -> list[str]:
        """What a reader must know before believing anything made of these scans."""
        return raw_labels(self._survey)

    @cached_property
    def buckets(self) -> list[tuple[int, ...]]:
        """What each scan can be stacked with."""
        return [seen.bucket for seen in self._survey]

    @cached_property
    def masks(self) -> dict[Shape, PackedMasks]:
        """Ω∖Γ of every scan, bool `(ky, kx)`, by matrix."""
        alike = by_shape(self._survey)
        return {shape: PackedMasks([seen.allowed for seen in some]) for shape, some in alike.items()}

    @cached_property
    def _survey(self) -> Sequence[Seen]:
        """What is known of every scan without the cost of maps."""
        survey, once = [], dict[bytes, bytes]()
        for index in range(len(self)):
            raw = self._raw(index)
            how = self._how(raw)
            scan = undersample(raw, how)
            if self.role is Role.TARGET and how.holdout > 0:
                scan = hold_out(scan, how.holdout, how.seed)
            seen = Seen.of(scan, once)
            coils = min(scan.coils, self.how.coils or scan.coils)
            sets = self.how.sets if scan.maps is None and coils > 1 else seen.bucket[0]
            survey.append(replace(seen, bucket=(sets, coils, *seen.bucket[2:])))
        return survey

    @cached_property
    def _density(self) -> Mapping[Shape, Tensor]:
        return densities(self._survey)

    def prepared(self, index: int, epoch: int | None = None) -> Scan:
        """One scan as `scan` gives it, but for the density, which needs a look at all of them."""
        with _one_thread():
            raw = self._raw(index)
            return prepare(raw, self._how(raw), epoch)

    def scan(self, index: int, epoch: int | None = None) -> Scan:
        """One prepared scan; `epoch` draws the Ω of proxies that are undersampled anew each epoch."""
        if index in self._cache:
            return self._cache[index]
        scan = self.prepared(index, epoch)
        if scan.trajectory is None:
            scan = replace(scan, density=self._density[scan.shape])
        size = sum(t.nbytes for t in vars(scan).values() if isinstance(t, Tensor))
        if not (self.how.redraw and self.role is Role.PROXY) and size <= self._budget:
            self._cache[index] = scan
            self._budget -= size
        return scan

    def __getitem__(self, index: int) -> Scan:  # type: ignore[override] # slices of a data set are not needed
        return self.scan(index)

    def check_shown(self) -> None:
        """Refuses proxies that are shown whole: there is nothing to learn.

        Raises:
            NorefError: naming the first.
        """
        # Looked at once for all that share their masks.
        whole = {seen.pattern: seen.whole for seen in {seen.pattern: seen for seen in self._survey}.values()}
        for seen in self._survey:
            if whole[seen.pattern]:
                raise NorefError(
                    f"{seen.id}: a fully sampled scan that would be shown whole, so nothing can be learned; "
                    "say how to undersample it, such as mask=lines acceleration=4 acs=24 of its source"
                )

    def check_references(self) -> None:
        """Refuses scans that were not fully sampled: they have no reference.

        Raises:
            NorefError: naming the first.
        """
        for seen in self._survey:
            if not seen.full:
                raise NorefError(
                    f"{seen.id}: supervised training needs fully sampled scans, and this one has no "
                    "reference; leave it out, or train on it as a target, with the recipe default or ssdu"
                )

    def check_masks(self, force: bool) -> None:
        """Refuses or warns where every scan was sampled with one and the same mask.

        Without different masks nothing tells a single-coil network what lies between the samples.

        Raises:
            NorefError: for a single coil, unless forced.
        """
        sampled: dict[tuple[int, ...], list[Seen]] = {}
        for seen in self._survey:
            sampled.setdefault(seen.bucket, []).append(seen)
        for (_, coils, *_), alike in sampled.items():
            # Γ is left in: it differs from scan to scan where the acquisition does not.
            if len(alike) == 1 or len({(seen.mask, seen.trajectory) for seen in alike}) > 1:
                continue
            count, rate = len(alike), alike[0].rate
            found = f"data.target: all {count} scans of {coils} coil(s) share one mask (R = {rate:.1f})"
            if coils == 1 and not force:
                raise NorefError(
                    f"{found}: no network can learn what is never sampled; use different masks, "
                    "proxies (recipe jssl), or data.force=true"
                )
            tell = "only the coils tell" if coils > 1 else "nothing tells"
            warnings.warn(
                f"{found}: {tell} what lies between the samples; consider different masks, or proxies "
                "(recipe jssl)",
                stacklevel=2,
            )


@lru_cache(maxsize=8)
def epoch_order(count: int, seed: int, role: Role, epoch: int) -> NDArray[np.intp]:
    """The order in which an epoch visits the scans of a role."""
    return Key(seed, "", f"order-{role}", epoch).numpy().permutation(count)


def visits(count: int, seed: int, role: Role, first: int, number: int) -> Iterable[tuple[int, int]]:
    """Scan index and epoch of `number` visits from the `first`-th of the whole training on."""
    for visit in range(first, first + number):
        epoch, position = divmod(visit, count)
        yield int(epoch_order(count, seed, role, epoch)[position]), epoch
