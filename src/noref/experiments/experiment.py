"""What a standing experiment is: rows, conditions, and the configuration of each run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from noref.config import Config, load_config
from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.evaluation.score import Reconstructor

STEPS = 1200
"""Optimiser steps of every run, unless an experiment has its own: 40 epochs of 120 slices, 4 at a time."""

BATCH = 4
VALIDATIONS = 40
"""How often a run is validated, about: a checkpoint each time for the choice by Γ."""

STAGES = ("method.stages={stages}", "training.rollback=0")
"""Refinement as the plan of the experiments has it; of equal length, whatever roll-back would say."""

TWICE = Fraction(2)
"""As many steps as the other rows of a table have, twice."""


@dataclass(frozen=True)
class Row:
    """A way to train.

    Attributes:
        recipe: shipped with noref.
        settings: `key=value` beside data, size and length; `{stages}` stands for the experiment's number.
        proxy: the data set that brings references, as a folder of the experiment's data; empty for none.
        target: whether it learns from the target at all.
        start: the row whose weights it starts from, of the same condition and seed; empty for none.
        share: of the optimiser steps.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    proxy: str = ""
    target: bool = True
    start: str = ""
    share: Fraction = Fraction(1)


@dataclass(frozen=True)
class Condition:
    """What all rows of a table share.

    Attributes:
        train: folders of the experiment's data with the targets to train on.
        validation: those whose Γ chooses the weights; without any, Γ of the training's targets does, and rows
            without targets keep their last weights.
        test: those that are scored.
        sampling: settings of every source of data, by key.
        seeds: how many seeds of each row are trained; rows that are not named are not in the table.
        targets: how many of the training scans are used, spread evenly; all if None.
        without_targets: the condition whose runs stand for this one's in rows that do not learn from targets;
            its own if empty.
        also: further scans that the same models are scored on, by name: settings of a `Source`, whose path is
            below the folder of real scans.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    sampling: Mapping[str, Any]
    seeds: Mapping[str, int]
    targets: int | None = None
    without_targets: str = ""
    also: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pooled:
    """A table of the test scans of several tables.

    Attributes:
        tables: names of those, whose test scans differ.
        division: which scans train, and which test.
        untested: why differences over the subjects are not tested.
    """

    tables: Sequence[str]
    division: str
    untested: str


Further = Callable[[str, Reconstructor, Dataset, Dataset], Mapping[str, float]]


@dataclass(frozen=True)
class Experiment:
    """A standing experiment.

    Attributes:
        name: of the command line.
        intro: what the data are; blank lines separate paragraphs.
        rows: what can be trained, by name.
        conditions: the tables, by name.
        classical: methods that stand beside the rows.
        write: writes the data: from the folder of scans, to a folder, for a matrix.
        pooled: tables of several tables' scans, by name.
        anchors: the rows between which the share of the distance is measured; None where PSNR is no measure.
        baseline: the row that the others are compared with.
        others: further rows that are not trained.
        measures: what the experiment measures itself: notes on columns, by their headings.
        further: measures them, of a row's name and reconstructor, on the test scans and those of `repeats`.
        repeats: folder of the experiment's data with scans that were repeated.
        division: which scans train, and which test, in the table of a condition; the intro may say it, too.
        untested: why differences over the test's subjects are not tested, however many there are.
        steps: of the optimiser, of every run.
    """

    name: str
    intro: str
    rows: Mapping[str, Row]
    conditions: Mapping[str, Condition]
    classical: tuple[str, ...]
    write: Callable[[Path, Path, int], None]
    pooled: Mapping[str, Pooled] = field(default_factory=dict)
    anchors: tuple[str, str] | None = ("ssdu", "supervised")
    baseline: str = "wavelet"
    others: Mapping[str, Reconstructor] = field(default_factory=dict)
    measures: Mapping[str, str] = field(default_factory=dict)
    further: Further | None = None
    repeats: str = ""
    division: str = ""
    untested: str = ""
    steps: int = STEPS


Begun = Mapping[str, int | str | None]
"""What all runs of an experiment share, by name: the matrix and the size."""


@dataclass(frozen=True)
class Size:
    """What of a recipe, or of an experiment, may be overridden: None for its own.

    Attributes:
        phases: of the network.
        features: of the network.
        steps: of the optimiser, of every run.
        stages: of refinement, which share the steps.
        network: of all rows but those that ask what a network adds, by its name.
    """

    phases: int | None = None
    features: int | None = None
    steps: int | None = None
    stages: int = 5
    network: str | None = None

    def settings(self) -> list[str]:
        """As `key=value`."""
        network = [] if self.network is None else [f"network={{name: {self.network}}}"]
        given = {"network.phases": self.phases, "network.features": self.features}
        return [*network, *(f"{key}={value}" for key, value in given.items() if value is not None)]


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        experiment: that it belongs to.
        condition: name of its table.
        row: name of its row.
        seed: of the training.
        home: folder of the experiment.
        size: of the network, and the steps.
    """

    experiment: Experiment
    condition: str
    row: str
    seed: int
    home: Path
    size: Size = field(default=Size())

    @property
    def steps(self) -> Fraction:
        """Of the optimiser."""
        return (self.size.steps or self.experiment.steps) * self.experiment.rows[self.row].share

    @property
    def folder(self) -> Path:
        """Of the run."""
        condition = self.condition
        if not self.experiment.rows[self.row].target:
            condition = self.experiment.conditions[condition].without_targets or condition
        return self.home / condition / f"seed-{self.seed}" / self.row

    @property
    def lock(self) -> Path:
        """The file that the process which trains it holds."""
        return self.folder.with_name(f"{self.row}.lock")

    @property
    def finished(self) -> bool:
        """Whether its model is there."""
        return (self.folder / "model" / "model.safetensors").exists()

    @property
    def start(self) -> Run | None:
        """The run that it starts from."""
        of = self.experiment.rows[self.row].start
        return Run(self.experiment, self.condition, of, self.seed, self.home, self.size) if of else None

    def folders(self, names: tuple[str, ...]) -> list[Path]:
        """Of the experiment's data."""
        return [self.home / "data" / name for name in names]

    def _located(self, value: object) -> object:
        """A setting's value; a mask's file lies with the experiment's data."""
        return self.home / "data" / value if isinstance(value, str) and value.endswith(".npy") else value

    def config(self) -> Config:
        """Its configuration: the recipe, the condition's data, and epochs that make the steps.

        Raises:
            NorefError: if the steps cannot be shared out evenly over stages and epochs.
        """
        row, condition = self.experiment.rows[self.row], self.experiment.conditions[self.condition]
        sources = {"validation": self.folders(condition.validation)} if condition.validation else {}
        if row.target:
            sources["target"] = self.folders(condition.train)
            if condition.targets is not None:
                sources["target"] = spread(files(sources["target"]), condition.targets)
        if row.proxy:
            sources["proxy"] = self.folders((row.proxy,))
        # As JSON, which YAML contains: names may have commas.
        given = [f"data.{name}.path={json.dumps(list(map(str, of)))}" for name, of in sources.items()]
        sampling = {key: self._located(value) for key, value in condition.sampling.items()}
        given += [f"data.{name}.{key}={value}" for name in sources for key, value in sampling.items()]
        settings = [setting.replace("{stages}", str(self.size.stages)) for setting in row.settings]
        recipe = load_config(row.recipe, [*given, *settings])
        method = recipe.method.get("target", recipe.method)
        stages = method.get("stages", 1)
        mixing = recipe.training.mixing if row.target and row.proxy else 0
        visited = len(files(sources["target" if row.target else "proxy"]))
        per_epoch = math.ceil(visited / (BATCH * (1 - mixing)))
        epochs = self.steps / per_epoch / stages
        if epochs.denominator > 1 or epochs < 1:
            raise NorefError(
                f"{self.experiment.name} {self.condition} {self.row}: {self.steps} steps are not whole "
                f"epochs of {per_epoch} in each of {stages} stages; give another number of --steps"
            )
        own = [
            f"training.batch={BATCH}",
            f"training.epochs={epochs}",
            f"training.validate_every={max(1, int(epochs * stages) // VALIDATIONS)}",
            f"training.seed={self.seed}",
        ]
        if self.start is not None:
            own.append(f"init={self.start.folder}")
        return load_config(
            row.recipe, [*given, *self.size.settings(), *own, *settings, f"output={self.folder}"]
        )


def files(paths: list[Path]) -> list[Path]:
    """The files, one slice each, that some folders hold, or are; by folder and name.

    Raises:
        NorefError: if a folder has none.
    """
    found = []
    for path in paths:
        inside = sorted(path.glob("*.h5")) if path.is_dir() else [path] if path.exists() else []
        if not inside:
            raise NorefError(f"{path}: no scans; remove the data folder that it is in, and start again")
        found += inside
    return found


def spread(of: list[Path], number: int) -> list[Path]:
    """So many of the files, evenly spread: neighbours may be of one patient."""
    return [of[(2 * place + 1) * len(of) // (2 * number)] for place in range(number)]
