"""Networks: k-space and its encoding in, one complex image out."""

from noref.networks.admmcsnet import ADMMCSNet
from noref.networks.base import Estimate, Network
from noref.networks.istanet import ISTANet
from noref.networks.kikinet import KIKINet

NETWORKS: dict[str, type[Network]] = {"admmcsnet": ADMMCSNet, "istanet": ISTANet, "kikinet": KIKINet}
"""Names of the networks in configurations."""

__all__ = ["NETWORKS", "ADMMCSNet", "Estimate", "ISTANet", "KIKINet", "Network"]
