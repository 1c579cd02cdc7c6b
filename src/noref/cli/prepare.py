"""`noref prepare`: raw files made ready once, for every epoch of every training."""

from __future__ import annotations

import sys
from itertools import chain, groupby
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from noref import api
from noref.cli.sources import divided, named_paths, source
from noref.config import Source
from noref.data.dataset import Dataset, volume_of
from noref.data.store import is_store
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


def prepare(
    inputs: Annotated[
        list[str], typer.Argument(help="Raw files, and key=value such as maps=acs, or role=proxy mask=lines.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder, or one left unfinished.")],
) -> None:
    """Prepare raw files for training: maps, Γ and scale, once; torchrun shares out their volumes."""
    paths, settings = named_paths(*divided(inputs))
    if not paths:
        raise NorefError("no files to prepare; name them, such as scans/*.h5")
    for path in paths:
        if is_store(path):
            raise NorefError(f"{path}: prepared already; name the raw files")
    with process_group(torch.device("cpu")):
        try:
            _prepare(source(paths, settings), output)
        except Interrupted as stopped:
            if speaks():
                print(f"noref: {stopped}", file=sys.stderr)
            raise typer.Exit(130) from None
    if speaks():
        print(output)


def _prepare(how: Source, output: Path) -> None:
    role = how.role or Role.TARGET
    # Bad files are found by reading everything, which each process does: none waits for another that long.
    slices = api.slices(how)
    scans = Dataset(slices, how, role, cache_gb=0)
    order = groupby(range(len(slices)), key=lambda index: volume_of(slices.ids[index]))
    volumes = [list(indices) for _, indices in order]
    stamp = decided(lambda: begin_store(output, how, role, slices.ids))
    written, once, asked = list[Written](), dict[bytes, bytes](), list[bool]()
    turns = range(0, len(volumes), world_size())
    with interruptible(lambda: asked.append(True)):
        for first in track(turns, "preparing", console=Console(stderr=True, quiet=not speaks())):
            number, problem = first + rank(), None
            try:
                if number < len(volumes):
                    prepared = map(scans.prepared, volumes[number])
                    written += write_volume(output, stamp, number, prepared, once)
            except (NorefError, OSError) as error:
                problem = error
            # Told after every turn: none waits longer for the others than a volume takes.
            said = total_by_name({"failed": float(problem is not None), "asked": float(bool(asked))})
            if problem is not None:
                raise problem
            if said["failed"]:
                raise PeerLost(f"{output}: another process has failed and says why", first=False)
            if said["asked"]:
                raise Interrupted(f"{output}: stopped; the same command goes on")
    everywhere = collected(written)
    decided(lambda: finish_store(output, stamp, chain.from_iterable(everywhere), how, role))
