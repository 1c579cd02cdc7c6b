"""Subjects named by folders, where files of several subjects have the same name and tell no patient."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from noref.errors import NorefError
from noref.formats.base import PSEUDONYM, Slices, scan_id
from noref.scan import Scan


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
        folder, *between = folders_of(slices.path, above)
        ids = []
        for own in slices.ids:
            subject, scan, number = own.split("/")
            if PSEUDONYM.fullmatch(subject):
                ids.append(scan_id(subject, ".".join((folder, *between, scan)), int(number)))
            else:
                ids.append(scan_id(folder, ".".join((*between, scan)), int(number)))
        super().__init__(slices.path, ids, slices.role)
        self.slices, self.format = slices, slices.format

    def off_grid(self, index: int) -> bool:
        """Whether a slice was sampled off the Cartesian grid."""
        return self.slices.off_grid(index)

    def pixels(self, index: int) -> tuple[int, int] | None:
        """Rows and columns of a slice's image, see `Slices`."""
        return self.slices.pixels(index)

    def _read(self, index: int) -> Scan:
        return replace(self.slices[index], id=self.ids[index])


def folders_of(path: Path, above: int) -> tuple[str, ...]:
    """The names of the folders above a file, from the one so far above it down to the one it lies in.

    Args:
        path: of the file; or of a folder of files that are one, which they lie in.
        above: how many these are.

    Raises:
        NorefError: if there are not so many.
    """
    # Not resolved: links have names of their own on purpose.
    parts = Path(os.path.abspath(path)).parts[1:]  # noqa: PTH100
    folders = parts if path.is_dir() else parts[:-1]
    if above > len(folders):
        raise NorefError(
            f"{path}: subject_folder={above}, but only {len(folders)} folders lie above; say fewer"
        )
    return folders[-above:]
