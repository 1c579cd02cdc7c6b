"""Subjects named by folders, where files of several subjects have the same name and tell no patient."""

from __future__ import annotations

from dataclasses import replace

from noref.errors import NorefError
from noref.formats.base import Slices, scan_id
from noref.scan import Scan


class InSubjectFolder(Slices):
    """The slices of a file, whose subject is called like a folder above it.

    `P001/rest/cine.h5` is `P001/rest.cine` with the second folder above, and `rest/cine` with the first.

    Args:
        slices: as read.
        above: how many folders above the file that folder is, 1 for the one it lies in.

    Raises:
        NorefError: if there are not so many.
    """

    def __init__(self, slices: Slices, above: int) -> None:
        folders = slices.path.absolute().parts[1:-1]
        if above > len(folders):
            raise NorefError(
                f"{slices.path}: subject_folder={above}, but only {len(folders)} folders lie above; say fewer"
            )
        subject, *between = folders[-above:]
        ids = []
        for own in slices.ids:
            _, scan, number = own.rsplit("/", 2)
            ids.append(scan_id(subject, ".".join((*between, scan)), int(number)))
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
