"""The training loop and what makes it trustworthy."""

from noref.training.engine import Engine, Interrupted, Progress
from noref.training.settings import Training

__all__ = ["Engine", "Interrupted", "Progress", "Training"]
