"""`noref prepare`: raw files made ready once, for every epoch of every training."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from noref.cli.sources import divided, named_paths, source
from noref.config import Source
from noref.data.overview import SHEET, summary
from noref.data.split import PARTS
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
    split: Annotated[
        str | None,
        typer.Option(
            help="Shares of subjects, such as 0.8,0.1,0.1: stores train, validation, test in the folder."
        ),
    ] = None,
) -> None:
    """Prepare raw files for training: maps, Γ and scale, once; torchrun shares out their volumes."""
    paths, settings = named_paths(*divided(inputs))
    if not paths:
        raise NorefError("no files to prepare; name them, such as scans/*.h5")
    how = source(paths, settings)
    if split is None:
        _prepared(how, output)
        return
    shares = shares_of(split)
    parts = [
        (part, source(paths, [*settings, f"split={part}", f"shares={list(shares)}"]))
        for part, share in zip(PARTS, shares, strict=True)
        if share > 0
    ]
    for part, chosen in parts:
        _prepared(chosen, f"{output.rstrip('/')}/{part}")


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


def _prepared(how: Source, output: str) -> None:
    try:
        store = write(how, output)
    except Interrupted as stopped:
        if speaks():
            print(f"noref: {stopped}", file=sys.stderr)
        raise typer.Exit(130) from None
    if speaks():
        told = f"{summary(store)}\npictures: {store.path}/{SHEET}"
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(told)
        print(store.path)
