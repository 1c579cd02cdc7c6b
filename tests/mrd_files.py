"""Small ISMRMRD files, written by the format's own package as scanners' converters do."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

with warnings.catch_warnings():
    import ismrmrd

Sizes = tuple[int, int, int]

NOISE = ismrmrd.ACQ_IS_NOISE_MEASUREMENT
CALIBRATION = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION
CALIBRATION_AND_IMAGING = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING
REVERSE = ismrmrd.ACQ_IS_REVERSE
NAVIGATOR = ismrmrd.ACQ_IS_PHASECORR_DATA


def kspace(coils: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Any complex numbers, none of them zero."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(coils, *shape)) + 1j * rng.normal(size=(coils, *shape))).astype(np.complex64)


def readout(
    values: np.ndarray, *flags: int, traj: np.ndarray | None = None, **head: object
) -> ismrmrd.Acquisition:
    """One read-out of samples `(coils, samples)`; its header as named, counters and all."""
    made = ismrmrd.Acquisition.from_array(np.ascontiguousarray(values), traj)
    made.center_sample = values.shape[1] // 2
    for name, value in head.items():
        place = made.idx if hasattr(made.idx, name) else made
        if np.ndim(value):
            getattr(place, name)[:] = value
        else:
            setattr(place, name, value)
    for flag in flags:
        made.setFlag(flag)
    return made


def space(
    encoded: Sizes,
    recon: Sizes | None = None,
    *,
    view: tuple[float, float, float] | None = None,
    recon_view: tuple[float, float, float] | None = None,
    limits: Sizes | None = None,
    partitions: Sizes | None = None,
    trajectory: str = "cartesian",
    calibration: str = "",
    more: str = "",
) -> str:
    """An encoding; sizes along x, y, z, limits as minimum, maximum, centre."""

    def part(name: str, matrix: Sizes, lengths: tuple[float, float, float] | None) -> str:
        axes = "".join(f"<{a}>{n}</{a}>" for a, n in zip("xyz", matrix, strict=True))
        field = "".join(f"<{a}>{n}</{a}>" for a, n in zip("xyz", lengths or (), strict=False))
        field = field and f"<fieldOfView_mm>{field}</fieldOfView_mm>"
        return f"<{name}><matrixSize>{axes}</matrixSize>{field}</{name}>"

    text = part("encodedSpace", encoded, view) + part("reconSpace", recon or encoded, recon_view or view)
    told = ""
    for step, bounds in ((1, limits), (2, partitions)):
        if bounds is not None:
            names = zip(("minimum", "maximum", "center"), bounds, strict=True)
            inner = "".join(f"<{a}>{n}</{a}>" for a, n in names)
            told += f"<kspace_encoding_step_{step}>{inner}</kspace_encoding_step_{step}>"
    text += f"<encodingLimits>{told}</encodingLimits><trajectory>{trajectory}</trajectory>{more}"
    if calibration:
        text += f"<parallelImaging><calibrationMode>{calibration}</calibrationMode></parallelImaging>"
    return f"<encoding>{text}</encoding>"


def xml(*spaces: str, more: str = "") -> str:
    """A header of some encodings."""
    return f'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">{more}{"".join(spaces)}</ismrmrdHeader>'


def write(
    path: Path, readouts: list[ismrmrd.Acquisition], header: str | None, group: str = "dataset"
) -> Path:
    """Adds a measurement to a file."""
    with ismrmrd.Dataset(str(path), group, mode="a") as file:
        if header is not None:
            file.write_xml_header(header)
        for one in readouts:
            file.append_acquisition(one)
    return path


def lines(
    values: np.ndarray, *flags: int, rows: list[int] | None = None, **head: object
) -> list[ismrmrd.Acquisition]:
    """The lines of k-space `(coils, ky, kx)`, or some of them, numbered by their rows."""
    chosen = range(values.shape[1]) if rows is None else rows
    return [readout(values[:, row], *flags, kspace_encode_step_1=row, **head) for row in chosen]
