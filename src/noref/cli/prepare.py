"""`noref prepare`: raw files made ready once, for every epoch of every training."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from noref.cli.sources import divided, named_paths, source
from noref.config import Source
from noref.data.overview import SHEET, summary
from noref.data.shard import Shard
from noref.data.split import PARTS
from noref.data.storage import MANIFEST
from noref.data.store import storage_at
from noref.errors import NorefError
from noref.preparing import prepare as write
from noref.training import Interrupted
from noref.training.distributed import speaks


def prepare(
    inputs: Annotated[
        list[str], typer.Argument(help="Raw files, and key=value such as maps=acs, or role=proxy mask=lines.")
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A new folder, or that of the same call; NAME.zarr or a URL for a Zarr."
        ),
    ],
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes of this machine; as many as it has cores, and no more than volumes."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="K/N: only the K-th of N shares of the volumes; a task of SLURM knows its own."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Shares of subjects, such as 0.8,0.1,0.1: stores train, validation, test in the folder."
        ),
    ] = None,
) -> None:
    """Prepare raw files for training: maps, Γ and scale, once; by several processes, on any machines."""
    paths, settings = named_paths(*divided(inputs))
    if not paths:
        raise NorefError("no files to prepare; name them, such as scans/*.h5")
    share, how = share_of(shard), source(paths, settings)
    if split is None:
        _prepared(how, output, jobs, share)
        return
    shares = shares_of(split)
    parts = [
        (part, source(paths, [*settings, f"split={part}", f"shares={list(shares)}"]))
        for part, portion in zip(PARTS, shares, strict=True)
        if portion > 0
    ]
    folder = Path(output).expanduser()
    there = folder.exists()
    try:
        for part, chosen in parts:
            _prepared(chosen, f"{output.rstrip('/')}/{part}", jobs, share)
    except NorefError:
        if not there:
            # Only an empty one: parts that are there stay.
            with suppress(OSError):
                folder.rmdir()
        raise


def shares_of(text: str) -> tuple[float, ...]:
    """Three shares, or two and none for tests.

    Raises:
        NorefError: if they are no such numbers.
    """
    try:
        shares = tuple(float(share) for share in text.split(","))
    except ValueError:
        shares = ()
    if not 2 <= len(shares) <= len(PARTS):
        raise NorefError(f"--split: {text!r} is none; give shares of train, validation, test: 0.8,0.1,0.1")
    return (*shares, 0.0)[: len(PARTS)]


def _prepared(how: Source, output: str, jobs: int | None, share: Shard | None) -> None:
    there = storage_at(output).has(MANIFEST)
    try:
        store = write(how, output, jobs=jobs, shard=share)
    except Interrupted as stopped:
        if speaks():
            print(f"noref: {stopped}", file=sys.stderr)
        raise typer.Exit(130) from None
    if store is None and share is not None:
        print(
            f"noref: {output}: share {share.index + 1} of {share.number} is there, others are not; whichever "
            "process ends last makes it whole, or the same command with --shard 1/1, as for scans of its own",
            file=sys.stderr,
        )
    elif store is not None and speaks():
        told = f"{summary(store)}\npictures: {store.path}/{SHEET}"
        if there:
            told += f"\n{store.path} was there already, by the same call: no scan was prepared again"
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(told)
        print(store.path)


def share_of(given: str | None) -> Shard | None:
    """The share that `K/N` names, or else the one that SLURM gives to its task; None if that is all."""
    if given is not None:
        share = Shard.of(given)
    else:
        # What torchrun started, or a script as if it had, meets and shares out by itself.
        share = Shard(0, 1) if "WORLD_SIZE" in os.environ else Shard.of_slurm(os.environ)
    return share if share.number > 1 else None
