"""Raw files made ready once, for every epoch of every training."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Loaded

from noref import api
from noref.config import Source
from noref.data.dataset import Dataset
from noref.data.files import Scans, volume_of
from noref.data.overview import SHEET, contact_sheet
from noref.data.prepare import check_mask
from noref.data.shard import Shard
from noref.data.storage import MANIFEST, PARTS, Storage
from noref.data.store import Store, is_store, open_store, storage_at
from noref.data.storing import (
    Written,
    abandon_store,
    begin_store,
    finish_store,
    is_finished,
    tidy_store,
    write_volume,
    written_store,
)
from noref.errors import NorefError
from noref.scan import Role, Scan
from noref.training import Interrupted
from noref.training.distributed import (
    PeerLost,
    collected,
    decided,
    process_group,
    rank,
    speaks,
    total_by_name,
    world_size,
)
from noref.training.interrupt import interruptible


@dataclass(frozen=True)
class Made:
    """What has become of a volume.

    Attributes:
        written: its scans.
        left_out: why others could not be prepared, one for each.
        problem: what stopped it.
    """

    written: list[Written] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problem: NorefError | OSError | None = None


class Volumes(Loaded[Made]):
    """The volumes of a store, each written when it is asked for.

    Args:
        storage: of the store.
        stamp: of the store.
        scans: of all volumes.
        volumes: numbers of each one's scans.
        mine: numbers of those that are to be written.
        skip_bad: leave out scans that cannot be prepared.
    """

    def __init__(
        self,
        storage: Storage,
        stamp: str,
        scans: Dataset,
        volumes: Sequence[Sequence[int]],
        mine: Sequence[int],
        skip_bad: bool,
    ) -> None:
        self.storage, self.stamp, self.scans, self.volumes = storage, stamp, scans, volumes
        self.mine, self.skip_bad = mine, skip_bad
        self._once = dict[bytes, bytes]()

    def __len__(self) -> int:
        return len(self.mine)

    def __getitem__(self, position: int) -> Made:
        # What is written is read again by the process that makes the index: masks are not sent around.
        return replace(self.make(self.mine[position]), written=[])

    def make(self, number: int) -> Made:
        """Writes a volume."""
        left_out = list[str]()
        try:
            prepared = self._prepared(number, left_out)
            written = write_volume(self.storage, self.stamp, number, prepared, self._once)
        except (NorefError, OSError) as error:
            return Made(problem=error)
        return Made(written, left_out)

    def _prepared(self, number: int, left_out: list[str]) -> Iterator[Scan]:
        for index in self.volumes[number]:
            try:
                scan = self.scans.prepared(index)
            except NorefError as error:
                if not self.skip_bad:
                    raise
                left_out.append(str(error))
                continue
            yield scan

    def tell(self, left_out: Sequence[str], number: int) -> None:
        """Warns of scans of a volume that were left out: one line."""
        if left_out:
            of = len(self.volumes[number])
            warnings.warn(f"left out {len(left_out)} of {of} slices: {left_out[0]}", stacklevel=2)


def prepare(
    how: Source, output: Path | str, *, jobs: int | None = None, shard: Shard | None = None
) -> Store | None:
    """Writes a store of prepared scans: maps, Γ and scale, and a picture of every volume, `contact.png`.

    Several processes that `torchrun` started share its volumes out; others, on any machine, may write shares
    of the same store, of which the last makes it whole. What is written does not depend on who writes it. A
    store that was left unfinished goes on when the same is asked for again; of one that is finished, no scan
    is prepared again. A refusal before the first volume is finished leaves nothing.

    Args:
        how: the files, and what to do with their scans.
        output: folder or URL of the store, see `storage_at`; new, empty, or of the same call before.
        jobs: processes of this machine; as many as there are cores if None, and no more than volumes.
        shard: write only this share of the volumes.

    Returns:
        the store; None if shares of others are missing.

    Raises:
        NorefError: for bad input, or if there is anything else at `output`.
        Interrupted: on Ctrl-C or SIGTERM.
    """
    storage = storage_at(output)
    for path in [how.path] if isinstance(how.path, str) else how.path:
        if is_store(path):
            raise NorefError(f"{path}: prepared already; name the raw files")
    with process_group(torch.device("cpu")):
        if world_size() > 1 and (shard is not None or (jobs or 1) > 1):
            raise NorefError("torchrun shares out the volumes; leave out --jobs and --shard")
        whole = _write(how, storage, jobs, shard)
        if whole and rank() == 0:
            store = open_store(storage.path)
            # The process that finished the store may have been killed before it drew this.
            if not storage.has(SHEET):
                contact_sheet(store)
    return open_store(storage.path) if whole else None


def _write(how: Source, storage: Storage, jobs: int | None, shard: Shard | None) -> bool:
    """Writes a store, or a share of it; returns whether it is whole."""
    role = how.role or Role.TARGET
    check_mask(how)
    # Bad files are found by reading everything, which each process does: none waits for another that long.
    slices = api.slices(how)
    _check_grid(slices)
    scans = Dataset(slices, how, role, cache_gb=0)
    order = groupby(range(len(slices)), key=lambda index: volume_of(slices.ids[index]))
    volumes = [list(indices) for _, indices in order]
    ids = [*slices.ids, how.model_dump_json(include=set(how.given()))]
    stamp = decided(lambda: _stamp(storage, how, role, ids, len(slices)))
    if stamp is None:
        return True
    mine = range(len(volumes)) if shard is None else range(shard.index, len(volumes), shard.number)
    work = Volumes(storage, stamp, scans, volumes, mine, how.skip_bad)
    try:
        if world_size() > 1:
            everywhere = collected(_in_turns(work))
            decided(lambda: finish_store(storage, stamp, chain.from_iterable(everywhere), how, role, ids))
            return True
        _at_once(work, jobs)
        found = written_store(storage, stamp, len(volumes))
        if found is not None:
            finish_store(storage, stamp, found, how, role, ids)
        elif storage.has(MANIFEST):
            # Another process has finished it while this one wrote a volume once more, and what tells of it.
            storage.remove(PARTS)
        elif shard is None:
            raise NorefError(
                f"{storage.path}: volumes that were there are gone; the same command makes them again"
            )
    except (NorefError, OSError):
        # Others that write shares of it may be about to finish their first volume.
        if shard is None and rank() == 0:
            abandon_store(storage, stamp)
        raise
    # Or another process was faster.
    return found is not None or storage.has(MANIFEST)


def _check_grid(slices: Scans) -> None:
    """Refuses scans on and off the Cartesian grid together, as their files tell.

    Raises:
        NorefError: naming one of each.
    """
    kinds = slices.one_of_each_grid()
    if len(kinds) > 1:
        raise NorefError(
            f"{kinds[False]} lies on the Cartesian grid, {kinds[True]} off it; prepare each kind in its own "
            "store"
        )


def _stamp(storage: Storage, how: Source, role: Role, ids: Sequence[str], slices: int) -> str | None:
    """The stamp of the store to write; None if it is there, whole."""

    def is_there() -> bool:
        if not is_finished(storage, how, role, ids):
            return False
        return how.skip_bad or len(open_store(storage.path)) == slices

    if not is_there():
        try:
            return begin_store(storage, how, role, ids)
        except NorefError:
            # Another process may have finished it in between.
            if not is_there():
                raise
    tidy_store(storage)
    return None


def _in_turns(work: Volumes) -> list[Written]:
    """Writes this process's share of the volumes, one in every turn of all processes."""
    written, asked = list[Written](), list[bool]()
    path = work.storage.path
    turns = range(0, len(work), world_size())
    with interruptible(lambda: asked.append(True)):
        for first in track(turns, "preparing", console=Console(stderr=True, quiet=not speaks())):
            made, number = Made(), first + rank()
            if number < len(work):
                made = work.make(number)
                work.tell(made.left_out, number)
            written += made.written
            # Told after every turn: none waits longer for the others than a volume takes.
            failed, stopped = float(made.problem is not None), float(bool(asked))
            said = total_by_name({"failed": failed, "asked": stopped})
            if made.problem is not None:
                raise made.problem
            if said["failed"]:
                raise PeerLost(f"{path}: another process has failed and says why", first=False)
            if said["asked"]:
                raise Interrupted(f"{path}: stopped; the same command goes on")
    return written


def _at_once(work: Volumes, jobs: int | None) -> None:
    """Writes volumes by several processes of this machine."""
    asked, path = list[bool](), work.storage.path
    with interruptible(lambda: asked.append(True)):
        problem = _until_asked(work, _processes(jobs, len(work)), asked)
    if problem is not None or asked:
        work.storage.sweep()
    if asked:
        raise Interrupted(f"{path}: stopped; the same command goes on")
    if problem is not None:
        raise problem


def _processes(jobs: int | None, volumes: int) -> int:
    if multiprocessing.current_process().daemon:
        return 1
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(jobs, volumes)


def _until_asked(work: Volumes, processes: int, asked: Sequence[bool]) -> Exception | None:
    """Writes volumes until one fails or the user wishes to stop; the processes have ended when it returns."""
    with warnings.catch_warnings():
        # There may be more processes than cores, if that is what is asked for.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        made_by = iter(
            DataLoader(
                work,
                batch_size=None,
                num_workers=processes if processes > 1 else 0,
                collate_fn=_as_it_is,
            )
        )
    console = Console(stderr=True, quiet=not speaks())
    left_out = 0
    try:
        for position, made in enumerate(track(made_by, "preparing", total=len(work), console=console)):
            if made.problem is not None:
                problem: Exception = made.problem
                return problem
            work.tell(made.left_out, work.mine[position])
            left_out += len(made.left_out)
            if asked and position + 1 < len(work):
                return None
    # What PyTorch says of a process that has died.
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        return NorefError(
            f"{work.storage.path}: one of {processes} processes has been killed, as where memory is short; "
            "the same command goes on, with fewer by --jobs"
        )
    if left_out:
        warnings.warn(f"left out {left_out} slices in all, which cannot be prepared", stacklevel=2)
    return None


def _as_it_is(made: Any) -> Any:
    return made
