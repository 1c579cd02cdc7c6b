"""Writing a store of prepared scans: volume by volume, by one process or several, now or later."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from noref.data.files import volume_of
from noref.data.prepare import Preparation
from noref.data.record import ALIGNED
from noref.data.seen import Seen, densities
from noref.data.storage import INDEX, MANIFEST, PARTS, UNFINISHED, Place, Storage
from noref.data.store import VERSION, arrays_of, storage_at, survey_of
from noref.errors import NorefError
from noref.files import is_temporary
from noref.scan import Role, Scan
from noref.version import __version__

PATIENCE = 30.0
"""Seconds that a process waits for another one to begin a store anew."""


class _Nothing(Exception):
    """A volume of no scans."""


@dataclass(frozen=True)
class Written:
    """A scan in a store.

    Attributes:
        seen: what is known of it.
        place: of its record.
    """

    seen: Seen
    place: Place


def write_store(path: Path | str, scans: Iterable[Scan], how: Preparation, role: Role) -> None:
    """Writes prepared scans as a store.

    Args:
        path: new or empty, see `storage_at`.
        scans: as `Dataset.prepared` gives them, each asked for once; those of a volume one after the other.
        how: they were prepared.
        role: of all of them.

    Raises:
        NorefError: as `begin_store` and `finish_store` do.
    """
    storage, once = storage_at(path), dict[bytes, bytes]()
    stamp, written = begin_store(storage, how, role), list[Written]()
    for number, (_, volume) in enumerate(groupby(scans, key=lambda scan: volume_of(scan.id))):
        written += write_volume(storage, stamp, number, volume, once)
    finish_store(storage, stamp, written, how, role)


def begin_store(storage: Storage, how: Preparation, role: Role, ids: Sequence[str] = ()) -> str:
    """The stamp of a new store, or of one that was begun by the same call and not finished.

    Several processes may begin the same store at once. One that was begun by another call is begun anew if
    none of its volumes is finished.

    Args:
        storage: new, empty, or of that store.
        how: its scans are prepared.
        role: of all of them.
        ids: of all of them, and how they are read; without any, an unfinished store is not gone on with.

    Raises:
        NorefError: if the storage holds anything else, or masks are drawn anew each epoch.
    """
    if how.redraw and role is Role.PROXY:
        raise NorefError("redraw=true: a store holds one mask of every scan; prepare with redraw=false")
    begun = {
        "version": VERSION,
        "role": role,
        "preparation": _settings(how),
        "scans": _digest(ids),
    }
    if ids and _is_begun(storage):
        return _joined(storage, begun)
    try:
        storage.check_free()
    except NorefError:
        # Another process may have begun it in between.
        if ids and _is_begun(storage):
            return _joined(storage, begun)
        raise
    stamp = secrets.token_hex(ALIGNED // 2)
    if storage.create(UNFINISHED, _json({"stamp": stamp, **begun})):
        return stamp
    return _joined(storage, begun)


def is_finished(storage: Storage, how: Preparation, role: Role, ids: Sequence[str]) -> bool:
    """Whether the store that the same call of `begin_store` would begin is there, whole.

    Args:
        storage: of the store.
        how: its scans are prepared.
        role: of all of them.
        ids: of all of them, and how they are read.
    """
    if not storage.has(MANIFEST):
        return False
    try:
        made = json.loads(storage.read(MANIFEST))
        told = [made.get(name) for name in ("version", "role", "preparation", "input")]
    except (OSError, ValueError, AttributeError):
        return False
    return told == [VERSION, role, json.loads(_json(_settings(how))), _digest(ids)]


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def _is_begun(storage: Storage) -> bool:
    return storage.has(UNFINISHED) and not storage.has(MANIFEST)


def _joined(storage: Storage, begun: dict[str, Any]) -> str:
    """The stamp of a store that is not finished, if it was begun like this, or none of it is there yet."""
    stamp, before = _begun(storage)
    if before != begun and (_any_volume(storage, stamp) or _is_written(storage)):
        raise NorefError(
            f"{storage.path}: begun with other scans or settings; give those, another output, or remove it"
        )
    storage.sweep()
    return stamp if before == begun else _anew(storage, stamp, begun)


def _begun(storage: Storage) -> tuple[str, dict[str, Any]]:
    """The stamp of a store that is not finished, and what it is made of."""
    try:
        begun = json.loads(storage.read(UNFINISHED))
        return str(begun.pop("stamp")), begun
    except (OSError, ValueError, KeyError, AttributeError):
        raise NorefError(
            f"{storage.path}/{UNFINISHED}: damaged; remove {storage.path} and prepare the scans again"
        ) from None


def _any_volume(storage: Storage, stamp: str) -> bool:
    """Whether a volume of a store is finished."""
    parts = (Path(name) for name in storage.listed(PARTS))
    return any(storage.has_volume(int(part.stem), stamp) for part in parts if part.suffix == ".npz")


def _is_written(storage: Storage) -> bool:
    """Whether a process that lives is writing a volume, as far as can be told."""
    storage.sweep()
    return any(map(is_temporary, storage.listed("scans")))


def _anew(storage: Storage, before: str, begun: dict[str, Any]) -> str:
    """The stamp of a store that takes the place of one of which nothing is there."""
    claim = f"{PARTS}/{before}"
    if not storage.create(claim, b""):
        # Of several processes that come to this at once, the others join the first, unless it died here.
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if _is_begun(storage) and _begun(storage)[0] != before:
                return _joined(storage, begun)
            time.sleep(0.1)
    storage.remove("scans")
    stamp = secrets.token_hex(ALIGNED // 2)
    storage.write(UNFINISHED, _json({"stamp": stamp, **begun}))
    return stamp


def abandon_store(storage: Storage, stamp: str) -> None:
    """Leaves nothing of a store that was begun, unless a volume is finished, or another process goes on.

    Args:
        storage: of the store.
        stamp: from `begin_store`.
    """
    mine = _is_begun(storage) and _begun(storage)[0] == stamp
    if mine and not (_any_volume(storage, stamp) or _is_written(storage)):
        storage.clear()


def write_volume(
    storage: Storage, stamp: str, number: int, scans: Iterable[Scan], once: dict[bytes, bytes]
) -> list[Written]:
    """Writes one volume of a store, unless it is there already: then its scans are not asked for.

    Several processes may write the same one: the last replaces what is the same. Of a volume of no scans it
    is written down that there are none.

    Args:
        storage: of the store.
        stamp: from `begin_store`.
        number: of the volume, from 0.
        scans: prepared.
        once: masks that were seen already, which are not kept again.

    Raises:
        NorefError: if the storage refuses, or the store was begun anew in between.
    """
    if storage.has_volume(number, stamp) and storage.has(_part(number)):
        return _there(storage.read(_part(number)), once)
    written: list[Written] = []
    with suppress(_Nothing), storage.volume(number, stamp) as add:
        for scan in scans:
            written.append(Written(Seen.of(scan, once), add(scan)))
        if _is_begun(storage) and _begun(storage)[0] != stamp:
            raise NorefError(f"{storage.path}: begun anew by another call; name another output for this one")
        # Before the volume: one that is there is not looked at again.
        storage.write(_part(number), _index(written))
        if not written:
            raise _Nothing
    return written


def _part(number: int) -> str:
    return f"{PARTS}/{number:06d}.npz"


def written_store(storage: Storage, stamp: str, volumes: int) -> list[Written] | None:
    """The scans of all volumes of a store that is not finished; None unless all are there.

    Args:
        storage: of the store.
        stamp: from `begin_store`.
        volumes: of how many.
    """
    found, once = list[Written](), dict[bytes, bytes]()
    for number in range(volumes):
        if not storage.has(_part(number)):
            return None
        try:
            scans = _there(storage.read(_part(number)), once)
        except FileNotFoundError:  # another process has finished it
            return None
        if scans and not storage.has_volume(number, stamp):
            return None
        found += scans
    return found


def finish_store(
    storage: Storage,
    stamp: str,
    written: Iterable[Written],
    how: Preparation,
    role: Role,
    ids: Sequence[str] = (),
) -> None:
    """Makes a store of its volumes.

    Args:
        storage: of the store.
        stamp: from `begin_store`.
        written: all of its scans, in any order.
        how: they were prepared.
        role: of all of them.
        ids: as `begin_store` has them; without any, the store is of no call that `is_finished` knows.

    Raises:
        NorefError: if there are none, two have the same id, or the storage refuses.
    """
    scans = sorted(written, key=lambda scan: scan.place)
    if not scans:
        raise NorefError(f"{storage.path}: there is no scan to write")
    if len({len(scan.seen.bucket) for scan in scans}) > 1:
        raise NorefError(
            f"{storage.path}: scans on and off the Cartesian grid; prepare each kind in its own store"
        )
    if len({scan.seen.id for scan in scans}) < len(scans):
        raise NorefError(f"{storage.path}: two scans have the same id; rename a file, or leave it out")
    index = _index(scans, densities([scan.seen for scan in scans]))
    manifest = {
        "format": "noref store",
        "version": VERSION,
        "noref": __version__,
        "role": role,
        "scans": len(scans),
        "stamp": stamp,
        "index": hashlib.sha256(index).hexdigest(),
        "preparation": _settings(how),
        # Given, not read from `UNFINISHED`: another process that has finished the store removes that.
        "input": _digest(ids) if ids else None,
    }
    storage.write(INDEX, index)
    storage.write(MANIFEST, _json(manifest))
    tidy_store(storage)


def tidy_store(storage: Storage) -> None:
    """Removes from a finished store what was needed to finish it, and what killed processes left."""
    storage.remove(UNFINISHED)
    storage.remove(PARTS)
    storage.sweep()


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _settings(how: Preparation) -> dict[str, Any]:
    return how.model_dump(mode="json", include=set(Preparation.model_fields))


def _index(scans: Sequence[Written], density: Mapping[tuple[int, int], Tensor] | None = None) -> bytes:
    """What is known of scans as the arrays of an `.npz`: every mask once, and its number for each scan."""
    numbers: dict[bytes, int] = {}
    survey = [scan.seen for scan in scans]
    masks = [
        [numbers.setdefault(mask, len(numbers)) for mask in (seen.mask, seen.allowed, seen.padding)]
        for seen in survey
    ]
    arrays: dict[str, Any] = {
        "ids": np.array([seen.id for seen in survey]),
        "buckets": np.array([seen.bucket for seen in survey]),
        "full": np.array([seen.full for seen in survey]),
        "trajectories": np.array([seen.trajectory for seen in survey]),
        "raw": np.array([bool(seen.raw) for seen in survey]),
        "masks": np.array(masks),
        "mask_ends": np.cumsum([len(mask) for mask in numbers]),
        "mask_bytes": np.frombuffer(b"".join(numbers), np.uint8),
        "places": np.array([scan.place for scan in scans]),
        **{f"density {ky}x{kx}": of.numpy() for (ky, kx), of in (density or {}).items()},
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _there(part: bytes, once: dict[bytes, bytes]) -> list[Written]:
    """The scans of a volume that was written before."""
    index = arrays_of(part)
    return [
        Written(seen, (number, start, length))
        for seen, (number, start, length) in zip(
            survey_of(index, once), index["places"].tolist(), strict=True
        )
    ]
