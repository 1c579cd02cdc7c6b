"""`noref send`: streams a file to a server, as a scanner would, and writes what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noref import formats
from noref.cli.reconstruct import outputs
from noref.serve import PORT, received


def send(
    file: Annotated[Path, typer.Argument(help="Raw data as ISMRMRD (MRD 1) HDF5.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file: .mrd with all that the server says, or .nii.gz, …")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the server.")] = PORT,
    host: Annotated[str, typer.Option(help="Of the server.")] = "127.0.0.1",
    group: Annotated[str | None, typer.Option(help="Which measurement of the file.")] = None,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 600.0,
) -> None:
    """Have a server reconstruct a file, and write the images that it sends."""
    (target,) = outputs([file], output, ".mrd")
    answer = received(file, host=host, port=port, group=group, patience=patience)
    if target.name.endswith((".mrd", ".mrd.h5")):
        answer.write(target)
    else:
        images, headers, made = answer.slices(target)
        formats.write(target, images, headers, made=made)
    print(target)
