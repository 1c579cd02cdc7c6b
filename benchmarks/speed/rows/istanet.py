"""The step of ISTA-Net+, one coil as published."""

from __future__ import annotations

from noref.networks import ISTANet

from ..row import Row, Setting
from ..steps import network_sides


def _istanet(setting: Setting) -> ISTANet:
    return ISTANet(phases=setting.size(9, 2), features=setting.size(32, 4))


ROWS = (
    Row(
        "istanet",
        "ISTA-Net+ 9×32, one coil, step",
        network_sides(_istanet, coils=1),
        target=1160,
        aim="bf16 ≤ 1050",
        recorded={"authors' code": 1615},
        quick=True,
    ),
)
