"""Loading one slice of 15 coils, 640×320: read, split, ready for the network, with maps."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import torch

from noref.data.dataset import Dataset
from noref.data.files import open_scans
from noref.data.prepare import Preparation
from noref.data.store import PreparedDataset, Store
from noref.data.storing import write_store
from noref.formats import fastmri
from noref.methods import Split
from noref.scan import Role, Scan
from noref.training.steps import Steps

from ..problem import Problem
from ..row import Row, Setting, Side, Work

_SLICES = 3
_PREPARATION = Preparation.model_validate({"holdout": 0})


def _file(setting: Setting, owner: str) -> Path:
    """An undersampled scan with its maps, as fastMRI lays files out; a folder for each side."""
    given = Problem((setting.size(320, 48), setting.size(640, 64)), setting.size(15, 3))
    path = setting.folder / owner / "scan.h5"
    path.parent.mkdir()
    fastmri.write(
        path,
        [
            Scan(
                f"object/scan/{index}",
                kspace=given.kspace * (1 + index),
                measured=given.mask,
                mask=given.mask,
                maps=given.maps[None],
            )
            for index in range(_SLICES)
        ],
    )
    return path


def _dataset(setting: Setting, owner: str) -> Dataset:
    return Dataset(open_scans(str(_file(setting, owner))), _PREPARATION, cache_gb=0)


def _steps(targets: Dataset) -> Work:
    """What a loading process does: a scan, divided into what is shown and what is graded, and stacked."""
    steps = Steps(Split(), targets, None, batch=1)
    numbers = cycle(range(_SLICES))

    def run() -> None:
        steps.step(next(numbers))

    return Work(run)


def _raw(setting: Setting) -> Work:
    return _steps(_dataset(setting, "raw"))


def _prepared(setting: Setting) -> Work:
    folder, dataset = setting.folder / "store", _dataset(setting, "prepared")
    write_store(folder, map(dataset.prepared, range(_SLICES)), _PREPARATION, Role.TARGET)
    return _steps(PreparedDataset(Store(folder), _PREPARATION, Role.TARGET))


def _fastmri(setting: Setting) -> Work:
    from fastmri.data import SliceDataset

    slices = SliceDataset(_file(setting, "fastmri").parent, "multicoil")
    numbers = cycle(range(_SLICES))
    return Work(lambda: slices[next(numbers)])


def _read(setting: Setting) -> Work:
    import h5py

    path, numbers = _file(setting, "read"), cycle(range(_SLICES))

    def run() -> None:
        with h5py.File(path) as file:
            torch.from_numpy(file["kspace"][next(numbers)])

    return Work(run)


_OTHERS = (
    Side("fastMRI", _fastmri, ("fastmri",), repeat=3, why="no split, no maps"),
    Side("k-space alone", _read, repeat=3, why="read by h5py, no more"),
)
_RECORDED = {"DIRECT": 237, "fastMRI": 16, "k-space alone": 1.3}

ROWS = (
    Row(
        "load",
        "loading one slice, 15 coils 640×320, with split and maps, from a prepared store",
        (Side("noref", _prepared, repeat=3), *_OTHERS),
        target=8,
        recorded=_RECORDED,
        quick=True,
    ),
    Row(
        "load-raw",
        "loading one slice, 15 coils 640×320, with split and maps, from a raw file with maps",
        (Side("noref", _raw, repeat=3), *_OTHERS),
        target=40,
        recorded=_RECORDED,
    ),
)
