"""A data set on disk whose scans are prepared: reading one is mapping one piece of a file.

A folder of `store.json` (version, preparation, role), `index.npz` (what is known of every scan without its
k-space) and `scans/*.bin`, one for each volume. A scan in it is a line of JSON and its arrays, end to end, so
that nothing is copied or computed. `store.json` is written last: without it a folder is no store. It holds
the SHA-256 of the index, and a random stamp with which each volume begins: files of two stores do not mix.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.data.dataset import Dataset, Seen, densities, volume_of
from noref.data.files import subject_of
from noref.data.prepare import Preparation
from noref.errors import NorefError
from noref.files import whole
from noref.formats.base import OnDemand, damaged
from noref.scan import Header, Role, Scan
from noref.version import __version__

VERSION = 1
"""Of the layout."""

_ALIGNED = 64
"""Bytes to whose multiples arrays begin; a stamp is as long."""


def is_store(path: str | Sequence[str]) -> bool:
    """Whether a path is a folder that `write_store` has finished.

    Raises:
        NorefError: if it is a list of several, and one of them is.
    """
    several = [path] if isinstance(path, str) else path
    stores = [one for one in several if (Path(one).expanduser() / "store.json").is_file()]
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


@dataclass(frozen=True)
class Written:
    """A scan in a store.

    Attributes:
        seen: what is known of it.
        place: its volume's number, and its first byte and length in that volume's file.
    """

    seen: Seen
    place: tuple[int, int, int]


def write_store(folder: Path | str, scans: Iterable[Scan], how: Preparation, role: Role) -> None:
    """Writes prepared scans as a store.

    Args:
        folder: new or empty.
        scans: as `Dataset.prepared` gives them, each asked for once; those of a volume one after the other.
        how: they were prepared.
        role: of all of them.

    Raises:
        NorefError: as `begin_store` and `finish_store` do.
    """
    folder = Path(folder)
    stamp = begin_store(folder, how, role)
    volumes = (volume for _, volume in groupby(scans, key=lambda scan: volume_of(scan.id)))
    finish_store(folder, stamp, write_volumes(folder, stamp, enumerate(volumes)), how, role)


def begin_store(folder: Path, how: Preparation, role: Role) -> str:
    """The stamp of a new store.

    Raises:
        NorefError: if the folder holds anything, or masks are drawn anew each epoch.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NorefError(f"{folder}: already holds files; name a new folder, or empty this one")
    if how.redraw and role is Role.PROXY:
        raise NorefError("redraw=true: a store holds one mask of every scan; prepare with redraw=false")
    return secrets.token_hex(_ALIGNED // 2)


def write_volumes(folder: Path, stamp: str, volumes: Iterable[tuple[int, Iterable[Scan]]]) -> list[Written]:
    """Writes some volumes of a store: all, or one process's share of them.

    If this fails none of them is left.

    Args:
        folder: of the store.
        stamp: from `begin_store`.
        volumes: their numbers, each given once, and their prepared scans.
    """
    written, once = list[Written](), dict[bytes, bytes]()
    started = set[int]()
    try:
        for number, scans in volumes:
            started.add(number)
            with whole(_volume(folder, number)) as temporary, temporary.open("wb") as file:
                file.write(stamp.encode())
                for scan in scans:
                    start = file.tell()
                    _put(file, scan)
                    written.append(Written(Seen.of(scan, once), (number, start, file.tell() - start)))
    except BaseException:
        discard(folder, started)
        raise
    return written


def discard(folder: Path, numbers: Iterable[int]) -> None:
    """Removes volumes of a store that will not be finished, and the folders that are empty then."""
    for number in numbers:
        _volume(folder, number).unlink(missing_ok=True)
    for empty in (folder / "scans", folder):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()


def finish_store(folder: Path, stamp: str, written: Iterable[Written], how: Preparation, role: Role) -> None:
    """Makes a store of its volumes.

    Args:
        folder: of the store.
        stamp: of it.
        written: all of its scans, in any order.
        how: they were prepared.
        role: of all of them.

    Raises:
        NorefError: if there are none, two have the same id, or the file system refuses.
    """
    scans = sorted(written, key=lambda scan: scan.place)
    if not scans:
        raise NorefError(f"{folder}: there is no scan to write")
    if len({scan.seen.id for scan in scans}) < len(scans):
        raise NorefError(f"{folder}: two scans have the same id; rename a file, or leave it out")
    with whole(folder / "index.npz") as temporary:
        with temporary.open("wb") as file:
            np.savez(file, **_index([scan.seen for scan in scans], [scan.place for scan in scans]))
        digest = _digest(temporary)
    manifest = {
        "format": "noref store",
        "version": VERSION,
        "noref": __version__,
        "role": role,
        "scans": len(scans),
        "stamp": stamp,
        "index": digest,
        "preparation": how.model_dump(mode="json", include=set(Preparation.model_fields)),
    }
    with whole(folder / "store.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


class Store(OnDemand):
    """The prepared scans of a folder, with their density.

    Args:
        folder: that `write_store` wrote.
        subjects: only the scans of so many subjects, in the order of their names.

    Raises:
        NorefError: if it is damaged, a newer version wrote it, or the system refuses to open its files.
    """

    def __init__(self, folder: Path, subjects: int | None = None) -> None:
        self.folder = folder
        try:
            manifest = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            self.version = int(manifest["version"])
            if self.version > VERSION:
                raise NorefError(
                    f"{folder}: a store of version {self.version}, and this noref reads up to {VERSION}; "
                    f"update to {manifest['noref']}, or prepare the scans again"
                )
            self.how = Preparation.model_validate(manifest["preparation"])
            self.role = Role(manifest["role"])
            self._stamp = str(manifest["stamp"]).encode()
            index = _load(folder / "index.npz", manifest["index"])
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
        path = _volume(self.folder, number)
        page = start - start % mmap.ALLOCATIONGRANULARITY
        try:
            with path.open("rb", buffering=0) as file:
                if file.read(_ALIGNED) != self._stamp:
                    raise NorefError(
                        f"{path}: not of the store that was opened; the folder was written anew since, or "
                        "holds files of several: open it again, or prepare the scans again"
                    )
                # Private: what is written to a scan's tensors stays in this process.
                mapped = mmap.mmap(file.fileno(), start - page + length, offset=page, access=mmap.ACCESS_COPY)
            if hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_WILLNEED)
            scan = _get(np.frombuffer(mapped, np.uint8)[start - page :])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(path, error) from error
        if scan.id != self.ids[index]:
            raise NorefError(f"{path}: holds {scan.id} for {self.ids[index]}; prepare the scans again")
        return replace(scan, role=self.role, density=self.density[scan.shape])


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


def _volume(folder: Path, number: int) -> Path:
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
    if _digest(path) != digest:
        raise ValueError(f"{path.name} is not as it was written")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(file: BinaryIO, scan: Scan) -> None:
    """Appends one scan: the length of its description, this as JSON, its arrays."""
    tensors = {f.name: getattr(scan, f.name) for f in fields(scan) if f.name != "density"}
    arrays = {
        name: tensor.resolve_conj().contiguous().numpy()
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)
    }
    described = {
        "id": scan.id,
        "scale": [scan.scale.real, scan.scale.imag],
        "raw": scan.raw,
        "header": asdict(scan.header),
        "arrays": [[name, array.dtype.str, array.shape] for name, array in arrays.items()],
    }
    text = json.dumps(described).encode()
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        file.write(bytes(-file.tell() % _ALIGNED))
        file.write(array.data)
    file.write(bytes(-file.tell() % _ALIGNED))


def _get(record: NDArray[np.uint8]) -> Scan:
    """The scan in the bytes that `_put` wrote; its tensors are these bytes."""
    position = 8 + int.from_bytes(record[:8].tobytes(), "little")
    described = json.loads(record[8:position].tobytes())
    tensors: dict[str, Any] = {}
    for name, dtype, shape in described["arrays"]:
        position += -position % _ALIGNED
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        tensors[name] = torch.from_numpy(record[position : position + size].view(dtype).reshape(shape))
        position += size
    header = Header(**{name: _tuples(value) for name, value in described["header"].items()})
    scale = complex(*described["scale"])
    return Scan(id=described["id"], scale=scale, raw=described["raw"], header=header, **tensors)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _index(survey: Sequence[Seen], places: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """The survey as arrays: every mask once, and its number for each scan."""
    numbers: dict[bytes, int] = {}
    masks = [
        [numbers.setdefault(mask, len(numbers)) for mask in (seen.mask, seen.allowed, seen.padding)]
        for seen in survey
    ]
    density = {f"density {ky}x{kx}": of.numpy() for (ky, kx), of in densities(survey).items()}
    return {
        "ids": np.array([seen.id for seen in survey]),
        "buckets": np.array([seen.bucket for seen in survey]),
        "full": np.array([seen.full for seen in survey]),
        "masks": np.array(masks),
        "mask_ends": np.cumsum([len(mask) for mask in numbers]),
        "mask_bytes": np.frombuffer(b"".join(numbers), np.uint8),
        "places": np.array(places),
        **density,
    }


def _survey(index: dict[str, NDArray[Any]]) -> list[Seen]:
    data, ends = index["mask_bytes"].tobytes(), index["mask_ends"].tolist()
    masks = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    columns = zip(
        index["ids"].tolist(),
        map(tuple, index["buckets"].tolist()),
        index["masks"].tolist(),
        index["full"].tolist(),
        strict=True,
    )
    return [
        Seen(name, bucket, masks[mask], masks[allowed], masks[padding], full)
        for name, bucket, (mask, allowed, padding), full in columns
    ]
