"""Networks: k-space and its encoding in, one complex image out."""

from noref.networks.admmcsnet import ADMMCSNet
from noref.networks.base import Estimate, Network
from noref.networks.istanet import ISTANet
from noref.networks.kikinet import KIKINet
from noref.networks.modl import MoDL
from noref.networks.ssdunet import SSDUNet
from noref.networks.unet import ImageUNet
from noref.networks.varnet import VarNet
from noref.networks.vsharp import VSHARP

NETWORKS: dict[str, type[Network]] = {
    "admmcsnet": ADMMCSNet,
    "istanet": ISTANet,
    "kikinet": KIKINet,
    "modl": MoDL,
    "ssdunet": SSDUNet,
    "unet": ImageUNet,
    "varnet": VarNet,
    "vsharp": VSHARP,
}
"""Names of the networks in configurations."""

__all__ = [
    "NETWORKS",
    "VSHARP",
    "ADMMCSNet",
    "Estimate",
    "ISTANet",
    "ImageUNet",
    "KIKINet",
    "MoDL",
    "Network",
    "SSDUNet",
    "VarNet",
]
