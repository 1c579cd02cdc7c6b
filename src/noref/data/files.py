"""The scans of many files as one sequence."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from noref import formats
from noref.data.split import Split
from noref.data.storage import MANIFEST, UNFINISHED
from noref.errors import NorefError
from noref.formats import Beside, Companions, Reading, Slices
from noref.formats.base import OnDemand
from noref.formats.cmrxrecon import mask_of
from noref.formats.dicom_images import is_series
from noref.formats.subject_folder import all_names
from noref.scan import Scan

T = TypeVar("T")

_RAW = (".h5", ".hdf5", ".mrd", ".mrd2", ".dat", ".hdr", ".mat", ".npy", ".npz")
_IMAGES = (".nii", ".nii.gz")

_MADE_BY_NOREF = (MANIFEST, UNFINISHED, "metrics.jsonl", "model.safetensors")
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
        split: only those of a part of the subjects; before they are counted.

    Attributes:
        parts: the files, all slices of theirs.

    Raises:
        NorefError: if two files hold the same scan, or a part has no subjects.
    """

    def __init__(
        self, parts: Sequence[Slices], subjects: int | None = None, split: Split | None = None
    ) -> None:
        self.parts = tuple(parts)
        kept = subjects_of((scan for part in parts for scan in part.ids), subjects, split)
        self._places = [
            (part, index) for part in parts for index, scan in enumerate(part.ids) if subject_of(scan) in kept
        ]
        self.ids = tuple(part.ids[index] for part, index in self._places)
        scan, times = max(Counter(self.ids).items(), key=lambda item: item[1], default=("", 0))
        if times > 1:
            files = [str(part.path) for part, index in self._places if part.ids[index] == scan]
            raise NorefError(
                f"{' and '.join(files)}: hold the same scan {scan}; say subject_folder=N where the Nth "
                "folder above a file is its subject's, else rename one, or leave it out"
            )

    def all_names(self) -> dict[str, set[str]]:
        """Of each id, it and what else the slice could be called, see `subject_folder.all_names`."""
        named = {part: all_names(part) for part in self.parts}
        return {part.ids[index]: {part.ids[index], *named[part][index]} for part, index in self._places}

    def one_of_each_grid(self) -> dict[bool, str]:
        """The id of one slice on the Cartesian grid (False), and of one off it, as far as files tell."""
        return {part.off_grid(index): part.ids[index] for part, index in reversed(self._places)}

    def _read(self, index: int) -> Scan:
        part, slice_ = self._places[index]
        return part[slice_]


def subjects_of(ids: Iterable[str], subjects: int | None, split: Split | None) -> set[str]:
    """The subjects to use of those of some scans.

    Args:
        ids: of the scans.
        subjects: so many, in the order of their names; all if None.
        split: of this part of them; of all if None.
    """
    names = {subject_of(scan) for scan in ids}
    return set(sorted(names if split is None else split.of(names))[:subjects])


def subject_of(scan: str) -> str:
    """The first part of a scan's id."""
    return scan.split("/", 1)[0]


def volume_of(name: str) -> str:
    """`subject/scan` of a slice's id, `subject/scan/slice`."""
    return name.rsplit("/", 1)[0]


def image_files(path: str | Sequence[str], how: Reading) -> list[Path]:
    """The files of images among those that a path names: without those of noise and calibration scans.

    Args:
        path: see `files_of`.
        how: names the others.

    Raises:
        NorefError: if one of the paths names no file.
    """
    files = files_of(path)
    named = [one.path for one in (how.noise, how.calibration) if one is not None]
    others = {file.resolve() for paths in named for file in files_of(paths)}
    # One file may hold both, as arrays of their own.
    return [file for file in files if file.resolve() not in others] or files


def reader(how: Reading) -> Callable[[Path, bool], Slices]:
    """Reads files one after another, each with its own of the noise and calibration scans that are named.

    Args:
        how: the settings. The second argument of what is returned: see `Reading.of`.

    Raises:
        NorefError: if there are no such scans.
    """
    axes = how.axes if isinstance(how.axes, str) else None

    def opened(beside: Callable[..., Companions[T]], named: Beside | None) -> Companions[T] | None:
        if named is None:
            return None
        # Where each subject has its own, the only one of a folder or pattern is the first one's.
        for_all = not how.subject_folder or _is_one(named.path)
        found = beside(files_of(named.path), named.axes, named.key, image_axes=axes)
        return replace(found, for_all=for_all, subject_folder=how.subject_folder)

    noise = opened(formats.noise_beside, how.noise)
    calibration = opened(formats.calibration_beside, how.calibration)

    def read(path: Path, alone: bool) -> Slices:
        return formats.read_as(path, how.of(path, alone), noise=noise, calibration=calibration)

    return read


def _is_one(path: str | Sequence[str]) -> bool:
    """Whether a path names one file, and no folder or pattern."""
    return isinstance(path, str) and not (Path(path).expanduser().is_dir() or glob.has_magic(path))


def alone_of(files: Sequence[Path], how: Reading) -> set[Path]:
    """Files that are read without axes, key and domain, as they say them themselves, and others do not.

    Asked of files that all say them, they are meant: arrays in HDF5, a measurement of twix.
    """
    asked = how.axes is not None or how.key is not None or how.domain != "kspace"
    alone = {file for file in files if formats.describes_itself(file)} if asked else set()
    return alone if len(alone) < len(files) else set()


def open_scans(
    path: str | Sequence[str],
    how: Reading | None = None,
    *,
    subjects: int | None = None,
    skip_bad: bool = False,
    split: Split | None = None,
) -> Scans:
    """All slices of the files that a path names.

    Where some files say themselves what they hold and others do not (`formats.describes_itself`), axes, key
    and domain are for the others alone.

    Args:
        path: see `files_of`.
        how: to read them; as `formats.read` does without a word if None.
        subjects: only those of so many subjects, in the order of their files.
        skip_bad: leave out files that cannot be read, with a warning that counts them. Their slices are all
            read once to find out.
        split: only those of a part of the subjects.

    Raises:
        NorefError: if there are no files, or one is bad and `skip_bad` is not set.
    """
    how = how or Reading()
    read = reader(how)
    parts: list[Slices] = []
    bad: list[str] = []
    files = image_files(path, how)
    alone = alone_of(files, how)
    for file in files:
        try:
            slices = read(file, file in alone)
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
    return Scans(parts, subjects, split)
