"""Several partitions of every scan."""

from __future__ import annotations

from noref.errors import NorefError
from noref.methods.base import Method, View
from noref.networks.base import Estimate, Network
from noref.scan import Scan, ScanBatch
from noref.seeding import Key


class MultiMask(Method):
    """K views of every scan, each with its own partition (Yaman et al., arXiv 2008.06029).

    Args:
        inner: the method that draws one partition.
        k: number of partitions.
    """

    def __init__(self, inner: Method, k: int = 4) -> None:
        super().__init__()
        if k < 1:
            raise NorefError(f"MultiMask: k is {k}; give at least one partition")
        self.inner, self.k, self.stages = inner, k, inner.stages

    def view(self, scan: Scan, key: Key) -> list[View]:
        """K views; together they weigh as much as one."""
        return [v.scaled(1 / self.k) for k in range(self.k) for v in self.inner.view(scan, key.fold(k))]

    def reconstruct(self, network: Network, batch: ScanBatch) -> Estimate:
        """As the inner method does."""
        return self.inner.reconstruct(network, batch)
