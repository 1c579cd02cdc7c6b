"""Networks: k-space and its encoding in, one complex image out."""

from noref.networks.admmcsnet import ADMMCSNet
from noref.networks.base import Estimate, Network
from noref.networks.istanet import ISTANet
from noref.networks.kikinet import KIKINet
from noref.networks.vsharp import VSHARP

NETWORKS: dict[str, type[Network]] = {
    "admmcsnet": ADMMCSNet,
    "istanet": ISTANet,
    "kikinet": KIKINet,
    "vsharp": VSHARP,
}
"""Names of the networks in configurations."""

__all__ = ["NETWORKS", "VSHARP", "ADMMCSNet", "Estimate", "ISTANet", "KIKINet", "Network"]
