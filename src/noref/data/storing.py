"""Writing a store of prepared scans: volume by volume, by one process or several, now or later."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from noref.data.dataset import Seen, densities, volume_of
from noref.data.prepare import Preparation
from noref.data.record import ALIGNED
from noref.data.storage import Place, Storage
from noref.data.store import INDEX, MANIFEST, UNFINISHED, VERSION, arrays_of, storage_at, survey_of
from noref.errors import NorefError
from noref.scan import Role, Scan
from noref.version import __version__

PARTS = "parts"
"""Below which lies, of a store that is not finished, what is known of each volume's scans."""


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
        "scans": hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest(),
    }
    if ids and storage.has(UNFINISHED) and not storage.has(MANIFEST):
        try:
            before = json.loads(storage.read(UNFINISHED))
            stamp = str(before.pop("stamp"))
        except (OSError, ValueError, KeyError, AttributeError):
            raise NorefError(
                f"{storage.path}/{UNFINISHED}: damaged; remove {storage.path} and prepare the scans again"
            ) from None
        if before != begun:
            raise NorefError(
                f"{storage.path}: begun with other scans or settings; give those, or another output"
            )
        storage.sweep()
        return stamp
    storage.check_free()
    stamp = secrets.token_hex(ALIGNED // 2)
    storage.write(UNFINISHED, _json({"stamp": stamp, **begun}))
    return stamp


def write_volume(
    storage: Storage, stamp: str, number: int, scans: Iterable[Scan], once: dict[bytes, bytes]
) -> list[Written]:
    """Writes one volume of a store, unless it is there already: then its scans are not asked for.

    Args:
        storage: of the store.
        stamp: from `begin_store`.
        number: of the volume, from 0.
        scans: prepared.
        once: masks that were seen already, which are not kept again.
    """
    part = f"{PARTS}/{number:06d}.npz"
    if storage.has_volume(number, stamp) and storage.has(part):
        return _there(storage.read(part), once)
    written: list[Written] = []
    with storage.volume(number, stamp) as add:
        for scan in scans:
            written.append(Written(Seen.of(scan, once), add(scan)))
        # Before the volume: one that is there is not looked at again.
        storage.write(part, _index(written))
    return written


def finish_store(
    storage: Storage, stamp: str, written: Iterable[Written], how: Preparation, role: Role
) -> None:
    """Makes a store of its volumes.

    Args:
        storage: of the store.
        stamp: from `begin_store`.
        written: all of its scans, in any order.
        how: they were prepared.
        role: of all of them.

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
    }
    storage.write(INDEX, index)
    storage.write(MANIFEST, _json(manifest))
    storage.remove(UNFINISHED)
    storage.remove(PARTS)


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
