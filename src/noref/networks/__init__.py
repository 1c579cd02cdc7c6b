"""Networks: k-space and its encoding in, one complex image out."""

from noref.networks.base import Estimate, Network
from noref.networks.istanet import ISTANet

NETWORKS: dict[str, type[Network]] = {"istanet": ISTANet}
"""Names of the networks in configurations."""

__all__ = ["NETWORKS", "Estimate", "ISTANet", "Network"]
