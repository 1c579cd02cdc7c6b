"""The teacher's images: one complex array per scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noref.files import whole


class TeacherStore(Mapping[str, Tensor]):
    """Images `(sets, y, x)` by scan id, one `.npy` file each, read when asked for.

    A file that is there is whole, so an interrupted pass goes on with the scans that have none.

    Args:
        folder: of one stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, scan: str) -> Path:
        return self.folder / (scan.replace("%", "%25").replace("/", "%2F") + ".npy")

    def __getitem__(self, scan: str) -> Tensor:
        try:
            return torch.from_numpy(np.load(self._path(scan), allow_pickle=False))
        except FileNotFoundError:
            raise KeyError(scan) from None

    def __contains__(self, scan: object) -> bool:
        return isinstance(scan, str) and self._path(scan).is_file()

    def __iter__(self) -> Iterator[str]:
        for path in sorted(self.folder.glob("[!.]*.npy")):
            yield path.stem.replace("%2F", "/").replace("%25", "%")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def put(self, scan: str, image: Tensor) -> None:
        """Stores one image."""
        with whole(self._path(scan)) as temporary:
            np.save(temporary, image.cpu().numpy())
