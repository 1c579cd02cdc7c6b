"""Tiny scans as files, for what starts from a configuration."""

from __future__ import annotations

from pathlib import Path

from synthetic import scan, undersampled

import noref
from noref.config import Config, load_config
from noref.formats import fastmri

TINY = (
    "network={name: istanet, phases: 1, features: 2}",
    "training.epochs=1",
    "training.batch=2",
    "training.log_every=1",
    "training.device=cpu",
)
"""Overrides that make any recipe a matter of a second."""


def write_targets(folder: Path, count: int = 2) -> Path:
    """Undersampled scans with maps, each of a subject of its own."""
    folder.mkdir()
    for i in range(count):
        slices = [undersampled(scan((20, 16), 2, seed=i, noise=0.01), "random2d", 2, 4)]
        fastmri.write(folder / f"target{i}.h5", slices)
    return folder


def write_proxies(folder: Path, count: int = 2) -> Path:
    """Full scans with maps."""
    folder.mkdir()
    for i in range(count):
        fastmri.write(folder / f"proxy{i}.h5", [scan((20, 16), 2, seed=100 + i, noise=0.01)])
    return folder


def tiny(recipe: str, folder: Path, *overrides: str) -> Config:
    """A recipe made tiny, with the data and the model it needs, that trains into `folder/run`."""
    given = [*TINY, f"output={folder / 'run'}"]
    full = ["mask=random2d", "acceleration=2", "acs=4"]
    shipped = load_config(recipe, ["data.target.path=unknown", "data.proxy.path=unknown"])
    method = shipped.method["name"]
    if recipe == "supervised":
        path = write_proxies(folder / "full")
        given += [f"data.target.{setting}" for setting in ("holdout=0.1", f"path={path}", *full)]
    else:
        scans = "validation" if recipe == "supervised-proxy" else "target"
        path = write_targets(folder / "targets")
        given += [f"data.{scans}.{setting}" for setting in (f"path={path}", "holdout=0.1")]
    if shipped.init is not None:
        (folder / "before").mkdir()
        given += [f"init={noref.train(tiny('supervised-proxy', folder / 'before'))}"]
    if method == "robust":
        # Too few samples to estimate it from.
        given.append("method.sigma=0.01")
    if method == "joint" or recipe == "supervised-proxy":
        path = write_proxies(folder / "proxies")
        given += [f"data.proxy.{setting}" for setting in (f"path={path}", *full)]
    return load_config(recipe, [*given, *overrides])
