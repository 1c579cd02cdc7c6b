"""A data set on disk whose scans are prepared: reading one is mapping one piece of a file.

A folder of `store.json` (version, preparation, role), `index.npz` (what is known of every scan without its
k-space) and `scans/*.bin`, one for each volume, of a record for each slice. `store.json` is written last:
without it a folder is no store. It holds the SHA-256 of the index, and a random stamp with which each volume
begins: files of two stores do not mix. `noref.data.storing` writes it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noref.data.dataset import Dataset, Seen, densities
from noref.data.files import subject_of
from noref.data.prepare import Preparation
from noref.data.record import ALIGNED, get
from noref.errors import NorefError
from noref.formats.base import OnDemand, damaged
from noref.scan import Role, Scan

VERSION = 2
"""Of the layout."""

MANIFEST, INDEX, UNFINISHED = "store.json", "index.npz", "preparing.json"
"""Files of a store, and the one in whose place `MANIFEST` is not written yet."""


def is_store(path: str | Sequence[str]) -> bool:
    """Whether a path is a folder of a finished store.

    Raises:
        NorefError: if it is an unfinished one, or a list of several, and one of them is a store.
    """
    several = [path] if isinstance(path, str) else path
    for one in several:
        folder = Path(one).expanduser()
        if (folder / UNFINISHED).is_file() and not (folder / MANIFEST).is_file():
            raise NorefError(f"{folder}: not prepared to the end; give the same noref prepare again")
    stores = [one for one in several if (Path(one).expanduser() / MANIFEST).is_file()]
    if stores and len(several) > 1:
        raise NorefError(f"{stores[0]}: prepared scans, which nothing is added to; prepare all in one store")
    return bool(stores)


def open_store(path: str | Sequence[str], subjects: int | None = None) -> Store:
    """The store that a path, or a list of one, names.

    Args:
        path: see `is_store`.
        subjects: only the scans of so many subjects, in the order of their names.

    Raises:
        NorefError: as `Store` does.
    """
    return Store(Path(path if isinstance(path, str) else path[0]).expanduser(), subjects)


class Store(OnDemand):
    """The prepared scans of a folder, with their density.

    Args:
        folder: of a finished store.
        subjects: only the scans of so many subjects, in the order of their names.

    Raises:
        NorefError: if it is damaged, a newer version wrote it, or the system refuses to open its files.
    """

    def __init__(self, folder: Path, subjects: int | None = None) -> None:
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            self.version = int(manifest["version"])
            if self.version > VERSION:
                raise NorefError(
                    f"{folder}: a store of version {self.version}, and this noref reads up to {VERSION}; "
                    f"update to {manifest['noref']}, or prepare the scans again"
                )
            self.how = Preparation.model_validate(manifest["preparation"])
            self.role = Role(manifest["role"])
            self._stamp = str(manifest["stamp"]).encode()
            index = _load(folder / INDEX, manifest["index"])
            survey = _survey(index)
            kept = set(sorted({subject_of(seen.id) for seen in survey})[:subjects])
            chosen = [i for i, seen in enumerate(survey) if subject_of(seen.id) in kept]
            self.survey: Sequence[Seen] = [survey[i] for i in chosen]
            self._places = index["places"][chosen]
            if len(chosen) < len(survey):
                self.density = densities(self.survey)
            else:
                self.density = {
                    (density.shape[0], density.shape[1]): torch.from_numpy(density)
                    for name, density in index.items()
                    if name.startswith("density")
                }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(folder, error) from error
        self.ids = tuple(seen.id for seen in self.survey)

    def _read(self, index: int) -> Scan:
        number, start, length = (int(value) for value in self._places[index])
        path = volume_path(self.folder, number)
        page = start - start % mmap.ALLOCATIONGRANULARITY
        try:
            with path.open("rb", buffering=0) as file:
                if file.read(ALIGNED) != self._stamp:
                    raise NorefError(
                        f"{path}: not of the store that was opened; the folder was written anew since, or "
                        "holds files of several: open it again, or prepare the scans again"
                    )
                # Private: what is written to a scan's tensors stays in this process.
                mapped = mmap.mmap(file.fileno(), start - page + length, offset=page, access=mmap.ACCESS_COPY)
            if hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_WILLNEED)
            scan, _ = get(np.frombuffer(mapped, np.uint8)[start - page :])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(path, error) from error
        if scan.id != self.ids[index]:
            raise NorefError(f"{path}: holds {scan.id} for {self.ids[index]}; prepare the scans again")
        density = self.density[scan.shape] if scan.trajectory is None else scan.density
        return replace(scan, role=self.role, density=density)


class PreparedDataset(Dataset):
    """The scans of a store, as a data set of the same preparation would give them.

    Args:
        store: of prepared scans.
        how: must be how they were prepared.
        role: must be theirs.

    Raises:
        NorefError: naming the settings to give instead.
    """

    def __init__(self, store: Store, how: Preparation, role: Role) -> None:
        super().__init__(store, how, role, cache_gb=0)
        self._store = store
        asked, made = (
            {name: getattr(h, name) for name in Preparation.model_fields} for h in (how, store.how)
        )
        other = [f"{name}={value}" for name, value in made.items() if asked[name] != value]
        if other:
            raise NorefError(
                f"{store.folder}: prepared with {' '.join(other)}; give the same, or prepare the scans again"
            )
        if role is not store.role:
            raise NorefError(f"{store.folder}: prepared as {store.role}, not {role}; prepare the scans again")

    @cached_property
    def _survey(self) -> Sequence[Seen]:
        return self._store.survey

    def scan(self, index: int, epoch: int | None = None) -> Scan:
        """One scan; the same in every epoch."""
        del epoch
        return self._store[index]


def volume_path(folder: Path, number: int) -> Path:
    """The file of a volume."""
    return folder / "scans" / f"{number:06d}.bin"


def _unreadable(path: Path, error: Exception) -> NorefError:
    """Damage, unless the system refused: too many open files, or no memory, say nothing of the file."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        reason = error.strerror or str(error)
        return NorefError(
            f"{path}: cannot be read ({reason}); check its permissions, and limits by ulimit -a"
        )
    return damaged(path, error)


def _load(path: Path, digest: str) -> dict[str, NDArray[Any]]:
    """The arrays of an index with this SHA-256."""
    # First: what reading damaged archives raises is any of a dozen errors, or none.
    if digest_of(path) != digest:
        raise ValueError(f"{path.name} is not as it was written")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _survey(index: dict[str, NDArray[Any]]) -> list[Seen]:
    data, ends = index["mask_bytes"].tobytes(), index["mask_ends"].tolist()
    masks = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    columns = zip(
        index["ids"].tolist(),
        map(tuple, index["buckets"].tolist()),
        index["masks"].tolist(),
        index["full"].tolist(),
        index["trajectories"].tolist() if "trajectories" in index else repeat("", len(index["ids"])),
        strict=True,
    )
    return [
        Seen(name, bucket, masks[mask], masks[allowed], masks[padding], full, trajectory)
        for name, bucket, (mask, allowed, padding), full, trajectory in columns
    ]
