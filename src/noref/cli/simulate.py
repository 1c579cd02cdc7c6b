"""`noref simulate`: phantoms as fastMRI-style HDF5, a file a subject."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import track

from noref.data.simulate import prospective, simulate_data
from noref.files import check_free
from noref.formats import fastmri

MIN_ACS = 12
"""Calibration lines from which maps can be estimated."""


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write; must be empty or new.")],
    anatomy: Annotated[
        Literal["brain", "knee", "cardiac", "prostate", "phantom"], typer.Option(help="What to scan.")
    ] = "brain",
    scans: Annotated[int, typer.Option(min=1, help="Subjects.")] = 20,
    slices: Annotated[int, typer.Option(min=1, help="Slices of each subject.")] = 4,
    coils: Annotated[int, typer.Option(min=1, help="Receive coils.")] = 8,
    matrix: Annotated[int, typer.Option(min=16, help="Pixels a side.")] = 128,
    acceleration: Annotated[
        float | None, typer.Option(min=1, help="Undersample by this factor; fully sampled without it.")
    ] = None,
    mask: Annotated[
        Literal[
            "lines",
            "gaussian1d",
            "equispaced",
            "regular",
            "magic",
            "random2d",
            "gaussian2d",
            "poisson",
            "poisson-elliptical",
            "caipi",
            "pseudo-radial",
            "pseudo-spiral",
        ],
        typer.Option(help="How to undersample."),
    ] = "lines",
    acs: Annotated[
        int | None,
        typer.Option(min=0, help="Calibration lines. [default: 8 % at 4×, 4 % at 8×, …, at least 12]"),
    ] = None,
    partial_fourier: Annotated[
        float, typer.Option(min=0.5, max=1, help="Share of the lines that may be acquired, such as 0.75.")
    ] = 1.0,
    noise: Annotated[
        float, typer.Option(help="dB of the image's rms over the noise of a coil's sample.")
    ] = 40.0,
    seed: Annotated[int, typer.Option(help="Another seed, other subjects.")] = 0,
    first: Annotated[int, typer.Option(min=1, help="Number of the first subject.")] = 1,
) -> None:
    """Simulate scans of phantoms: moving coils, noise, k-space from a finer grid, one file a subject."""
    check_free(out)
    made = simulate_data(
        anatomy,
        scans=scans,
        slices=slices,
        coils=coils,
        matrix=(matrix, matrix),
        noise_db=noise,
        seed=seed,
        first=first,
    )
    console = Console(stderr=True)
    subjects = groupby(made, key=attrgetter("subject"))
    for subject, group in track(subjects, "simulating", total=scans, console=console):
        finished = list(group)
        if acceleration is not None:
            lines = default_acs(matrix, acceleration) if acs is None else acs
            finished = [
                prospective(
                    scan,
                    kind=mask,
                    acceleration=acceleration,
                    acs=lines,
                    seed=seed,
                    partial_fourier=partial_fourier,
                )
                for scan in finished
            ]
        fastmri.write(out / f"{subject}.h5", finished)


def default_acs(matrix: int, acceleration: float) -> int:
    """Calibration lines: 8 % of the matrix at 4×, 4 % at 8×, 2 % at 16×, and enough to estimate maps."""
    return max(round(0.32 * matrix / max(acceleration, 4)), MIN_ACS)
