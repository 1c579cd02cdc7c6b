"""The command line: `noref COMMAND`."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
import typer

from noref.cli.accept import accept
from noref.cli.allocator import keep_freed_memory
from noref.cli.benchmark import benchmark
from noref.cli.demo import demo
from noref.cli.evaluate import evaluate
from noref.cli.inspect import inspect
from noref.cli.prepare import prepare
from noref.cli.reconstruct import reconstruct
from noref.cli.send import send
from noref.cli.serve import serve
from noref.cli.simulate import simulate
from noref.cli.train import train
from noref.cli.unblind import unblind
from noref.errors import NorefError
from noref.training.distributed import PeerLost
from noref.version import __version__

app = typer.Typer(
    help="Train MRI reconstruction networks when no fully sampled scan exists.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    *(demo, inspect, simulate, prepare, train, reconstruct, evaluate, accept, unblind),
    *(benchmark, serve, send),
):
    app.command()(command)


_UsageError: Any = typer.BadParameter.__base__
"""Of the click that typer uses: which one depends on typer's version."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"noref {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; may stand anywhere."),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Train MRI reconstruction networks when no fully sampled scan exists."""


def main() -> None:
    """Runs the command line: bad input is one line and exit code 2."""
    warnings.showwarning = _one_line
    keep_freed_memory()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        sys.exit(app(arguments or ["--help"], prog_name="noref", standalone_mode=False))
    except NorefError as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, PeerLost) and not error.first:
            sys.exit(2)
        message = str(error)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        message = f"{error.filename or 'the system'}: {(error.strerror or str(error)).lower()}"
    except torch.OutOfMemoryError:
        if "--debug" in sys.argv:
            raise
        message = (
            "out of memory; give training.micro_batch=1, network.checkpointing=true, or a smaller network"
        )
    except _UsageError as error:
        command = "noref" if error.ctx is None else error.ctx.command_path
        message = f"{error.format_message().rstrip('.')}; see {command} --help"
    print(f"noref: {message}", file=sys.stderr)
    sys.exit(2)


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"noref: warning: {message}", file=sys.stderr)
