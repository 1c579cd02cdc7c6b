"""How files are read: the settings that every command passes on, named once."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from noref.formats.arrays import Domain
from noref.formats.filled import Acquired
from noref.formats.mrd_scans import Averages

Named = str | dict[str, str] | None
"""What arrays are read by: one for all, or by patterns of file names."""

V = TypeVar("V", bound=str)


class Beside(BaseModel):
    """Scans in files of their own that belong to images in others; a path alone stands for its `path`.

    Attributes:
        path: a file for all images, or several, a folder, a pattern, or a list, one for each image: of the
            same patient, or called alike.
        axes: names of the axes of arrays; those of the images' if None. Of noise only `coils` matters.
        key: the array of a file, or the measurement; may be left out if there is only one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | list[str]
    axes: str | None = None
    key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, str | list) else given


class Reading(BaseModel):
    """The settings of `formats.read`, but for the path and the role.

    Attributes:
        axes: names of the axes of `.npy`, `.npz` and `.mat` arrays, such as `coils,ky,kx`; or `cmrxrecon`. By
            patterns of file names where they differ, such as `{"low*": "kx,ky"}`. Files that say themselves
            what they hold are read without, where there are others.
        key: the variable in `.npz` and `.mat` files, the measurement in twix files; likewise.
        mask_key: the variable, or data set, that is Ω; of CMRxRecon the file.
        domain: `kspace`, or `image` for arrays of images; likewise, `kspace` where no pattern fits. DICOM and
            NIfTI are images anyway.
        averages: `mean`, or `apart`: the averages of ISMRMRD and twix files as scans of their own.
        trajectory: of samples off the Cartesian grid: a file, or `radial` or `golden` for full spokes.
        matrix: of the image of a trajectory, along either axis; as far as it reaches if not given.
        readout_oversampling: of `radial` and `golden` read-outs.
        acquired: `header`, or `all` that are not empty: which lines of a fastMRI or ISMRMRD file count as
            measured where its header tells an acceleration and no line is empty.
        noise: noise scans in files of their own.
        calibration: calibration scans in files of their own.
        subject_folder: how many folders above a file the one is that is called like its subject; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    axes: Named = None
    key: Named = None
    mask_key: str | None = None
    domain: Domain | dict[str, Domain] = "kspace"
    averages: Averages = "mean"
    trajectory: str | None = None
    matrix: int | None = Field(default=None, ge=16)
    readout_oversampling: float = Field(default=2.0, ge=1)
    acquired: Acquired = "header"
    noise: Beside | None = None
    calibration: Beside | None = None
    subject_folder: int = Field(default=0, ge=0)

    @field_validator("domain", mode="before")
    @classmethod
    def _one_or_patterns(cls, given: Any) -> Any:
        for value in given.values() if isinstance(given, dict) else [given]:
            # A union's own complaint names its members, and not what may be said.
            if value not in get_args(Domain):
                raise PydanticCustomError("domain", "input should be 'kspace' or 'image'")
        return given

    def of(self, file: Path, alone: bool = False) -> Self:
        """The settings for one file: of what is given by patterns, that of the first which fits its name.

        Args:
            file: its path.
            alone: whether it says itself what it holds, and axes, key and domain are for others.
        """

        def chosen(given: V | dict[str, V] | None) -> V | None:
            if isinstance(given, dict):
                return next((value for pattern, value in given.items() if fnmatch(file.name, pattern)), None)
            return None if alone else given

        return self.model_copy(
            update={
                "axes": chosen(self.axes),
                "key": chosen(self.key),
                "domain": chosen(self.domain) or "kspace",
            }
        )

    def given(self) -> list[str]:
        """Names of the settings that are not as they are without a word."""
        fields = Reading.model_fields
        return [name for name, field in fields.items() if getattr(self, name) != field.default]
