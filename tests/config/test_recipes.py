"""Every shipped recipe is built, trains, and is the method that it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from training.files import tiny

import noref
from noref.config import build_method, build_network, load_config, recipes
from noref.methods import Joint, Method, Refinement, Split, Subset, Supervised
from noref.scan import Role


def test_the_recipes_are_there() -> None:
    assert {"default", "ssdu", "idr", "jssl", "supervised"} <= set(recipes())


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_is_built(recipe: str) -> None:
    config = load_config(recipe, ["data.target.path=scans", "data.proxy.path=proxies"])
    method, network = build_method(config), build_network(config)
    inside = [module for module in method.modules() if isinstance(module, Method)]
    assert all(module.objective == config.loss for module in inside)
    assert sum(p.numel() for p in network.parameters()) > 10_000


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_trains(recipe: str, tmp_path: Path) -> None:
    config = tiny(recipe, tmp_path)
    model = noref.train(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    stages = build_method(config).stages
    assert {line["stage"] for line in lines} == set(range(stages))
    assert all(line["loss"] > 0 for line in lines if "loss" in line)
    # Only targets have samples to hold out.
    assert any("gamma" in line for line in lines) == (recipe != "supervised")
    assert (model / "model.safetensors").exists()


def test_recipes_are_the_papers_methods() -> None:
    ssdu = build_method(load_config("ssdu"))
    assert isinstance(ssdu, Split)
    assert (ssdu.partition.weight, ssdu.partition.share) == ("gaussian", 0.4)
    idr = build_method(load_config("idr"))
    assert isinstance(idr, Refinement)
    assert isinstance(idr.inner, Subset)
    assert idr.stages == 2
    jssl = build_method(load_config("jssl"))
    assert isinstance(jssl, Joint)
    assert isinstance(jssl.target, Split)
    assert isinstance(jssl.proxy, Supervised)
    assert jssl.target.partition.width == 3.5
    assert jssl.target.partition.share == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    config = load_config("supervised", ["data.target.path=x"])
    assert config.data.target is not None
    assert config.data.target.role is Role.PROXY


def test_one_stage_of_refinement_is_its_inner_method(tmp_path: Path) -> None:
    weights = []
    for recipe, *changes in (("jssl-default",), ("jssl-idr", "method.target.stages=1")):
        (tmp_path / recipe).mkdir()
        config = tiny(recipe, tmp_path / recipe, *changes)
        weights.append(noref.load(noref.train(config)).network.state_dict())
    inner, one_stage = weights
    assert all(torch.equal(inner[key], one_stage[key]) for key in inner)
    joint, alone = load_config("jssl-default"), load_config("default")
    assert joint.method["target"] == alone.method
    assert (joint.training, joint.loss) == (alone.training, alone.loss)


def test_a_fixed_teacher_and_its_counterpart_differ_in_the_teachers_alone() -> None:
    """As docs/recipes.md has it."""
    fixed = load_config("idr-fixed-teacher")
    counterpart = load_config("idr", ["method.stages=4", "training.epochs=10"])
    assert fixed.method == {**counterpart.method, "update": False}
    apart = {"method", "output"}
    assert fixed.model_dump(exclude=apart) == counterpart.model_dump(exclude=apart)


@pytest.mark.parametrize("recipe", ["idr", "idr-mixed", "idr-refined", "idr-fixed-teacher", "jssl-idr"])
def test_refinement_is_taken_back_where_it_does_harm(recipe: str) -> None:
    assert load_config(recipe).training.rollback == 0.05


@pytest.mark.parametrize("recipe", ["ssdu", "jssl"])
def test_losses_of_the_papers_are_not_mixed_with_the_defaults(recipe: str) -> None:
    terms = load_config(recipe).loss.kspace
    assert {name: weight for name, weight in terms.items() if weight} == {"l1": 0.5, "l2": 0.5}
