"""Subjects named by folders, where files of several subjects have the same name and tell no patient."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from noref.errors import NorefError
from noref.formats.base import PSEUDONYM, Slices, scan_id
from noref.scan import Scan

DEPTH = 5
"""Folders above a file that are looked at where it is asked whether a scan is known by another name."""


class InSubjectFolder(Slices):
    """The slices of a file, whose subject is called like a folder above it.

    `P001/rest/cine.h5` is `P001/rest.cine` with the second folder above, and `rest/cine` with the first. A
    patient whom the file tells stays its subject: then the scan's name begins with the folder's.

    Args:
        slices: as read.
        above: see `folders_of`.

    Raises:
        NorefError: if there are not so many folders.
    """

    def __init__(self, slices: Slices, above: int) -> None:
        folders = folders_of(slices.path, above)
        super().__init__(slices.path, [_renamed(own, folders) for own in slices.ids], slices.role)
        self.slices, self.format = slices, slices.format

    def off_grid(self, index: int) -> bool:
        """Whether a slice was sampled off the Cartesian grid."""
        return self.slices.off_grid(index)

    def pixels(self, index: int) -> tuple[int, int] | None:
        """Rows and columns of a slice's image, see `Slices`."""
        return self.slices.pixels(index)

    def _read(self, index: int) -> Scan:
        return replace(self.slices[index], id=self.ids[index])


def _renamed(own: str, folders: Sequence[str]) -> str:
    """The id of a slice below the folders of its subject."""
    subject, scan, number = own.split("/")
    if PSEUDONYM.fullmatch(subject):
        return scan_id(subject, ".".join((*folders, scan)), int(number))
    return scan_id(folders[0], ".".join((*folders[1:], scan)), int(number))


def all_names(slices: Slices) -> list[tuple[str, ...]]:
    """What each slice of a file can be called: by the file alone, and by each of `DEPTH` folders above it."""
    own = slices.slices.ids if isinstance(slices, InSubjectFolder) else slices.ids
    namings = [own]
    for above in range(1, DEPTH + 1):
        try:
            folders = folders_of(slices.path, above)
        except NorefError:
            break
        namings.append(tuple(_renamed(one, folders) for one in own))
    return list(zip(*namings, strict=True))


def folders_of(path: Path, above: int) -> tuple[str, ...]:
    """The names of the folders above a file, from the one so far above it down to the one it lies in.

    Args:
        path: of the file; or of a folder of files that are one, which they lie in.
        above: how many these are.

    Raises:
        NorefError: if there are not so many.
    """
    folders = folders_to(path / "image" if path.is_dir() else path)[1:]
    if above > len(folders):
        raise NorefError(
            f"{path}: subject_folder={above}, but only {len(folders)} folders lie above; say fewer"
        )
    return folders[-above:]


def folders_to(path: Path) -> tuple[str, ...]:
    """All folders on the way to a file, from the root on."""
    # Not resolved: links have names of their own on purpose.
    return Path(os.path.abspath(path)).parts[:-1]  # noqa: PTH100
