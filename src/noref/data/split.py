"""Training, validation and test scans of one folder: every subject in one part alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from noref.errors import NorefError
from noref.seeding import Key

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Split:
    """One part of a data set, all scans of a subject in it or none.

    Subjects are ordered by a number drawn for each by its name, `Key(seed, subject, "split")`, and the order
    is cut by the shares, each rounded up to one subject at least. So a part is the same whatever the order of
    files, and subjects that come in later move only those at the cuts.

    Attributes:
        part: which.
        shares: of `train`, `validation` and `test` among the subjects.
        seed: of the data set.
    """

    part: Part
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0

    def of(self, subjects: Iterable[str]) -> set[str]:
        """The subjects of the part.

        Raises:
            NorefError: if there are fewer subjects than parts, or the part has no share.
        """
        names = sorted(set(subjects))
        wanted = [share > 0 for share in self.shares]
        number = PARTS.index(self.part)
        if not wanted[number] or len(names) < sum(wanted):
            raise NorefError(
                f"split={self.part}: none of {len(names)} subjects is left for it; give more scans, or other "
                "shares"
            )
        drawn = sorted(names, key=lambda name: (Key(self.seed, name, "split").entropy(), name))
        counts = _counts(len(names), self.shares)
        start = sum(counts[:number])
        return set(drawn[start : start + counts[number]])


def _counts(total: int, shares: tuple[float, ...]) -> list[int]:
    """Whole numbers that add up to `total`, nearest the shares, and one at least where a share is not 0."""
    counts = [max(int(total * share), int(share > 0)) for share in shares]
    while sum(counts) != total:
        step = 1 if sum(counts) < total else -1
        # Where most is missing, or most is too much, of what may become less.
        free = [i for i, share in enumerate(shares) if share > 0 and (step > 0 or counts[i] > 1)]
        counts[max(free, key=lambda i: step * (total * shares[i] - counts[i]))] += step
    return counts
