"""JSSL: targets learn from themselves, proxies from their references."""

from __future__ import annotations

from noref.errors import NorefError
from noref.methods.base import Method
from noref.methods.view import Losses, View, Views
from noref.networks.base import Estimate, Network
from noref.scan import Role, Scan, ScanBatch
from noref.seeding import Key


class Joint(Method):
    """One network, two kinds of scan at once (JSSL; Yiasemis et al., arXiv 2311.15856).

    Args:
        target: method for undersampled scans of the target anatomy.
        proxy: method for fully sampled scans of other anatomies.
        weight: λ, the weight of a target's loss; a proxy's is 1 − λ.
    """

    def __init__(self, target: Method, proxy: Method, weight: float = 0.5) -> None:
        super().__init__()
        if not 0 < weight <= 1:
            raise NorefError(f"Joint: weight is {weight}; give a share of the loss above 0 and up to 1")
        if proxy.stages > 1:
            raise NorefError("Joint: proxies have references and nothing to refine; refine the target")
        self.target, self.proxy, self.weight = target, proxy, weight
        self.stages = target.stages

    def view(self, scan: Scan, key: Key) -> list[View]:
        """The views of the method for the scan's role."""
        target = scan.role is Role.TARGET
        method, share = (self.target, self.weight) if target else (self.proxy, 1 - self.weight)
        return [view.scaled(share) for view in method.view(scan, key)]

    def loss(self, network: Network, views: Views, key: Key) -> Losses:
        """As the method for the scans' role does."""
        method = self.target if views.role is Role.TARGET else self.proxy
        return method.loss(network, views, key)

    def reconstruct(self, network: Network, batch: ScanBatch) -> Estimate:
        """As the targets' method does."""
        return self.target.reconstruct(network, batch)
