"""noref: train MRI reconstruction networks when no fully sampled scan exists."""

from noref.acceptance import accept, unblind
from noref.api import Model, load, load_config, train
from noref.config import Source
from noref.errors import NorefError
from noref.formats import read, write
from noref.preparing import prepare
from noref.scan import Role, Scan
from noref.version import __version__

__all__ = [
    "Model",
    "NorefError",
    "Role",
    "Scan",
    "Source",
    "__version__",
    "accept",
    "load",
    "load_config",
    "prepare",
    "read",
    "train",
    "unblind",
    "write",
]
