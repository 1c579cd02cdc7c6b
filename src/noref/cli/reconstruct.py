"""`noref reconstruct`: from raw files to images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor

from noref import api, formats
from noref.classical import CLASSICAL
from noref.classical import reconstruct as classical
from noref.cli.sources import divided, named_paths, source
from noref.config import Source
from noref.data.dataset import Dataset
from noref.data.files import files_of
from noref.data.shown import cropped, magnitude
from noref.data.store import is_store
from noref.errors import NorefError
from noref.scan import Role, Scan
from noref.training.distributed import collected, process_group, rank, speaks, world_size


def reconstruct(
    model: Annotated[
        str, typer.Argument(help="A model or run folder, or a classical method, such as wavelet.")
    ],
    inputs: Annotated[
        list[str], typer.Argument(help="Raw files, and key=value such as mask=lines acceleration=4.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A file, or a folder for several inputs.")],
    suffix: Annotated[str, typer.Option(help="Of the files in an output folder.")] = ".nii.gz",
) -> None:
    """Reconstruct raw files with a trained model or a classical method; torchrun shares out their slices."""
    paths, settings = named_paths(*divided(inputs))
    if not paths:
        raise NorefError("no files to reconstruct; name them, such as scans/*.h5")
    for path in paths:
        if is_store(path):
            raise NorefError(f"{path}: prepared scans, of a training; name the raw files they were made from")
    files = files_of(paths)
    outputs = _outputs(files, output, suffix)
    method, base = _method(model)
    # What is exchanged are images on the CPU, whatever made them.
    with process_group(torch.device("cpu")):
        for file, target in zip(files, outputs, strict=True):
            scans = api.dataset(source([str(file)], settings, base), Role.TARGET)
            _write(target, scans, method)
            if speaks():
                print(target)


def _outputs(files: Sequence[Path], output: Path, suffix: str) -> list[Path]:
    """A file to write for every input; refused before any work is done if one cannot be, or is an input."""
    if not suffix.endswith(formats.SUFFIXES):
        raise NorefError(f"--suffix: {suffix!r} is unknown; there are {', '.join(formats.SUFFIXES)}")
    known = output.name.endswith(formats.SUFFIXES)
    if output.is_dir() or not output.suffix or (len(files) > 1 and not known):
        outputs = [output / f"{file.stem}{suffix}" for file in files]
    elif not known:
        raise NorefError(f"{output}: noref writes images as {', '.join(formats.SUFFIXES)}; or name a folder")
    elif len(files) > 1:
        raise NorefError(f"{output}: one file for {len(files)} inputs; name a folder, and --suffix")
    else:
        outputs = [output]
    if len(set(outputs)) < len(outputs):
        raise NorefError(f"{output}: two inputs have the same name; reconstruct them one at a time")
    # BART's pairs go by either name, or by neither suffix.
    pairs = [file.with_suffix(".cfl") for file in files if file.suffix in ("", ".hdr")]
    over = {path.resolve() for path in outputs} & {file.resolve() for file in (*files, *pairs)}
    if over:
        raise NorefError(f"{over.pop()}: is an input; choose another --output")
    return outputs


def _method(model: str) -> tuple[Callable[[Scan], Tensor], Source | None]:
    """How a scan becomes an image, and how the model's scans were read."""
    if model in CLASSICAL:
        # Without a strength to choose nothing needs to be held out, and a full scan has nothing to spare.
        whole = Source(path=[], holdout=0.0)  # type: ignore[call-arg] # every field has a default
        base = None if CLASSICAL[model].strengths else whole
        return lambda scan: classical(CLASSICAL[model], scan), base
    if not Path(model).exists():
        raise NorefError(f"{model}: neither a folder nor one of {', '.join(CLASSICAL)}")
    trained = api.load(model)
    given = trained.config.data
    base = given.target or given.proxy
    # A file to reconstruct is what the scanner measured, however the training's scans were undersampled.
    return trained.reconstruct, None if base is None else base.model_copy(
        update={"mask": "acquired", "holdout": 0.0}
    )


def _write(path: Path, scans: Dataset, method: Callable[[Scan], Tensor]) -> None:
    """Every process makes each `world_size()`-th slice; the first one writes them all."""
    images = []
    turns = range(rank(), len(scans), world_size())
    for index in track(turns, path.name, console=Console(stderr=True, quiet=not speaks())):
        scan = scans[index]
        image = method(scan) * scan.scale
        # The phase is kept where there is one map set.
        flat = image[0] if image.shape[0] == 1 else magnitude(image).to(image.dtype)
        images.append(cropped(flat, scan))
    if everywhere := collected(images):
        slices = [everywhere[index % world_size()][index // world_size()] for index in range(len(scans))]
        formats.write(path, torch.stack(slices), scans[0].header)
