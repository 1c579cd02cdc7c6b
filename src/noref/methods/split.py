"""SSDU: self-supervision by data undersampling."""

from __future__ import annotations

from noref.methods.base import Method, consistent
from noref.methods.view import View
from noref.networks.base import Estimate, Network
from noref.sampling.partition import Partition
from noref.scan import Scan, ScanBatch
from noref.seeding import Key


class Split(Method):
    """The network sees Θ and is graded on Λ (SSDU; Yaman et al., MRM 2020, 84:3172, eq. 5).

    Args:
        partition: divides Ω into Θ and Λ, drawn anew each epoch.
    """

    def __init__(self, partition: Partition = Partition(weight="gaussian")) -> None:  # noqa: B008 - frozen
        super().__init__()
        self.partition = partition

    def view(self, scan: Scan, key: Key) -> list[View]:
        """One view: Θ shown, Λ graded."""
        theta, lam = self.partition(scan, key)
        return [View(scan, shown=theta, goal=scan.kspace, weight=lam, density=scan.density)]

    def reconstruct(self, network: Network, batch: ScanBatch) -> Estimate:
        """The network's image with the samples of Ω put back, `Aᴴ(y_Ω + (1 − Ω) F S x̂)`.

        What is shown is never graded: where the whole ACS is protected, nothing else holds the network to the
        low frequencies.
        """
        return consistent(super().reconstruct(network, batch), batch)
