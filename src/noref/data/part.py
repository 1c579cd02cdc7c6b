"""A data set of some scans of another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from noref.data.dataset import Dataset
from noref.data.prepare import Preparation, undersample
from noref.data.seen import Seen
from noref.sampling.holdout import all_calibrates
from noref.scan import Scan


class Part(Dataset):
    """Some scans of a data set, prepared and remembered by it, with its density.

    Args:
        whole: the data set.
        chosen: their numbers in it.
    """

    def __init__(self, whole: Dataset, chosen: Sequence[int]) -> None:
        super().__init__(whole.slices, whole.how, whole.role, cache_gb=0)
        self.whole, self.chosen = whole, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def _survey(self) -> Sequence[Seen]:
        survey = self.whole.survey
        return [survey[index] for index in self.chosen]

    def prepared(self, index: int, epoch: int | None = None) -> Scan:
        """One scan without its density."""
        return self.whole.prepared(self.chosen[index], epoch)

    def scan(self, index: int, epoch: int | None = None) -> Scan:
        """One prepared scan."""
        return self.whole.scan(self.chosen[index], epoch)


class AsTheyCome(Dataset):
    """Scans to reconstruct: nothing is held out where nothing can be, even if all scans are such."""

    def _how(self, scan: Scan) -> Preparation:
        how = super()._how(scan)
        if how.holdout > 0 and all_calibrates(undersample(scan, how)):
            return how.model_copy(update={"holdout": 0.0})
        return how


def with_something_hidden(targets: Dataset) -> Dataset:
    """Targets without the full ones that are shown whole, where there are others.

    Nothing of these can be held back for grading: all of a full scan calibrates, and its maps have seen it.
    """
    whole = {
        index
        for index, seen in enumerate(targets.survey)
        if seen.whole and seen.mask == seen.allowed and not seen.trajectory
    }
    others = [index for index in range(len(targets)) if index not in whole]
    return Part(targets, others) if whole and others else targets
