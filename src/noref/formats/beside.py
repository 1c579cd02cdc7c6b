"""Noise and calibration scans in files of their own, and the images that they belong to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from noref.coils.calibration import centred_block
from noref.errors import NorefError
from noref.formats.base import PSEUDONYM, Slices, name_of, pseudonym
from noref.formats.mrd_checks import check_place
from noref.formats.mrd_geometry import in_view
from noref.formats.mrd_measurement import Measurement
from noref.formats.mrd_scans import MeasuredSlices
from noref.formats.subject_folder import folders_of, folders_to
from noref.scan import Header, Scan

T = TypeVar("T")

WORDS = "noise|calibration|cal|acs|ref|refscan"
"""What the names of such files add to those of the images, as in `anna_noise.h5`."""


@dataclass
class Companions(Generic[T]):
    """Files of one kind that belong to images in other files; each is opened once, when it is needed.

    Attributes:
        kind: what they hold, for messages.
        files: one for all images, or one for each.
        opened: reads one.
        subject: of one that was read, empty if it does not tell.
        for_all: whether one alone is for all images.
        subject_folder: see `formats.read`.
    """

    kind: str
    files: Sequence[Path]
    opened: Callable[[Path], T]
    subject: Callable[[T], str]
    for_all: bool = True
    subject_folder: int = 0
    _found: dict[Path, T] = field(default_factory=dict)

    @property
    def words(self) -> set[str]:
        """What one of its kind may be called, where its folder tells whose it is."""
        return {"noise"} if self.kind == "noise" else set(WORDS.split("|")) - {"noise"}

    def of(self, images: Slices) -> tuple[Path, T]:
        """The one that belongs to a file of images: the only one, or else that of its name or its patient.

        Where folders are called like subjects, one of several lies below a folder of the same name, and may
        be called `noise` or `calibration` alone. Of several of its name, the one in its folder.

        Raises:
            NorefError: if there is none, several could be meant, or it is of another patient.
        """
        whose = images.ids[0].split("/", 1)[0]
        alike = list(self.files) if len(self.files) == 1 and self.for_all else []
        for files in [] if alike else self._nearest_first(images.path):
            alike = _named(name_of(images.path), files)
            if not alike and self.subject_folder:
                alike = [one for one in files if name_of(one).lower() in self.words]
            if alike:
                break
        if not alike:
            alike = [one for one in self.files if self._subject(one) == pseudonym(whose)]
        elif len(alike) > 1:
            here = images.path.parent.resolve()
            alike = [one for one in alike if one.parent.resolve() == here]
        if len(alike) != 1:
            found = "none" if not alike else " and ".join(path.name for path in alike)
            raise NorefError(
                f"{images.path}: of {len(self.files)} {self.kind} scans {found} can be its own; name one of "
                f"them {name_of(images.path)}_{self.kind}, in the image's folder, or give one for all"
            )
        (path,) = alike
        told = self._subject(path)
        if told and PSEUDONYM.fullmatch(whose) and told != whose:
            raise NorefError(
                f"{path}: a {self.kind} scan of another patient than {images.path}; give its own"
            )
        return path, self._open(path)

    def _nearest_first(self, path: Path) -> Iterator[Sequence[Path]]:
        """The files that folders let belong to an image: of its own, then of those above.

        The folders may lie elsewhere, called like these.
        """
        if not self.subject_folder:
            yield self.files
            return
        own = folders_of(path, self.subject_folder)
        study = folders_to(path)[: -len(own)]

        def fits(one: Path, length: int) -> bool:
            folders = folders_to(one)
            # Beside the subject's there may be others that are called like a part of it.
            inside = length < len(own) and folders[: len(study)] == study
            return folders[len(study) if inside else -length :] == own[:length]

        for length in range(len(own), 0, -1):
            yield [one for one in self.files if fits(one, length)]

    def _subject(self, path: Path) -> str:
        """The pseudonym that a file tells; empty if it tells none."""
        told = self.subject(self._open(path))
        return told if PSEUDONYM.fullmatch(told) else ""

    def _open(self, path: Path) -> T:
        if path not in self._found:
            self._found[path] = self.opened(path)
        return self._found[path]


def _named(name: str, files: Sequence[Path]) -> list[Path]:
    """Files called like an image."""
    exact = [path for path in files if name_of(path) == name]
    longer = re.compile(rf"{re.escape(name)}[-_. ]({WORDS})", re.IGNORECASE)
    return exact or [path for path in files if longer.fullmatch(name_of(path))]


class Accompanied(Slices):
    """The slices of a file, with noise and calibration scans of other files.

    Args:
        slices: as read.
        noise: the file of noise scans, and these; or None.
        calibration: the slices of the calibration scan; or None.
    """

    def __init__(
        self, slices: Slices, noise: tuple[Path, Measurement] | None, calibration: Slices | None
    ) -> None:
        super().__init__(slices.path, slices.ids, slices.role)
        self.slices, self.noise, self.calibration = slices, noise, calibration
        self.format = slices.format
        if noise is not None:
            self.format += f", noise of {noise[0].name}"
            if isinstance(slices, MeasuredSlices):
                # Read-outs know how fast they were sampled, and how often.
                slices.noise_beside = noise[1]
        if calibration is not None:
            self.format += f", calibration of {calibration.path.name}"

    def off_grid(self, index: int) -> bool:
        """Whether a slice was sampled off the Cartesian grid."""
        return self.slices.off_grid(index)

    def pixels(self, index: int) -> tuple[int, int] | None:
        """Rows and columns of a slice's image, see `Slices`."""
        return self.slices.pixels(index)

    def _read(self, index: int) -> Scan:
        scan = self.slices[index]
        if self.noise is not None:
            scan = self._with_noise(scan, *self.noise)
        if self.calibration is not None:
            scan = with_calibration(scan, self.calibration[self._place(scan)])
        return scan

    def _with_noise(self, scan: Scan, path: Path, noise: Measurement) -> Scan:
        assert noise.noise is not None
        if len(noise.noise) != scan.coils:
            raise NorefError(
                f"{path}: noise scans of {len(noise.noise)} channels, but {scan.coils} in {scan.id}; give "
                "the noise scan of the same coils"
            )
        if isinstance(self.slices, MeasuredSlices):
            return scan
        return replace(scan, noise_cov=noise.noise / noise.header.noise_bandwidth)

    def _place(self, scan: Scan) -> int:
        """Which slice of the calibration scan is a slice's own: the nearest, or that of the same number."""
        assert self.calibration is not None
        places = [header.position for header in self._headers]
        position = scan.header.position
        if position is not None and None not in places:
            apart = np.linalg.norm(np.array(places, float) - np.array(position), axis=1)
            return int(apart.argmin())
        numbers = [name.rsplit("/", 1)[1] for name in self.calibration.ids]
        mine = scan.id.rsplit("/", 1)[1]
        if mine not in numbers:
            raise NorefError(
                f"{self.calibration.path}: holds slices {numbers[0]} to {numbers[-1]}, and no calibration "
                f"for {scan.id}; give a calibration scan of the same slices"
            )
        return numbers.index(mine)

    @cached_property
    def _headers(self) -> list[Header]:
        assert self.calibration is not None
        return [scan.header for scan in self.calibration]


def with_calibration(scan: Scan, calibration: Scan) -> Scan:
    """A scan with the centre of another as its calibration scan, brought to its field of view.

    Args:
        scan: whose maps are to be made.
        calibration: with a fully sampled centre, of the same patient, place and coils.

    Raises:
        NorefError: if it is of others, or its centre was not sampled.
    """
    told = [one.subject for one in (scan, calibration) if PSEUDONYM.fullmatch(one.subject)]
    if len(set(told)) > 1:
        raise NorefError(
            f"{calibration.id}: a calibration scan of another patient than {scan.id}; give its own"
        )
    if calibration.trajectory is not None:
        raise NorefError(f"{calibration.id}: a calibration scan off the Cartesian grid; give one on it")
    block = calibration.calibration
    if block is None:
        block = centred_block(calibration.kspace, calibration.mask)
    if len(block) != scan.coils:
        raise NorefError(
            f"{calibration.id}: a calibration scan of {len(block)} coils, but {scan.coils} in {scan.id}; "
            "give one of the same coils, with its axes"
        )
    if 0 in block.shape:
        raise NorefError(f"{calibration.id}: a calibration scan whose centre was not sampled; give another")
    mine, wanted = view_of(calibration), view_of(scan)
    where = Path(calibration.id)
    check_place(where, scan.header, calibration.header, (block.shape[-2], block.shape[-1]), mine)
    if 0 not in (*mine, *wanted) and not np.allclose(mine, wanted, rtol=1e-3):
        block = in_view(where, block, mine, wanted)
    return replace(scan, calibration=block.to(torch.complex64))


def view_of(scan: Scan) -> tuple[float, float]:
    """The field of view of k-space along x and y, in millimetres; zeros where it is not told."""
    if scan.header.spacing is None or (scan.trajectory is not None and scan.header.matrix is None):
        return 0.0, 0.0
    (rows, columns), (y, x, _) = scan.matrix, scan.header.spacing
    return columns * x, rows * y
