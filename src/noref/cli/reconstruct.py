"""`noref reconstruct`: from raw files to images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from noref import api, formats
from noref.cli.sources import divided, named_paths, source
from noref.config import Source
from noref.data.dataset import Dataset
from noref.data.files import alone_of, image_files, reader
from noref.data.part import AsTheyCome
from noref.data.store import is_store
from noref.errors import NorefError
from noref.files import check_free, check_writable
from noref.formats import dicom
from noref.formats.dicom import Patient
from noref.formats.subject_folder import folders_to
from noref.reconstruction import Reconstruction, chosen
from noref.scan import Role
from noref.training.distributed import collected, process_group, rank, speaks, world_size


def reconstruct(
    model: Annotated[
        str, typer.Argument(help="A model or run folder, or a classical method, such as wavelet.")
    ],
    inputs: Annotated[
        list[str], typer.Argument(help="Raw files, and key=value such as mask=lines acceleration=4.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="A file, or a folder for several inputs; x.dcm becomes a series."
        ),
    ],
    suffix: Annotated[str, typer.Option(help="Of the files in an output folder.")] = ".nii.gz",
    patient: Annotated[
        Path | None,
        typer.Option(help="A DICOM file of the study that written DICOM is to belong to, patient and all."),
    ] = None,
) -> None:
    """Reconstruct raw files with a trained model or a classical method; torchrun shares out their slices."""
    paths, settings = named_paths(*divided(inputs))
    if not paths:
        raise NorefError("no files to reconstruct; name them, such as scans/*.h5")
    for path in paths:
        if is_store(path):
            raise NorefError(f"{path}: prepared scans, of a training; name the raw files they were made from")
    reconstruction = chosen(model)
    how = source(paths, settings, reconstruction.base)
    files = image_files(paths, how)
    alone = alone_of(files, how)
    targets = outputs(files, output, suffix)
    sources = [how.of(file, file in alone).model_copy(update={"path": [str(file)]}) for file in files]
    _check_sizes(targets, files, sources)
    if patient is not None and targets[0].suffix != dicom.SUFFIX:
        raise NorefError(f"--patient: only DICOM belongs to one; write {dicom.SUFFIX}")
    of = None if patient is None else dicom.patient_of(patient)
    # What is exchanged are images on the CPU, whatever made them.
    with process_group(torch.device("cpu")):
        for own, target in zip(sources, targets, strict=True):
            scans = api.dataset(own, Role.TARGET, of=AsTheyCome)
            _write(target, scans, reconstruction, of)
            if speaks():
                print(target)


def outputs(files: Sequence[Path], output: Path, suffix: str) -> list[Path]:
    """A file to write for every input; refused before any work is done if one cannot be, or is an input."""
    if not suffix.endswith(formats.SUFFIXES):
        raise NorefError(f"--suffix: {suffix!r} is unknown; there are {', '.join(formats.SUFFIXES)}")
    known = output.name.endswith(formats.SUFFIXES)
    series = output.suffix == dicom.SUFFIX and len(files) == 1
    if (output.is_dir() and not series) or not output.suffix or (len(files) > 1 and not known):
        paths = [output / f"{formats.name_of(file)}{suffix}" for file in files]
        if len(set(paths)) < len(paths):
            paths = [output / folder / path.name for folder, path in zip(_below(files), paths, strict=True)]
    elif not known:
        raise NorefError(f"{output}: noref writes images as {', '.join(formats.SUFFIXES)}; or name a folder")
    elif len(files) > 1:
        raise NorefError(f"{output}: one file for {len(files)} inputs; name a folder, and --suffix")
    else:
        paths = [output]
    if len(set(paths)) < len(paths):
        raise NorefError(
            f"{output}: two inputs in one folder have the same name; reconstruct them one at a time"
        )
    # BART's pairs go by either name, or by neither suffix.
    pairs = [file.with_suffix(".cfl") for file in files if file.suffix in ("", ".hdr")]
    over = {path.resolve() for path in paths} & {file.resolve() for file in (*files, *pairs)}
    if over:
        raise NorefError(f"{over.pop()}: is an input; choose another --output")
    for path in paths:
        if path.suffix == dicom.SUFFIX:
            check_free(path)
        else:
            check_writable(path)
    return paths


def _below(files: Sequence[Path]) -> list[Path]:
    """The folders of files, below the one that they have in common."""
    folders = [Path(*folders_to(file)) for file in files]
    try:
        top = os.path.commonpath(folders)
    except ValueError:  # on drives of Windows' there is none
        return [Path()] * len(folders)
    return [folder.relative_to(top) for folder in folders]


def _check_sizes(targets: Sequence[Path], files: Sequence[Path], sources: Sequence[Source]) -> None:
    """Refuses files whose slices differ in size where the format has a place for one, before any work."""
    for path, file, own in zip(targets, files, sources, strict=True):
        if not path.name.endswith(formats.ANY_SIZE):
            slices = reader(own)(file, False)
            sizes = (slices.pixels(index) for index in range(len(slices)))
            formats.check_size(path, [size for size in sizes if size is not None], file)


def _write(path: Path, scans: Dataset, reconstruction: Reconstruction, patient: Patient | None) -> None:
    """Every process makes each `world_size()`-th slice; the first one writes them all."""
    images = []
    turns = range(rank(), len(scans), world_size())
    for index in track(turns, path.name, console=Console(stderr=True, quiet=not speaks())):
        scan = scans[index]
        images.append((reconstruction.flat(scan), scan.header, scan.raw))
    if everywhere := collected(images):
        slices = [everywhere[index % world_size()][index // world_size()] for index in range(len(scans))]
        stack, headers, raw = zip(*slices, strict=True)
        if path.suffix == ".npy" and not all(raw):
            warnings.warn(f"{path}: made of what is not raw, which .npy cannot say", stacklevel=2)
        made = reconstruction.made + ("" if all(raw) else ", not raw")
        formats.write(path, stack, headers, made=made, patient=patient)
