"""`noref prepare`: raw files made ready once, for every epoch of every training."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from noref.cli.sources import divided, named_paths, source
from noref.data.overview import SHEET, summary
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
            "--output", "-o", help="A new folder, or one left unfinished; NAME.zarr or a URL for a Zarr."
        ),
    ],
) -> None:
    """Prepare raw files for training: maps, Γ and scale, once; torchrun shares out their volumes."""
    paths, settings = named_paths(*divided(inputs))
    if not paths:
        raise NorefError("no files to prepare; name them, such as scans/*.h5")
    try:
        store = write(source(paths, settings), output)
    except Interrupted as stopped:
        if speaks():
            print(f"noref: {stopped}", file=sys.stderr)
        raise typer.Exit(130) from None
    if speaks():
        told = f"{summary(store)}\npictures: {store.path}/{SHEET}"
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(told)
        print(store.path)
