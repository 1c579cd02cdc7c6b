"""Several partitions of every scan."""

from __future__ import annotations

from noref.errors import NorefError
from noref.methods.base import Around, Method
from noref.methods.view import View
from noref.scan import Scan
from noref.seeding import Key


class MultiMask(Around):
    """K views of every scan, each with its own partition (Yaman et al., arXiv 2008.06029).

    Args:
        inner: the method that draws one partition.
        k: number of partitions.
    """

    def __init__(self, inner: Method, k: int = 4) -> None:
        super().__init__(inner)
        if k < 1:
            raise NorefError(f"MultiMask: k is {k}; give at least one partition")
        self.k = k

    def view(self, scan: Scan, key: Key) -> list[View]:
        """K views; together they weigh as much as one."""
        return [v.scaled(1 / self.k) for k in range(self.k) for v in self.inner.view(scan, key.fold(k))]
