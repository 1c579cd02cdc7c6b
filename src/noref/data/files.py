"""The scans of many files as one sequence."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from noref.data.storage import MANIFEST, UNFINISHED
from noref.errors import NorefError
from noref.formats import Acquired, Averages, Domain, Slices, describes_itself, read
from noref.formats.base import OnDemand
from noref.formats.cmrxrecon import mask_of
from noref.formats.dicom_images import is_series
from noref.scan import Scan

Named = str | Mapping[str, str] | None
"""What arrays are read by: one for all, or by patterns of file names."""

_RAW = (".h5", ".hdf5", ".mrd", ".mrd2", ".dat", ".hdr", ".mat", ".npy", ".npz")
_IMAGES = (".nii", ".nii.gz")

_MADE_BY_NOREF = (MANIFEST, UNFINISHED, "zarr.json", "config.yaml")
"""What folders of prepared scans, runs and models hold: nothing below is an input."""


def files_of(path: str | Sequence[str]) -> list[Path]:
    """The files that a path, a folder, a pattern, or a list of these names, in the order of their names.

    Of a folder, the raw files in it and below; where there are none, its images: NIfTI files, and folders of
    DICOM series, which stand for their files. Hidden ones are left out, and what noref prepared or trained.
    Mask files that belong to files of CMRxRecon are left out too. A pair of BART's counts once.

    Raises:
        NorefError: if there are none.
    """
    found: list[Path] = []
    for given in [path] if isinstance(path, str) else path:
        # Shells leave the ~ of `path=~/scans` alone.
        one = str(Path(given).expanduser())
        if Path(one).is_dir():
            matches = _inside(Path(one))
        elif glob.has_magic(one) and not Path(one).exists():
            named = map(Path, glob.glob(one, recursive=True))  # noqa: PTH207 - may be absolute
            matches = [path for path in named if path.is_file() or is_series(path)]
        else:
            matches = [Path(one)]
        if not matches:
            raise NorefError(f"{one}: no scans there; noref reads {', '.join((*_RAW, *_IMAGES))} and DICOM")
        found += sorted(matches)
    left_out = {mask_of(path) for path in found if path.suffix == ".mat"}
    left_out |= {path.with_suffix(".cfl") for path in found if path.suffix == ".hdr"}
    return [path for path in dict.fromkeys(found) if path not in left_out]


def _inside(folder: Path) -> list[Path]:
    there = list(_below(folder))
    # Reconstructions that were written beside the raw files are no scans.
    raw = [path for path in there if path.name.endswith(_RAW)]
    if raw:
        return raw
    if is_series(folder):
        return [folder]
    return [path for path in there if path.name.endswith(_IMAGES) or is_series(path)]


def _below(folder: Path) -> Iterator[Path]:
    """Files and folders below one, each once, itself left out; not those that noref wrote."""
    seen = set[Path]()
    for at, folders, files in os.walk(folder, followlinks=True):
        inside = Path(at)
        folders[:] = [name for name in folders if not name.startswith(".")]
        real = inside.resolve()
        if real in seen or (inside != folder and any(name in files for name in _MADE_BY_NOREF)):
            folders.clear()
            continue
        seen.add(real)
        yield from (inside / name for name in (*folders, *files) if not name.startswith("."))


class Scans(OnDemand):
    """The slices of several files, one after the other, each read when it is asked for.

    Args:
        parts: the files.
        subjects: only the slices of so many subjects, in the order of their names.

    Raises:
        NorefError: if two files hold the same scan.
    """

    def __init__(self, parts: Sequence[Slices], subjects: int | None = None) -> None:
        names = sorted({subject_of(scan) for part in parts for scan in part.ids})
        kept = set(names[:subjects])
        self._places = [
            (part, index) for part in parts for index, scan in enumerate(part.ids) if subject_of(scan) in kept
        ]
        self.ids = tuple(part.ids[index] for part, index in self._places)
        scan, times = max(Counter(self.ids).items(), key=lambda item: item[1], default=("", 0))
        if times > 1:
            files = [str(part.path) for part, index in self._places if part.ids[index] == scan]
            raise NorefError(f"{' and '.join(files)}: hold the same scan {scan}; rename one, or leave it out")

    def one_of_each_grid(self) -> dict[bool, str]:
        """The id of one slice on the Cartesian grid (False), and of one off it, as far as files tell."""
        return {part.off_grid(index): part.ids[index] for part, index in reversed(self._places)}

    def _read(self, index: int) -> Scan:
        part, slice_ = self._places[index]
        return part[slice_]


def _for(file: Path, given: Named, alone: bool) -> str | None:
    """What is given for a file, that says it itself or not."""
    if isinstance(given, Mapping):
        return next((value for pattern, value in given.items() if fnmatch(file.name, pattern)), None)
    return None if alone else given


def subject_of(scan: str) -> str:
    """The first part of a scan's id."""
    return scan.split("/", 1)[0]


def open_scans(
    path: str | Sequence[str],
    *,
    axes: Named = None,
    key: Named = None,
    domain: Domain = "kspace",
    averages: Averages = "mean",
    subjects: int | None = None,
    skip_bad: bool = False,
    trajectory: str | None = None,
    matrix: int | None = None,
    readout_oversampling: float = 2.0,
    acquired: Acquired = "header",
) -> Scans:
    """All slices of the files that a path names.

    Where some files say themselves what they hold and others do not (`formats.describes_itself`), axes, key
    and domain are for the others alone.

    Args:
        path: see `files_of`.
        axes: of arrays, see `formats.read`; one for all, or by patterns of file names, the first that fits.
        key: of arrays, see `formats.read`; likewise.
        domain: of arrays, see `formats.read`.
        averages: of ISMRMRD and twix, see `formats.read`.
        subjects: only those of so many subjects, in the order of their files.
        skip_bad: leave out files that cannot be read, with a warning that counts them. Their slices are all
            read once to find out.
        trajectory: of samples off the Cartesian grid, see `formats.read`.
        matrix: of its image, see `formats.read`.
        readout_oversampling: of its read-outs, see `formats.read`.
        acquired: of fastMRI and ISMRMRD, see `formats.read`.

    Raises:
        NorefError: if there are no files, or one is bad and `skip_bad` is not set.
    """
    parts: list[Slices] = []
    bad: list[str] = []
    files = files_of(path)
    asked = axes is not None or key is not None or domain != "kspace"
    # Asked of files that all say it themselves, it is meant: arrays in HDF5, a measurement of twix.
    alone = {file for file in files if describes_itself(file)} if asked else set()
    alone = alone if len(alone) < len(files) else set()
    for file in files:
        try:
            slices = read(
                file,
                axes=_for(file, axes, file in alone),
                key=_for(file, key, file in alone),
                domain="kspace" if file in alone else domain,
                averages=averages,
                trajectory=trajectory,
                matrix=matrix,
                readout_oversampling=readout_oversampling,
                acquired=acquired,
            )
            if skip_bad:
                for _ in slices:
                    pass
        except NorefError as error:
            if not skip_bad:
                raise
            bad.append(str(error))
        else:
            parts.append(slices)
    if bad:
        warnings.warn(f"left out {len(bad)} of {len(bad) + len(parts)} files: {bad[0]}", stacklevel=2)
    if not parts:
        raise NorefError(f"{path}: none of the {len(bad)} files can be read; the first: {bad[0]}")
    return Scans(parts, subjects)
