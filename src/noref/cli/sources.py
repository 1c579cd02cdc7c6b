"""Scans named on the command line, by a path and `key=value`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from noref.config import PLACE, Source
from noref.config.build import nearest
from noref.config.load import merge, parse_override
from noref.errors import NorefError
from noref.formats import Beside, Reading

M = TypeVar("M", bound=Reading)


def source(paths: Sequence[str], settings: Sequence[str], base: Source | None = None) -> Source:
    """The source of some files, with the settings of `base` where none are given.

    Args:
        paths: files, folders or patterns.
        settings: `key=value` of a `Source`.
        base: a training's source, which knows how its scans are undersampled and read.

    Raises:
        NorefError: naming the setting that is unknown or impossible.
    """
    raw: dict[str, Any] = {} if base is None else base.model_dump(exclude=set(PLACE))
    raw["path"] = list(paths)
    for text in settings:
        raw = merge(raw, parse_override(text))
    return checked(Source, raw)


def checked(kind: type[M], raw: dict[str, Any]) -> M:
    """Settings of a kind.

    Raises:
        NorefError: naming the setting that is unknown or impossible.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = kind.model_fields if len(first["loc"]) == 1 else Beside.model_fields
            raise NorefError(f"{key} is unknown; {nearest(str(first['loc'][-1]), known)}") from None
        raise NorefError(f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def named_paths(paths: Sequence[str], settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths with those that were given as `path=`, and the other settings."""
    named = [text for text in settings if text.startswith("path=")]
    values = [parse_override(text)["path"] for text in named]
    given = [str(path) for value in values for path in (value if isinstance(value, list) else [value])]
    return [*paths, *given], [text for text in settings if text not in named]


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths, and settings: arguments with an equals sign that are no file."""
    settings = [a for a in arguments if "=" in a and not Path(a).exists()]
    return [a for a in arguments if a not in settings], settings
