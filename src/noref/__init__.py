"""noref: train MRI reconstruction networks when no fully sampled scan exists."""

from noref.api import Model, load, load_config, train
from noref.errors import NorefError
from noref.formats import read, write
from noref.scan import Role, Scan
from noref.version import __version__

__all__ = [
    "Model",
    "NorefError",
    "Role",
    "Scan",
    "__version__",
    "load",
    "load_config",
    "read",
    "train",
    "write",
]
