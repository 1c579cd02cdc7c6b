"""What a configuration may say. Unknown keys are errors."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from noref.data.prepare import Preparation
from noref.data.split import Part, Split
from noref.formats import Reading
from noref.losses import Objective
from noref.scan import Role
from noref.training import Training

PLACE = ("path", "role", "subjects", "split", "noise", "calibration")
"""Settings of a `Source` that say which files, and nothing of how others like them are read."""


class Source(Reading, Preparation):
    """Files, how to read them, and what is done to every scan in them.

    Attributes:
        path: a file, a folder, a pattern, or a list of these.
        role: overrides what the source's name says: `proxy` scans bring references, `target` scans do not.
        subjects: use only so many, in the order of their names.
        skip_bad: train on the good files and say how many were left out.
        split: only the subjects of one part, `train`, `validation` or `test`, drawn by `seed`.
        shares: of these parts among the subjects.
    """

    path: str | list[str]
    role: Role | None = None
    subjects: int | None = Field(None, ge=1)
    skip_bad: bool = False
    split: Part | None = None
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)

    @property
    def chosen(self) -> Split | None:
        """The part of the subjects that is used; None for all."""
        return None if self.split is None else Split(part=self.split, shares=self.shares, seed=self.seed)

    @model_validator(mode="after")
    def _parts_make_one(self) -> Self:
        if not (min(self.shares) >= 0 and abs(sum(self.shares) - 1) <= 1e-6):
            raise ValueError("shares of train, validation and test must add up to 1, such as [0.8, 0.1, 0.1]")
        return self


class Data(BaseModel):
    """The scans of a training.

    Attributes:
        target: undersampled scans.
        proxy: fully sampled scans of other anatomies.
        validation: target scans whose Γ selects the weights; without them, Γ of the training scans does.
            What is not said of them is as for the target.
        force: train although all scans share one mask.
        cache_gb: GiB of prepared scans kept in memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Source | None = None
    proxy: Source | None = None
    validation: Source | None = None
    force: bool = False
    cache_gb: float = Field(4.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _validate_like_target(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        target, validation = given.get("target"), given.get("validation")
        if not (isinstance(target, dict) and isinstance(validation, dict)):
            return given
        shared = {key: value for key, value in target.items() if key not in ("role", "subjects", "split")}
        return {**given, "validation": {**shared, **validation}}


class Config(BaseModel):
    """A whole training.

    Attributes:
        data: the scans.
        network: `name` and the arguments of a network.
        method: `name` and the arguments of a method; methods inside it likewise.
        loss: the objective.
        training: how long and how fast.
        init: a model folder, or a finished run, whose weights the network starts from.
        output: the run folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Data = Data()  # type: ignore[call-arg] # every field has a default
    network: dict[str, Any]
    method: dict[str, Any]
    loss: Objective = Objective()
    training: Training = Training()  # type: ignore[call-arg] # every field has a default
    init: str | None = None
    output: str = "runs/noref"
