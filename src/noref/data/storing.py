"""Writing a store of prepared scans: volume by volume, by one process or several, now or later."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from noref.data.dataset import Seen, densities, volume_of
from noref.data.prepare import Preparation
from noref.data.record import ALIGNED, get, put
from noref.data.store import INDEX, MANIFEST, UNFINISHED, VERSION, digest_of, volume_path
from noref.errors import NorefError
from noref.files import check_free, sweep, whole
from noref.scan import Role, Scan
from noref.version import __version__


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
    folder, once = Path(folder), dict[bytes, bytes]()
    stamp, written = begin_store(folder, how, role), list[Written]()
    for number, (_, volume) in enumerate(groupby(scans, key=lambda scan: volume_of(scan.id))):
        written += write_volume(folder, stamp, number, volume, once)
    finish_store(folder, stamp, written, how, role)


def begin_store(folder: Path, how: Preparation, role: Role, ids: Sequence[str] = ()) -> str:
    """The stamp of a new store, or of one that was begun by the same call and not finished.

    Args:
        folder: new, empty, or of that store.
        how: its scans are prepared.
        role: of all of them.
        ids: of all of them; without any, an unfinished store is not gone on with.

    Raises:
        NorefError: if the folder holds anything else, or masks are drawn anew each epoch.
    """
    if how.redraw and role is Role.PROXY:
        raise NorefError("redraw=true: a store holds one mask of every scan; prepare with redraw=false")
    begun = {
        "version": VERSION,
        "role": role,
        "preparation": _settings(how),
        "scans": hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest(),
    }
    file = folder / UNFINISHED
    if ids and file.is_file() and not (folder / MANIFEST).exists():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            stamp = str(before.pop("stamp"))
        except (OSError, ValueError, KeyError, AttributeError):
            raise NorefError(f"{file}: damaged; remove {folder} and prepare the scans again") from None
        if before != begun:
            raise NorefError(f"{folder}: begun with other scans or settings; give those, or another folder")
        sweep(folder)
        return stamp
    check_free(folder)
    stamp = secrets.token_hex(ALIGNED // 2)
    with whole(file) as temporary:
        temporary.write_text(json.dumps({"stamp": stamp, **begun}, indent=1) + "\n", encoding="utf-8")
    return stamp


def write_volume(
    folder: Path, stamp: str, number: int, scans: Iterable[Scan], once: dict[bytes, bytes]
) -> list[Written]:
    """Writes one volume of a store, unless it is there already: then its scans are not asked for.

    Args:
        folder: of the store.
        stamp: from `begin_store`.
        number: of the volume, from 0.
        scans: prepared.
        once: masks that were seen already, which are not kept again.
    """
    path, written = volume_path(folder, number), list[Written]()
    if path.exists():
        return _there(path, stamp, number, once)
    with whole(path) as temporary, temporary.open("wb") as file:
        file.write(stamp.encode())
        for scan in scans:
            start = file.tell()
            put(file, scan)
            written.append(Written(Seen.of(scan, once), (number, start, file.tell() - start)))
    return written


def _there(path: Path, stamp: str, number: int, once: dict[bytes, bytes]) -> list[Written]:
    # Private to this process: nothing is copied, and nothing written to tensors reaches the file.
    content, written, start = np.memmap(path, np.uint8, mode="c"), list[Written](), ALIGNED
    if content[:ALIGNED].tobytes() != stamp.encode():
        raise NorefError(f"{path}: of another store; remove its folder and prepare the scans again")
    while start < len(content):
        scan, length = get(content[start:])
        written.append(Written(Seen.of(scan, once), (number, start, length)))
        start += length
    return written


def finish_store(folder: Path, stamp: str, written: Iterable[Written], how: Preparation, role: Role) -> None:
    """Makes a store of its volumes.

    Args:
        folder: of the store.
        stamp: from `begin_store`.
        written: all of its scans, in any order.
        how: they were prepared.
        role: of all of them.

    Raises:
        NorefError: if there are none, two have the same id, or the file system refuses.
    """
    scans = sorted(written, key=lambda scan: scan.place)
    if not scans:
        raise NorefError(f"{folder}: there is no scan to write")
    if len({len(scan.seen.bucket) for scan in scans}) > 1:
        raise NorefError(f"{folder}: scans on and off the Cartesian grid; prepare each kind in its own store")
    if len({scan.seen.id for scan in scans}) < len(scans):
        raise NorefError(f"{folder}: two scans have the same id; rename a file, or leave it out")
    with whole(folder / INDEX) as temporary:
        with temporary.open("wb") as file:
            np.savez(file, **_index([scan.seen for scan in scans], [scan.place for scan in scans]))
        digest = digest_of(temporary)
    manifest = {
        "format": "noref store",
        "version": VERSION,
        "noref": __version__,
        "role": role,
        "scans": len(scans),
        "stamp": stamp,
        "index": digest,
        "preparation": _settings(how),
    }
    with whole(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (folder / UNFINISHED).unlink(missing_ok=True)


def _settings(how: Preparation) -> dict[str, Any]:
    return how.model_dump(mode="json", include=set(Preparation.model_fields))


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
        "trajectories": np.array([seen.trajectory for seen in survey]),
        "masks": np.array(masks),
        "mask_ends": np.cumsum([len(mask) for mask in numbers]),
        "mask_bytes": np.frombuffer(b"".join(numbers), np.uint8),
        "places": np.array(places),
        **density,
    }
