"""A data set whose scans are prepared, in a folder or on object storage: reading one is reading one record.

A store is `store.json` (version, preparation, role), `index.npz` (what is known of every scan without its
k-space) and `scans/`, its volumes, of a record for each slice; how these lie is its storage's to know, see
`storage_at`. `store.json` is written last: without it there is no store. It holds the SHA-256 of the index,
and a random stamp that each volume bears: files of two stores do not mix. `noref.data.storing` writes it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from noref.data.dataset import Dataset
from noref.data.files import subject_of, subjects_of
from noref.data.folder import Folder
from noref.data.prepare import Preparation
from noref.data.record import get
from noref.data.seen import Seen, densities
from noref.data.split import Split
from noref.data.storage import INDEX, MANIFEST, UNFINISHED, Storage
from noref.data.zarr import SUFFIX, ZarrFolder, ZarrObjects
from noref.errors import NorefError
from noref.formats.base import OnDemand, damaged
from noref.scan import Role, Scan

VERSION = 3
"""Of the layout."""


def storage_at(path: Path | str) -> Storage:
    """Where a store of this path lies, or would.

    A URL that fsspec knows, such as `s3://bucket/name`, is a Zarr on object storage; a folder that is called
    `….zarr`, or holds one, is a Zarr too; any other path is a plain folder.

    Raises:
        NorefError: if the extra that it needs is not installed.
    """
    if is_url(path):
        return ZarrObjects(str(path))
    folder = Path(path).expanduser()
    if folder.suffix == SUFFIX or (folder / "zarr.json").exists():
        return ZarrFolder(folder)
    return Folder(folder)


def is_url(path: Path | str) -> bool:
    """Whether a path is one of object storage."""
    return isinstance(path, str) and "://" in path


def is_store(path: str | Sequence[str]) -> bool:
    """Whether a path is that of a finished store.

    Raises:
        NorefError: if it is an unfinished one, a URL without a store, or a list of several, and one of them
            is a store.
    """
    several = [path] if isinstance(path, str) else path
    stores = []
    for one in several:
        storage = storage_at(one)
        if storage.has(MANIFEST):
            stores.append(one)
        elif storage.has(UNFINISHED):
            raise NorefError(f"{one}: not prepared to the end; give the same noref prepare again")
        elif is_url(one):
            raise NorefError(f"{one}: no prepared scans there; copy raw files to a folder, and name that")
    if stores and len(several) > 1:
        raise NorefError(f"{stores[0]}: prepared scans, which nothing is added to; prepare all in one store")
    return bool(stores)


def open_store(path: str | Sequence[str], subjects: int | None = None, split: Split | None = None) -> Store:
    """The store that a path, or a list of one, names.

    Args:
        path: see `is_store`.
        subjects: only the scans of so many subjects, in the order of their names.
        split: only those of a part of the subjects.

    Raises:
        NorefError: as `Store` does.
    """
    return Store(path if isinstance(path, str) else path[0], subjects, split)


class Store(OnDemand):
    """The prepared scans of a folder or a URL, with their density.

    Args:
        path: of a finished store, see `storage_at`.
        subjects: only the scans of so many subjects, in the order of their names.
        split: only those of a part of the subjects.

    Raises:
        NorefError: if it is damaged, a newer version wrote it, or the system refuses to open its files.
    """

    def __init__(self, path: Path | str, subjects: int | None = None, split: Split | None = None) -> None:
        self.storage = storage_at(path)
        self.path = self.storage.path
        try:
            manifest = json.loads(self.storage.read(MANIFEST))
            self.version = int(manifest["version"])
            if self.version > VERSION:
                raise NorefError(
                    f"{self.path}: a store of version {self.version}, and this noref reads up to {VERSION}; "
                    f"update to {manifest['noref']}, or prepare the scans again"
                )
            self.how = Preparation.model_validate(manifest["preparation"])
            self.role = Role(manifest["role"])
            self._stamp = str(manifest["stamp"])
            content = self.storage.read(INDEX)
            # First: what reading damaged archives raises is any of a dozen errors, or none.
            if hashlib.sha256(content).hexdigest() != manifest["index"]:
                raise ValueError(f"{INDEX} is not as it was written")
            index = arrays_of(content)
            survey = survey_of(index, {})
            kept = subjects_of((seen.id for seen in survey), subjects, split)
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
            raise _unreadable(self.path, error) from error
        self.ids = tuple(seen.id for seen in self.survey)

    def _read(self, index: int) -> Scan:
        number, start, length = (int(value) for value in self._places[index])
        name = f"{self.path}/{self.storage.volume_name(number)}"
        try:
            scan, _ = get(self.storage.record((number, start, length), self._stamp))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(name, error) from error
        if scan.id != self.ids[index]:
            raise NorefError(f"{name}: holds {scan.id} for {self.ids[index]}; prepare the scans again")
        density = self.density[scan.shape] if scan.trajectory is None else scan.density
        return replace(scan, role=self.role, density=density)


How = TypeVar("How", bound=Preparation)


def as_prepared(how: How, made: Preparation) -> How:
    """Settings as they are, and those of a preparation where they say nothing."""
    unsaid = Preparation.model_fields.keys() - how.model_fields_set
    return how.model_copy(update={name: getattr(made, name) for name in unsaid})


class PreparedDataset(Dataset):
    """The scans of a store, as a data set of the same preparation would give them.

    Args:
        store: of prepared scans.
        how: what is said in it must be how they were prepared.
        role: must be theirs.

    Raises:
        NorefError: naming the settings to give instead.
    """

    def __init__(self, store: Store, how: Preparation, role: Role) -> None:
        how = as_prepared(how, store.how)
        super().__init__(store, how, role, cache_gb=0)
        self._store = store
        asked, made = (
            {name: getattr(h, name) for name in Preparation.model_fields} for h in (how, store.how)
        )
        other = [f"{name}={value}" for name, value in made.items() if asked[name] != value]
        if other:
            raise NorefError(
                f"{store.path}: prepared with {' '.join(other)}; give the same, or prepare the scans again"
            )
        if role is not store.role:
            raise NorefError(f"{store.path}: prepared as {store.role}, not {role}; prepare the scans again")

    @cached_property
    def _survey(self) -> Sequence[Seen]:
        return self._store.survey

    def scan(self, index: int, epoch: int | None = None) -> Scan:
        """One scan; the same in every epoch."""
        del epoch
        return self._store[index]


def _unreadable(path: str, error: Exception) -> NorefError:
    """Damage, unless the system refused: too many open files, or no memory, say nothing of the file."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        reason = error.strerror or str(error)
        return NorefError(
            f"{path}: cannot be read ({reason}); check its permissions, and limits by ulimit -a"
        )
    return damaged(path, error)


def arrays_of(index: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an index."""
    with np.load(io.BytesIO(index), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def survey_of(index: dict[str, NDArray[Any]], once: dict[bytes, bytes]) -> list[Seen]:
    """What an index knows of every scan; masks that were seen `once` already are not kept again."""
    data, ends = index["mask_bytes"].tobytes(), index["mask_ends"].tolist()
    cut = (data[start:end] for start, end in zip([0, *ends], ends, strict=False))
    masks = [once.setdefault(mask, mask) for mask in cut]
    columns = zip(
        index["ids"].tolist(),
        map(tuple, index["buckets"].tolist()),
        index["masks"].tolist(),
        index["full"].tolist(),
        index["trajectories"].tolist() if "trajectories" in index else repeat("", len(index["ids"])),
        index["raw"].tolist() if "raw" in index else repeat(None, len(index["ids"])),
        strict=True,
    )
    return [
        Seen(name, bucket, masks[mask], masks[allowed], masks[padding], full, trajectory, raw)
        for name, bucket, (mask, allowed, padding), full, trajectory, raw in columns
    ]
