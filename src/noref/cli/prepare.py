"""`noref prepare`: raw files made ready once, for every epoch of every training."""

from __future__ import annotations

from itertools import chain, groupby
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from noref import api
from noref.cli.sources import divided, named_paths, source
from noref.data.dataset import Dataset, volume_of
from noref.data.store import begin_store, discard, finish_store, is_store, write_volumes
from noref.errors import NorefError
from noref.scan import Role
from noref.training.distributed import collected, decided, process_group, rank, speaks, world_size


def prepare(
    inputs: Annotated[
        list[str], typer.Argument(help="Raw files, and key=value such as maps=acs, or role=proxy mask=lines.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")],
) -> None:
    """Prepare raw files for training: maps, Γ and scale, once; torchrun shares out their volumes."""
    paths, settings = named_paths(*divided(inputs))
    if not paths:
        raise NorefError("no files to prepare; name them, such as scans/*.h5")
    for path in paths:
        if is_store(path):
            raise NorefError(f"{path}: prepared already; name the raw files")
    how = source(paths, settings)
    role = how.role or Role.TARGET
    with process_group(torch.device("cpu")):
        slices = api.slices(how)
        scans = Dataset(slices, how, role, cache_gb=0)
        order = groupby(range(len(slices)), key=lambda index: volume_of(slices.ids[index]))
        volumes = [list(indices) for _, indices in order]
        mine = range(rank(), len(volumes), world_size())
        shown = track(mine, "preparing", console=Console(stderr=True, quiet=not speaks()))
        stamp = decided(lambda: begin_store(output, how, role))
        own = ((number, map(scans.prepared, volumes[number])) for number in shown)
        written = write_volumes(output, stamp, own)
        try:
            everywhere = collected(written)
            decided(lambda: finish_store(output, stamp, chain.from_iterable(everywhere), how, role))
        except BaseException:
            discard(output, mine)
            raise
    if speaks():
        print(output)
