"""Raw files made ready once, for every epoch of every training."""

from __future__ import annotations

from itertools import chain, groupby
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from noref import api
from noref.config import Source
from noref.data.dataset import Dataset, volume_of
from noref.data.overview import contact_sheet
from noref.data.storage import Storage
from noref.data.store import Store, is_store, open_store, storage_at
from noref.data.storing import Written, begin_store, finish_store, write_volume
from noref.errors import NorefError
from noref.scan import Role
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


def prepare(how: Source, output: Path | str) -> Store:
    """Writes a store of prepared scans: maps, Γ and scale, and a picture of every volume, `contact.png`.

    Several processes that `torchrun` or SLURM started share its volumes out. A store that was left unfinished
    goes on when the same is asked for again.

    Args:
        how: the files, and what to do with their scans.
        output: folder or URL of the store, see `storage_at`; new, empty, or left unfinished by the same call.

    Raises:
        NorefError: for bad input, or if there is anything else at `output`.
        Interrupted: on Ctrl-C or SIGTERM.
    """
    storage = storage_at(output)
    for path in [how.path] if isinstance(how.path, str) else how.path:
        if is_store(path):
            raise NorefError(f"{path}: prepared already; name the raw files")
    with process_group(torch.device("cpu")):
        _write(how, storage)
        if rank() == 0:
            contact_sheet(open_store(storage.path))
    return open_store(storage.path)


def _write(how: Source, storage: Storage) -> None:
    role = how.role or Role.TARGET
    # Bad files are found by reading everything, which each process does: none waits for another that long.
    slices = api.slices(how)
    scans = Dataset(slices, how, role, cache_gb=0)
    order = groupby(range(len(slices)), key=lambda index: volume_of(slices.ids[index]))
    volumes = [list(indices) for _, indices in order]
    read = how.model_dump_json(include=set(how.given()))
    stamp = decided(lambda: begin_store(storage, how, role, [*slices.ids, read]))
    written, once, asked = list[Written](), dict[bytes, bytes](), list[bool]()
    turns = range(0, len(volumes), world_size())
    with interruptible(lambda: asked.append(True)):
        for first in track(turns, "preparing", console=Console(stderr=True, quiet=not speaks())):
            number, problem = first + rank(), None
            try:
                if number < len(volumes):
                    prepared = map(scans.prepared, volumes[number])
                    written += write_volume(storage, stamp, number, prepared, once)
            except (NorefError, OSError) as error:
                problem = error
            # Told after every turn: none waits longer for the others than a volume takes.
            said = total_by_name({"failed": float(problem is not None), "asked": float(bool(asked))})
            if problem is not None:
                raise problem
            if said["failed"]:
                raise PeerLost(f"{storage.path}: another process has failed and says why", first=False)
            if said["asked"]:
                raise Interrupted(f"{storage.path}: stopped; the same command goes on")
    everywhere = collected(written)
    decided(lambda: finish_store(storage, stamp, chain.from_iterable(everywhere), how, role))
