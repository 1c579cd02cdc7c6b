"""Ways to train, and methods made of methods."""

from noref.methods.base import Method
from noref.methods.cyclic import Cyclic
from noref.methods.equivariant import Equivariant
from noref.methods.joint import Joint
from noref.methods.multimask import MultiMask
from noref.methods.multioperator import MultiOperator
from noref.methods.parallel import Parallel
from noref.methods.refinement import Refinement
from noref.methods.robust import Robust
from noref.methods.split import Split
from noref.methods.subset import Subset
from noref.methods.supervised import Supervised
from noref.methods.view import Losses, View, Views
from noref.methods.weighted import Weighted

METHODS: dict[str, type[Method]] = {
    "supervised": Supervised,
    "split": Split,
    "subset": Subset,
    "multimask": MultiMask,
    "joint": Joint,
    "refinement": Refinement,
    "weighted": Weighted,
    "robust": Robust,
    "cyclic": Cyclic,
    "multioperator": MultiOperator,
    "equivariant": Equivariant,
    "parallel": Parallel,
}
"""Names of the methods in configurations."""

__all__ = [
    "METHODS",
    "Cyclic",
    "Equivariant",
    "Joint",
    "Losses",
    "Method",
    "MultiMask",
    "MultiOperator",
    "Parallel",
    "Refinement",
    "Robust",
    "Split",
    "Subset",
    "Supervised",
    "View",
    "Views",
    "Weighted",
]
