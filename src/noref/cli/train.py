"""`noref train`: a run folder with the model in it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from noref import api
from noref.config import load_config, read_config
from noref.errors import NorefError
from noref.training import Interrupted
from noref.training.distributed import speaks


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe, a .yaml file, or a run folder to go on with.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="key=value, as in data.target.path=scans training.epochs=20.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")] = False,
) -> None:
    """Train a network on undersampled scans."""
    if (Path(recipe) / "config.yaml").exists():
        if not resume:
            raise NorefError(f"{recipe}: is a run; go on with --resume, or give a recipe")
        if settings:
            raise NorefError(f"{recipe}: a run goes on with its own settings; leave out {settings[0]}")
        # The folder may have been moved since, or named from elsewhere.
        config = read_config(Path(recipe) / "config.yaml").model_copy(update={"output": recipe})
    else:
        config = load_config(recipe, settings or [])
    try:
        model = api.train(config, resume=resume)
    except Interrupted:
        if speaks():
            folder = shlex.quote(config.output)
            print(f"noref: stopped and saved; go on with: noref train {folder} --resume", file=sys.stderr)
        raise typer.Exit(130) from None
    if speaks():
        print(model)
