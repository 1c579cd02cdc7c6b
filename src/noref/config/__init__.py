"""Configurations: what they may say, how they are read, what they build."""

from noref.config.build import build_method, build_network
from noref.config.load import check_config, load_config, read_config, recipes, save_config
from noref.config.schema import PLACE, Config, Data, Source

__all__ = [
    "PLACE",
    "Config",
    "Data",
    "Source",
    "build_method",
    "build_network",
    "check_config",
    "load_config",
    "read_config",
    "recipes",
    "save_config",
]
