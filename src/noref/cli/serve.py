"""`noref serve`: inline reconstruction for scanners that speak MRD."""

from __future__ import annotations

import json
import signal
import warnings
from typing import Annotated

import torch
import typer

from noref.cli.allocator import share_freed_memory
from noref.cli.sources import divided, source
from noref.errors import NorefError
from noref.reconstruction import chosen
from noref.serve import PORT, Limits, Server
from noref.serve.images import Kind
from noref.serve.log import Log
from noref.serve.openrecon import label
from noref.serve.wire import MIB

OF_FILES = ("path", "axes", "key", "domain", "subjects", "skip_bad", "subject_folder")
"""Settings of a source that say how files are read."""


def serve(
    model: Annotated[
        str, typer.Argument(help="A model or run folder, or a classical method, such as wavelet.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as oversampling=remove whiten=true.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen at; 0 for any free one.")] = PORT,
    host: Annotated[
        str, typer.Option(help="To listen at; 0.0.0.0 for all the machine's addresses.")
    ] = "127.0.0.1",
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="To answer HTTP at: GET /healthz.")
    ] = None,
    images: Annotated[
        Kind, typer.Option(help="What to send, unless a scan asks for the other.")
    ] = "magnitude",
    memory: Annotated[
        int, typer.Option(min=8, help="MiB that a connection's read-outs may take; a slice an eighth of it.")
    ] = 2048,
    connections: Annotated[int, typer.Option(min=1, help="Scans at once.")] = 8,
    idle: Annotated[
        float, typer.Option(min=0.1, help="Seconds of silence after which a connection is ended.")
    ] = 600.0,
    open_recon_label: Annotated[
        bool, typer.Option("--open-recon-label", help="Print the label of an Open Recon container, and end.")
    ] = False,
) -> None:
    """Reconstruct what scanners or `noref send` stream (MRD 1); logs JSON lines on stderr."""
    paths, given = divided(settings or [])
    if paths:
        raise NorefError(f"{paths[0]}: is no setting; what to reconstruct comes by the connection")
    for text in given:
        if (name := text.split("=", 1)[0]) in OF_FILES:
            raise NorefError(f"{name}: is about files, and a stream is none; leave it out")
    reconstruction = chosen(model)
    how = source([], given, reconstruction.base)
    if how.mask != "acquired":
        raise NorefError("mask: a scanner's scans are reconstructed as they come; leave it out")
    if open_recon_label:
        print(json.dumps(label(reconstruction.made, gpu=torch.cuda.is_available()), indent=2))
        return
    share_freed_memory()
    log = Log()
    warnings.showwarning = lambda message, *_, **__: log("warning", text=str(message))
    limits = Limits(memory * MIB, connections, idle)
    server = Server(
        reconstruction, how, host=host, port=port, health=health_port, kind=images, limits=limits, log=log
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    server.run()
