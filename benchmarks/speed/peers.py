"""What peers need before they can be imported, and which of them are here."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib import metadata
from typing import Any

import torch

PEERS = ("deepinv", "fastmri", "sigpy", "monai", "scikit-image", "mrpro")
"""As the registry names them."""

_OPERATORS: list[torch.library.Library] = []
"""Kept, since a library's operators vanish with it."""


def prepare_torchvision() -> None:
    """Has torchvision import where its compiled part does not fit torch, such as the build for CPUs.

    DeepInverse and MRpro import it and use none of its operators; it only wants to find two of them.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except (RuntimeError, ImportError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call] # PyTorch's
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _OPERATORS.append(library)


def versions() -> dict[str, str]:
    """Of torch and of every peer, `absent` where it is not installed."""
    found = {"torch": str(torch.__version__)}
    for name in PEERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    try:
        asked = subprocess.run(["bart", "version"], capture_output=True, text=True, check=True)
        found["BART"] = asked.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["BART"] = "absent"
    return found
