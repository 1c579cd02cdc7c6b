"""`noref inspect`: what is in a file, before anything is done with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from noref import formats
from noref.cli.sources import checked
from noref.coils import SUSPECT, acs_box, folded
from noref.config.load import parse_override
from noref.data.files import alone_of, image_files, reader, volume_of
from noref.data.noise import noise_level, noise_power
from noref.data.overview import SHEET, summary
from noref.data.store import Store, is_store, open_store
from noref.errors import NorefError
from noref.files import check_writable
from noref.formats import Reading, dicom_images, png
from noref.physics import compensation, ifft2c, nufft_adjoint
from noref.scan import Scan, padding_of

Axes = Annotated[
    str | None,
    typer.Option(
        help="Names of an array's axes, as in 'coils,kx,ky' or 'slice,y,x'; '-' drops one. By patterns of "
        'names where files differ, as in \'{"low*": "kx,ky"}\'.'
    ),
]
Key = Annotated[
    str | None, typer.Option(help="Which array of the file, or measurement of a twix file; likewise.")
]
Domain = Annotated[str, typer.Option(help="What the array holds, kspace or image; likewise.")]
MaskKey = Annotated[str | None, typer.Option(help="Which array of the file is the mask.")]

Trajectory = Annotated[
    str | None, typer.Option(help="Of samples off the Cartesian grid: a file, radial, or golden.")
]
Matrix = Annotated[int | None, typer.Option(min=16, help="Of the image of a trajectory, along either axis.")]
Oversampling = Annotated[float, typer.Option(min=1, help="Of radial and golden read-outs.")]
Acquired = Annotated[
    formats.Acquired,
    typer.Option(help="Lines that count where the header tells R and none is empty: every R-th, or all."),
]

Noise = Annotated[str | None, typer.Option(help="Noise scans in a file of their own.")]
Calibration = Annotated[str | None, typer.Option(help="A calibration scan in a file of its own.")]
SubjectFolder = Annotated[
    int, typer.Option(min=0, help="Which folder above a file is called like its subject, 1 for its own.")
]


def inspect(
    files: Annotated[
        list[str],
        typer.Argument(help="Raw data of any format that noref reads, folders of it, or prepared scans."),
    ],
    axes: Axes = None,
    key: Key = None,
    domain: Domain = "kspace",
    mask_key: MaskKey = None,
    trajectory: Trajectory = None,
    matrix: Matrix = None,
    readout_oversampling: Oversampling = 2.0,
    acquired: Acquired = "header",
    noise: Noise = None,
    calibration: Calibration = None,
    subject_folder: SubjectFolder = 0,
    picture: Annotated[
        Path | None, typer.Option(help="PNG to write: zero-filled image and mask, a row a file.")
    ] = None,
) -> None:
    """Say what is in files: matrix, coils, acceleration, calibration, noise; with --picture, show it."""
    console = Console(soft_wrap=True)
    how = checked(
        Reading,
        {
            "axes": _by_patterns(axes),
            "key": _by_patterns(key),
            "mask_key": mask_key,
            "domain": _by_patterns(domain),
            "trajectory": trajectory,
            "matrix": matrix,
            "readout_oversampling": readout_oversampling,
            "acquired": acquired,
            "noise": noise,
            "calibration": calibration,
            "subject_folder": subject_folder,
        },
    )
    if picture is not None:
        check_writable(picture)
    if picture is not None and any(map(is_store, files)):
        raise NorefError(f"--picture: prepared scans have theirs, {SHEET}; name raw files")
    found = {path: _files(path, how) for path in files if not is_store(path)}
    alone = alone_of([file for inside in found.values() for file in inside], how)
    read, rows = reader(how), []
    for path in files:
        if path not in found:
            _show_store(console, open_store(path))
            continue
        refused: list[str] = []
        for file in found[path]:
            try:
                slices = read(file, file in alone)
                middle = len(slices) // 2
                scan = slices[middle]
            except NorefError as error:
                if not _searched(path):
                    raise
                refused.append(str(error))
                console.print(f"refused: {error}", highlight=False, markup=False)
                continue
            title = str(file) if _searched(path) else path
            _show(console, title, {**describe_file(slices, middle), **describe(scan)})
            if picture is not None:
                rows.append(
                    np.concatenate([png.grey(zero_filled(scan).numpy()), _mask_picture(scan)], axis=1)
                )
        if len(refused) == len(found[path]):
            raise NorefError(f"{path}: none of the {len(refused)} files can be read; the first: {refused[0]}")
        if refused:
            told = (
                f"{path}: {len(refused)} of {len(found[path])} files refused; skip_bad=true leaves them out"
            )
            console.print(told, highlight=False, markup=False)
    if picture is not None:
        png.save(picture, _stacked(rows))
        console.print(f"picture: {picture}", highlight=False)


def _by_patterns(text: str | None) -> Any:
    """What an option says: a text, or a mapping of patterns in YAML."""
    return parse_override(f"given={text}")["given"] if text and text.startswith("{") else text


def _searched(path: str) -> bool:
    """Whether a path is a folder of files, and not one that stands for a file."""
    return Path(path).is_dir() and not dicom_images.is_series(Path(path))


def _files(path: str, how: Reading) -> list[Path]:
    """A file, or those that other commands would take from a folder."""
    return image_files(path, how) if _searched(path) else [Path(path)]


def describe_file(slices: formats.Slices, chosen: int) -> dict[str, str]:
    """What is known of a file without reading k-space, and which slice the rest is about."""
    volumes = len({volume_of(name) for name in slices.ids})
    count = f"{len(slices)}" + (f", in {volumes} volumes" if volumes > 1 else "")
    if len(slices) > 1:
        count += f"; what follows is about {slices.ids[chosen]}"
    return {"format": slices.format, "slices": count}


def describe(scan: Scan) -> dict[str, str]:
    """What a slice holds, as names and texts for people."""
    header = scan.header
    padding = int(padding_of(scan).sum())
    geometry = [
        f"crop {header.crop[0]} × {header.crop[1]}" if header.crop else "",
        "spacing " + " × ".join(f"{mm:.3g}" for mm in header.spacing) + " mm" if header.spacing else "",
        "placed in the scanner" if header.position and header.directions else "",
        f"{header.field_strength:.3g} T" if header.field_strength else "",
        f"TR {header.repetition_time:.4g} ms" if header.repetition_time else "",
        f"TE {header.echo_time:.4g} ms" if header.echo_time else "",
        f"protocol {header.protocol}" if header.protocol else "",
    ]
    return {
        "matrix": _matrix(scan),
        "coils": str(scan.coils) + (", with maps" if scan.maps is not None else ""),
        "calibration": describe_calibration(scan),
        **describe_folding(scan),
        "sampling": describe_sampling(scan),
        **describe_filled(scan),
        "padding": f"{padding / scan.mask.numel():.1%} of k-space are known zeros" if padding else "none",
        "noise": describe_noise(scan),
        "raw": "yes" if scan.raw else "no, made from images",
        "reference": _references(scan),
        "header": ", ".join(filter(None, geometry)) or "none",
    }


def _matrix(scan: Scan) -> str:
    if scan.trajectory is None:
        return f"{scan.shape[0]} × {scan.shape[1]} (ky × kx)"
    (y, x), (count, samples) = scan.matrix, scan.shape
    return f"{y} × {x} (y × x), {count} read-outs of {samples} samples"


def describe_sampling(scan: Scan) -> str:
    """Pattern, acceleration (the ACS counted, padding left out) and size of the ACS."""
    if scan.trajectory is not None:
        return f"off the Cartesian grid, R = {scan.acceleration:.2f} (full: π/2 read-outs a pixel across)"
    if (scan.mask | padding_of(scan)).all():
        return "full"
    rows, columns = acs_box(scan.mask)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    lines, samples = scan.mask.any(1), scan.mask.any(0)
    acs = f"ACS {height} × {width}"
    if not torch.equal(scan.mask, lines[:, None] & samples):
        pattern = "2-D"
    elif lines.all() and int(samples.diff().sum()) > 2:
        pattern = "lines along ky (swap ky and kx if that is the read-out)"
    elif samples.all():
        pattern, acs = "lines", f"ACS {height} lines"
    else:
        which = "all lines" if lines.all() else "lines"
        pattern = f"{which}, {int(samples.sum())} of {len(samples)} samples of the read-out"
    facts = [pattern, f"R = {scan.acceleration:.2f}", acs if height else "no ACS"]
    if (scan.measured & ~scan.mask).any():
        facts.append(f"{scan.measured.float().mean():.0%} of k-space measured")
    return ", ".join(facts)


def describe_filled(scan: Scan) -> dict[str, str]:
    """How many lines parallel imaging seems to have computed, if any, and how to believe them."""
    header = scan.header
    if header.filled_lines == 0:
        return {}
    told = (
        f"{header.filled_lines} lines, left out: the header tells R = {header.acceleration:.3g}, and yet no "
        "line is empty; acquired=all believes them"
    )
    return {"filled in": told}


def describe_calibration(scan: Scan) -> str:
    """Whether there is a calibration scan beside the image, and how much of k-space it holds."""
    if scan.calibration is None:
        return "no scan of its own"
    return "a scan of its own, {} × {}".format(*scan.calibration.shape[-2:])


def describe_folding(scan: Scan) -> dict[str, str]:
    """That the field of view looks too small for the object; nothing where it does not, or none can tell."""
    covariance = scan.noise_cov
    if covariance is None:
        power, _ = noise_power(scan)
        covariance = None if power is None else power.diag()
    if scan.maps is not None or covariance is None:
        return {}
    try:
        share = folded(scan, covariance)
    except NorefError:
        return {}
    if not SUSPECT[0] <= share <= SUSPECT[1]:
        return {}
    return {"field of view": f"too small: {share:.0%} of the object is folded; prepare with sets=2"}


def describe_noise(scan: Scan) -> str:
    """The noise level and where it was read off."""
    if scan.noise_cov is not None:
        level, region = float(scan.noise_cov.diagonal().real.median().sqrt()), "noise scans"
    elif scan.trajectory is not None:
        level, region = None, "sampled off the Cartesian grid, without noise scans"
    else:
        level, region = noise_level(scan)
        if level is not None:
            region += " around the object" if region == "air" else " of k-space"
    if level is None:
        return "not estimated: " + region
    said = f"σ = {level:.3g} a coil sample, from the {region}"
    if scan.trajectory is not None:
        return said
    bright = float(np.percentile(zero_filled(scan).numpy(), png.WINDOW)) / level if level else math.inf
    return f"{said}; bright tissue is {bright:.0f} σ"


def zero_filled(scan: Scan) -> Tensor:
    """Root sum of squares of the coil images `(y, x)` of Ω, zeros elsewhere; off the grid gridded."""
    if scan.trajectory is not None:
        weights = compensation(scan.trajectory, scan.mask, scan.matrix)
        images = nufft_adjoint((weights * scan.kspace)[None], scan.trajectory[None], scan.matrix)[0]
        return images.abs().square().sum(-3).sqrt()
    return ifft2c(scan.undersampled(scan.mask).kspace).abs().square().sum(-3).sqrt()


def _references(scan: Scan) -> str:
    found = {"noiseless k-space": scan.clean is not None, "RSS image": scan.rss is not None}
    return ", ".join(name for name, there in found.items() if there) or "none"


def _mask_picture(scan: Scan) -> NDArray[np.uint8]:
    """White where shown, grey where padded; off the grid the positions next to samples."""
    if scan.trajectory is not None:
        size = torch.tensor(scan.matrix)
        y, x = (scan.trajectory[scan.mask].round().long() + size // 2).clamp_min(0).minimum(size - 1).T
        near = torch.zeros(scan.matrix, dtype=torch.bool)
        near[y, x] = True
        return np.asarray(near.numpy() * 255, np.uint8)
    return np.asarray(scan.mask.numpy() * 255 + padding_of(scan).numpy() * 90, np.uint8)


def _stacked(rows: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])


def _show_store(console: Console, store: Store) -> None:
    console.print(store.path, highlight=False, markup=False)
    for line in summary(store).splitlines():
        console.print(f"  {line}", highlight=False, markup=False)


def _show(console: Console, path: str, facts: dict[str, str]) -> None:
    if not console.is_terminal:
        for line in (path, *(f"  {name}: {fact}" for name, fact in facts.items())):
            console.print(line, highlight=False, markup=False)
        return
    table = Table(title=path, show_header=False, title_justify="left")
    for name, fact in facts.items():
        table.add_row(name, fact)
    console.print(table)
