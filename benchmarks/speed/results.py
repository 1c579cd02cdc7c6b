"""The results as a file, in which rows are replaced one by one."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from noref.version import __version__

from .measure import Measured, Result
from .peers import versions

FOLDER = Path(__file__).parents[1] / "results" / "speed"


@dataclass
class Results:
    """What was measured on one kind of device.

    Attributes:
        device: `cpu` or `cuda`.
        noref: the version.
        machine: in words.
        versions: of torch and the peers.
        rows: by name.
        profile: of the paper-size vSHARP step: operator, calls, milliseconds of the device that computes.
        remarks: what a reader must know, written by hand; paragraphs.
    """

    device: str = "cpu"
    noref: str = ""
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    rows: dict[str, Result] = field(default_factory=dict)
    profile: list[tuple[str, int, float]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, device: str) -> Results:
        """From a file; empty if there is none."""
        if not path.exists():
            return cls(device)
        values: dict[str, Any] = json.loads(path.read_text())
        rows = {
            name: Result(**{**row, "sides": {side: Measured(**m) for side, m in row["sides"].items()}})
            for name, row in values.pop("rows").items()
        }
        return cls(rows=rows, **values)

    def here(self) -> None:
        """Notes machine and versions."""
        self.noref, self.machine, self.versions = __version__, machine(self.device), versions()

    def save(self, path: Path) -> None:
        """To a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_rounded(asdict(self)), indent=1, ensure_ascii=False) + "\n")


def _rounded(value: Any) -> Any:
    """Numbers to five digits, inside whatever holds them."""
    if isinstance(value, dict):
        return {key: _rounded(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inside) for inside in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def machine(device: str) -> str:
    """Processor and threads, or the name of the GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(named, platform.processor())}, {os.cpu_count()} cores"
