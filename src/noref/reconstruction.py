"""What turns a scan into an image: a trained model, or a classical method, chosen by a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from noref import api
from noref.classical import CLASSICAL
from noref.classical import reconstruct as classical
from noref.config import Source
from noref.data.shown import cropped, magnitude
from noref.errors import NorefError
from noref.scan import Scan


@dataclass(frozen=True)
class Reconstruction:
    """A way to reconstruct.

    Attributes:
        image: of a prepared scan, complex64 `(sets, y, x)`, in the scan's scaled units.
        base: how the model's scans were read and prepared; None where nothing is known.
        made: its name, for people.
    """

    image: Callable[[Scan], Tensor]
    base: Source | None
    made: str

    def flat(self, scan: Scan) -> Tensor:
        """The image of a prepared scan, complex64 `(y, x)`: clinical field of view, in the file's units.

        The phase is kept where there is one map set; of several it is the root sum of squares.
        """
        image = self.image(scan) * scan.scale
        flat = image[0] if image.shape[0] == 1 else magnitude(image).to(image.dtype)
        return cropped(flat, scan)


def chosen(model: str) -> Reconstruction:
    """The reconstruction by a model or run folder, or by the classical method of that name.

    Raises:
        NorefError: if there is none.
    """
    if model in CLASSICAL:
        # Without a strength to choose nothing needs to be held out, and a full scan has nothing to spare.
        whole = Source(path=[], holdout=0.0)  # type: ignore[call-arg] # every field has a default
        base = None if CLASSICAL[model].strengths else whole
        return Reconstruction(lambda scan: classical(CLASSICAL[model], scan), base, model)
    if not Path(model).exists():
        raise NorefError(f"{model}: neither a folder nor one of {', '.join(CLASSICAL)}")
    trained = api.load(model)
    given = trained.config.data
    base = given.target or given.proxy
    names = (trained.config.network["name"], trained.config.method["name"])
    made = "network {} trained by {}".format(*names)
    # A file to reconstruct is what the scanner measured, however the training's scans were undersampled.
    # It may lie anywhere, and whose it is does not matter.
    file = {"mask": "acquired", "holdout": 0.0, "subject_folder": 0}
    how = None if base is None else base.model_copy(update=file)
    return Reconstruction(trained.reconstruct, how, made)
