"""What the texts say is so: settings and defaults in their tables, and every command."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from noref.cli import app
from noref.cli.sources import divided, source
from noref.config import Config, Source, build_method, build_network, load_config, recipes
from noref.losses import Objective
from noref.methods import METHODS
from noref.networks import NETWORKS
from noref.training import Training

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)


def tables(path: Path) -> Iterator[tuple[str, str, str]]:
    """Heading, key and default of every row of the tables `| key | default | |`."""
    heading = ""
    told = False
    for line in path.read_text().splitlines():
        heading = line.lstrip("# ") if line.startswith("#") else heading
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        told = line.startswith("|") and (told or cells[1] == "default")
        if told and cells[0].startswith("`"):
            yield heading, cells[0].strip("`"), cells[1].strip("`")


def commands(path: Path) -> Iterator[list[str]]:
    """The commands of a text's shell blocks that noref is to carry out, without comments."""
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", path.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["noref"] and "RECIPE" not in words:
                yield words[1:]


def flat(values: Any, where: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a": {"b": 1}, "a.b": 1}`."""
    found = {where: values} if where else {}
    if isinstance(values, dict):
        for key, value in values.items():
            found |= flat(value, f"{where}.{key}".lstrip("."))
    return found


def defaults(cls: type) -> dict[str, Any]:
    """The arguments of a method or network, and of its partition."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if dataclasses.is_dataclass(parameter.default):
            found |= {f"{name}.{key}": value for key, value in vars(parameter.default).items()}
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            found[name] = None if parameter.default is parameter.empty else parameter.default
    return found


def test_every_key_of_a_configuration_is_documented_with_its_default() -> None:
    told: dict[str, dict[str, Any]] = {}
    for heading, key, default in tables(ROOT / "docs" / "configuration.md"):
        told.setdefault(heading, {})[key] = yaml.safe_load(default)
    whole = Config(network={}, method={}).model_dump(mode="json")
    objective = dataclasses.asdict(Objective())
    expected: dict[str, dict[str, Any]] = {
        "data": {f"data.{key}": value for key, value in whole["data"].items()},
        "data.target, data.proxy, data.validation": {
            **Source(path=[]).model_dump(mode="json"),
            "path": None,
        },
        "network": {"network.demodulate": False, "network.refine_maps": False},
        "loss": {f"loss.{key}": value for key, value in objective.items()},
        "training": {f"training.{key}": value for key, value in Training().model_dump().items()},
        "init": {"init": whole["init"]},
        "output": {"output": whole["output"]},
        **{name: defaults(cls) for name, cls in {**METHODS, **NETWORKS}.items()},
    }
    assert told == {
        heading: {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}
        for heading, keys in expected.items()
    }


def test_recipes_are_documented_with_their_settings() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text()
    for recipe in set(recipes()) - {"demo"}:
        assert f"## {recipe}\n" in text
    rows = list(tables(ROOT / "docs" / "recipes.md"))
    assert {heading for heading, _, _ in rows} >= {"default", "ssdu", "idr"}
    for recipe, key, default in rows:
        config = load_config(recipe, ["data.target.path=x"]).model_dump(mode="json")
        unsaid = defaults(METHODS[config["method"]["name"]])
        value = ({f"method.{name}": of for name, of in unsaid.items()} | flat(config))[key]
        value = value["name"] if key == "method.inner" else value
        assert value == yaml.safe_load(default), (recipe, key)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_in_texts_are_commands(path: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands(path):
        # Parses options and arguments as the command would, and does nothing.
        context = group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
        given = context.params
        if words[0] == "train" and not given["resume"] and not given["recipe"].endswith(".yaml"):
            load_config(given["recipe"], given["settings"] or [])
        if words[0] in ("reconstruct", "evaluate"):
            source(["x"], [s for s in divided(words[2:])[1] if not s.startswith("path=")])


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_configurations_in_texts_are_possible(path: Path, tmp_path: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
        (tmp_path / "mine.yaml").write_text(block)
        config = load_config(str(tmp_path / "mine.yaml"))
        build_method(config)
        build_network(config)
