"""The standing experiments: what the methods do on real scans, each with one command."""

from noref.experiments import brain, joint, lowfield, multicoil
from noref.experiments.experiment import Condition, Experiment, Row, Run, Size

EXPERIMENTS = {module.EXPERIMENT.name: module.EXPERIMENT for module in (brain, multicoil, joint, lowfield)}

__all__ = ["EXPERIMENTS", "Condition", "Experiment", "Row", "Run", "Size"]
