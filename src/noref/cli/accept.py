"""`noref accept`: is a model fit for a site's own scans, of which nobody has a full one?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noref.acceptance import Thresholds, judged
from noref.acceptance import accept as accepted
from noref.acceptance.lesion import CONTRASTS
from noref.cli.sources import divided, named_paths, source
from noref.errors import NorefError


def accept(
    model: Annotated[
        str, typer.Argument(help="A model or run folder, or a classical method, such as wavelet.")
    ],
    scans: Annotated[
        list[str], typer.Argument(help="Raw files, and key=value such as averages=apart holdout=0.1.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")],
    again: Annotated[
        list[str] | None,
        typer.Option(help="Raw files of the same slices measured again, in order. May be repeated."),
    ] = None,
    vendor: Annotated[
        list[Path] | None,
        typer.Option(help="The scanner's own images: DICOM, NIfTI or MRD. May be repeated."),
    ] = None,
    readers: Annotated[int, typer.Option(min=0, help="Blinded sheets and pictures for so many.")] = 0,
    slices: Annotated[int, typer.Option(min=1, help="Judged at most, evenly spaced among the scans.")] = 12,
    lesions: Annotated[int, typer.Option(min=0, help="Inserted into each slice.")] = len(CONTRASTS),
    seed: Annotated[int, typer.Option(help="Draws places of lesions, added noise, and readers' names.")] = 0,
    most_gamma: Annotated[
        float, typer.Option(min=0, help="Largest Γ, as a multiple of the wavelets'.")
    ] = Thresholds.gamma,
    most_floor: Annotated[
        float, typer.Option(min=0, help="Largest Γ, as a multiple of its noise floor.")
    ] = Thresholds.floor,
    least_contrast: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="Smallest share of a lesion's contrast; 1 over it is the largest."
        ),
    ] = Thresholds.contrast,
    most_width: Annotated[
        float, typer.Option(min=0, help="Largest width of a lesion, in its own.")
    ] = Thresholds.width,
    most_repeat: Annotated[
        float,
        typer.Option(min=0, help="Largest difference of two measurements, as a multiple of the noise's."),
    ] = Thresholds.repeat,
) -> None:
    """Judge a model on scans that have no reference, and write a page to print."""
    paths, settings = named_paths(*divided(scans))
    if not paths:
        raise NorefError("no scans to judge by; name undersampled raw files, such as scans/*.h5")
    method = judged(model)
    accepted(
        method,
        source(paths, settings, method.base),
        output,
        again=source(again, settings, method.base) if again else None,
        vendor=vendor or (),
        readers=readers,
        slices=slices,
        lesions=lesions,
        seed=seed,
        thresholds=Thresholds(most_gamma, most_floor, least_contrast, most_width, most_repeat),
    )
    print(output / "acceptance.html")
