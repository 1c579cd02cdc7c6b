"""Ways to train, and methods made of methods."""

from noref.methods.base import Losses, Method, View, Views
from noref.methods.joint import Joint
from noref.methods.multimask import MultiMask
from noref.methods.refinement import Refinement
from noref.methods.split import Split
from noref.methods.subset import Subset
from noref.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "supervised": Supervised,
    "split": Split,
    "subset": Subset,
    "multimask": MultiMask,
    "joint": Joint,
    "refinement": Refinement,
}
"""Names of the methods in configurations."""

__all__ = [
    "METHODS",
    "Joint",
    "Losses",
    "Method",
    "MultiMask",
    "Refinement",
    "Split",
    "Subset",
    "Supervised",
    "View",
    "Views",
]
