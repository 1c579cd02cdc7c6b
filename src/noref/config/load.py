"""Reading configurations: recipes, files, and `key=value` on the command line."""

from __future__ import annotations

import types
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from noref.config.build import nearest
from noref.config.schema import Config
from noref.errors import NorefError
from noref.files import whole

LOSS_TERMS = ("kspace", "image")
"""Keys whose mapping says what there is: naming one loss does not leave those of the recipe beside it."""


def recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("noref.recipes")
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _raw(name: str, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """The mapping of a recipe or file, on top of what it extends."""
    if name in extending:
        raise NorefError(f"{name}: extends itself; give another base")
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise NorefError(f"{path}: cannot be read ({reason}); give a recipe or a .yaml file") from None
    elif name in recipes():
        text = (resources.files("noref.recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise NorefError(f"{name}: no such recipe; {nearest(name, recipes())}")
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise NorefError(f"{name}: not valid YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise NorefError(f"{name}: holds {type(content).__name__}, not keys and values")
    base = content.pop("extends", None)
    if base is None:
        return content
    base = str(base)
    if base.endswith((".yaml", ".yml")):
        base = str(path.parent / base)
    return merge(_raw(base, (*extending, name)), content)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, key by key; another `name`, or losses, replace a mapping as a whole."""
    if "name" in over and over["name"] != base.get("name"):
        return over
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key not in LOSS_TERMS
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=1` as `{"a": {"b": 1}}`; the value is YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise NorefError(f"{text!r}: not of the form key=value, such as training.epochs=10")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return dict(nested)


def load_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a recipe or file with overrides.

    Raises:
        NorefError: naming the first key that is unknown, with the nearest valid one, or impossible.
    """
    raw = _raw(name)
    for text in overrides:
        raw = merge(raw, parse_override(text))
    return check_config(raw, name)


def check_config(raw: dict[str, Any], name: str) -> Config:
    """Validates a mapping."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _fields(first["loc"][:-1])
            raise NorefError(f"{name}: {where} is unknown; {nearest(str(first['loc'][-1]), known)}") from None
        raise NorefError(f"{name}: {where}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def _fields(location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields at a place in `Config`."""
    model: Any = Config
    for part in location:
        hint = model.model_fields[str(part)].annotation
        if get_origin(hint) in (Union, types.UnionType):
            hint = next(arg for arg in get_args(hint) if arg is not type(None))
        model = hint
    if isinstance(model, type) and issubclass(model, BaseModel):
        return list(model.model_fields)
    return list(model.__dataclass_fields__)


def save_config(config: Config, path: Path) -> None:
    """Writes the resolved configuration as YAML."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_config(path: Path) -> Config:
    """The configuration that a run or model folder holds."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise NorefError(f"{path}: cannot be read ({reason}); is this a run or model folder?") from None
    return check_config(content, str(path))
