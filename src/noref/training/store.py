"""The teacher's images: one complex array per scan, and whose they are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from noref.errors import NorefError
from noref.files import whole
from noref.training.distributed import decided

_LAG = 60.0
"""How long a file of another host may stay unseen, in seconds: NFS looks into a folder anew so often."""

_PAUSE = 0.5
"""Seconds between two looks."""


class Origin(TypedDict):
    """Who made a set of teacher images.

    Attributes:
        run: fingerprint of the teacher's weights, by which a run knows its own.
        stage: the first that learns from them.
        step: of the whole training, after which they were made.
    """

    run: str
    stage: int
    step: int


class TeacherStore(Mapping[str, Tensor]):
    """Images `(sets, y, x)` by scan id, one `.npy` file each, read when asked for.

    Where maps are learned they stand behind the image: `(sets, 1 + coils, y, x)`.

    A file that is there is whole, so an interrupted pass goes on with the scans that have none.
    `manifest.json` beside them says whose they are.

    Args:
        folder: of one stage.

    Attributes:
        listed: scans whose images some process has seen or stored: a file not found is late, or lost.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listed: frozenset[str] = frozenset()

    def claim(self, origin: Origin, new: bool) -> None:
        """Lists the images; writes the manifest of an empty store, or checks that of one with images.

        The first process does so for all.

        Args:
            origin: of the images that there are, or will be.
            new: whether they may still have to be made.

        Raises:
            NorefError: if the images are of another origin, of none, or gone.
        """
        self.listed = decided(lambda: self._claim(origin, new))

    def _claim(self, origin: Origin, new: bool) -> frozenset[str]:
        path, stored = self.folder / "manifest.json", frozenset(self)
        if not path.exists() and not stored:
            if not new:
                raise NorefError(f"{self.folder}: the refined data are gone; copy them back, or train anew")
            with whole(path) as temporary:
                temporary.write_text(json.dumps(origin) + "\n")
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = None
        if found != origin:
            raise NorefError(
                f"{self.folder}: refined data from another run; copy this run's own there, or train anew"
            )
        return stored

    def _path(self, scan: str) -> Path:
        return self.folder / (scan.replace("%", "%25").replace("/", "%2F") + ".npy")

    def __getitem__(self, scan: str) -> Tensor:
        path, latest = self._path(scan), time.monotonic() + _LAG
        while True:
            try:
                return torch.from_numpy(np.load(path, allow_pickle=False))
            except FileNotFoundError:
                if scan not in self.listed:
                    raise KeyError(scan) from None
                if time.monotonic() > latest:
                    raise NorefError(f"{path}: a teacher image is gone; copy it back") from None
                time.sleep(_PAUSE)
            except (OSError, ValueError, EOFError) as error:
                raise NorefError(f"{path}: a damaged teacher image ({error}); copy it again") from None

    def __contains__(self, scan: object) -> bool:
        return isinstance(scan, str) and self._path(scan).is_file()

    def __iter__(self) -> Iterator[str]:
        for path in sorted(self.folder.glob("[!.]*.npy")):
            yield path.stem.replace("%2F", "/").replace("%25", "%")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def put(self, scan: str, image: Tensor, maps: Tensor | None = None) -> None:
        """Stores one image `(sets, y, x)`, and its maps `(sets, coils, y, x)` if they were learned."""
        stored = image if maps is None else torch.cat((image[:, None], maps), 1)
        with whole(self._path(scan)) as temporary:
            np.save(temporary, stored.cpu().numpy())
