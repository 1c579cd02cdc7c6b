"""A mistake in a configuration is one line that says how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import noref
from noref.api import check_folder
from noref.config import (
    Config,
    build_method,
    build_network,
    check_config,
    load_config,
    read_config,
    recipes,
    save_config,
)
from noref.config.load import merge, parse_override
from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import Joint, Subset


def refused(*overrides: str, recipe: str = "default") -> str:
    """The one line with which a configuration is refused."""

    def build() -> None:
        config = load_config(recipe, overrides)
        build_method(config)
        build_network(config)

    with pytest.raises(NorefError) as error:
        build()
    assert "\n" not in str(error.value)
    return str(error.value)


# what is refused


@pytest.mark.parametrize(
    ("override", "where", "nearest"),
    [
        ("trainning.epochs=1", "trainning", "training"),
        ("data.targets.path=x", "data.targets", "target"),
        ("data.target.holdut=0.1", "data.target.holdut", "holdout"),
        ("data.proxy.acelleration=4", "data.proxy.acelleration", "acceleration"),
        ("data.validation.patth=x", "data.validation.patth", "path"),
        ("training.epoch=3", "training.epoch", "epochs"),
        ("loss.weigthing=none", "loss.weigthing", "weighting"),
        ("method.shar=0.5", "method.shar", "share"),
        ("method.name=spilt", "method.name", "split"),
        ("network.fetures=3", "network.fetures", "features"),
        ("network.name=istnet", "network.name", "istanet"),
    ],
)
def test_unknown_keys_name_the_nearest(override: str, where: str, nearest: str) -> None:
    text = refused("data.target.path=x", "data.proxy.path=x", "data.validation.path=x", override)
    assert where in text
    assert "unknown" in text
    assert f"did you mean {nearest!r}?" in text


@pytest.mark.parametrize(
    ("recipe", "override", "where", "nearest"),
    [
        ("idr", "method.stage=3", "method.stage", "stages"),
        ("idr", "method.inner.center=0.1", "method.inner.center", "centre"),
        ("idr", "method.inner.name=subsett", "method.inner.name", "subset"),
        ("jssl", "method.wieght=0.3", "method.wieght", "weight"),
        ("jssl", "method.target.partitions=1", "method.target.partitions", "partition"),
        ("jssl", "method.target.partition.widht=1", "method.target.partition.widht", "width"),
        ("ssdu", "method.partition.shares=0.1", "method.partition.shares", "share"),
    ],
)
def test_unknown_keys_inside_methods_name_the_nearest(
    recipe: str, override: str, where: str, nearest: str
) -> None:
    text = refused(override, recipe=recipe)
    assert f"{where}: " in text
    assert "unknown" in text
    assert f"did you mean {nearest!r}?" in text


def test_a_name_like_no_other_lists_what_there_is() -> None:
    assert "there are" in refused("method.name=zzz")
    assert "default" in refused(recipe="zzz")
    assert "did you mean 'ssdu'" in refused(recipe="sdsu")
    assert "l1, l2, nmse, mse" in refused("loss.kspace.l3=1")


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("training.epochs=many", "training.epochs"),
        ("training.epochs=2.5", "training.epochs"),
        ("training.batch=0", "training.batch"),
        ("training.lr=-1", "training.lr"),
        ("training.precision=fp16", "training.precision"),
        ("training=fast", "training"),
        ("data.target.path=5", "data.target.path"),
        ("data.target={mask: acquired}", "data.target.path"),
        ("data.target={path: x, holdout: 2}", "data.target.holdout"),
        ("data.target={path: x, role: both}", "data.target.role"),
        ("data.target=scans", "data.target"),
        ("loss.kspace=[1]", "loss.kspace"),
        ("loss.penalty=high", "loss.penalty"),
        ("loss=l1", "loss"),
        ("method=split", "method"),
        ("method={share: 0.5}", "method"),
        ("method.share=high", "method.share"),
        ("method={name: split, partition: 4}", "method.partition"),
        ("method={name: split, partition: {unit: dots}}", "method.partition.unit"),
        ("method={name: multimask}", "method: inner is missing"),
        ("method={name: multimask, inner: {share: 1}}", "method.inner: give a name"),
        ("network=5", "network"),
        ("network.phases=2.5", "network.phases"),
        ("network.checkpointing=perhaps", "network.checkpointing"),
        ("output=[1]", "output"),
    ],
)
def test_wrong_types_are_one_line_that_names_the_key(override: str, where: str) -> None:
    if override.startswith("method={share"):
        with pytest.raises(NorefError, match="give a name and arguments"):
            build_method(check_config({"network": {"name": "istanet"}, "method": {"share": 0.5}}, "x"))
    else:
        assert where in refused(override)


def test_settings_of_methods_are_checked_when_they_are_built() -> None:
    assert "weight is 0" in refused("method.weight=0", recipe="jssl")
    assert "refines too" in refused("method.inner={name: refinement, inner: {name: subset}}", recipe="idr")


@pytest.mark.parametrize(
    "content",
    [b"", b"- 1\n- 2\n", b"a: b: c", b"{", b"\xff\xfe\x00", b"network: {name: istanet}", b"1: 2"],
)
def test_files_that_are_no_configuration_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    assert "c.yaml" in refused(recipe=str(tmp_path / "c.yaml"))


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "No such file" in refused(recipe=str(tmp_path / "absent.yaml"))
    assert "no such recipe" in refused(recipe=str(tmp_path / "absent"))


# extends and overrides


def test_extends_starts_from_a_recipe_or_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "base.yaml").write_text("extends: idr\ntraining: {epochs: 7}\n")
    (tmp_path / "deep" / "mine.yaml").write_text("extends: ../base.yaml\ntraining: {batch: 3}\n")
    config = load_config(str(tmp_path / "deep" / "mine.yaml"), ["method.stages=4"])
    assert (config.training.epochs, config.training.batch) == (7, 3)
    assert config.training.refined_lr == load_config("idr").training.refined_lr
    assert config.method["stages"] == 4
    assert config.method["inner"]["name"] == "subset"


def test_extending_oneself_is_refused(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.yaml").write_text(f"extends: {other}.yaml\n")
    assert "extends itself" in refused(recipe=str(tmp_path / "a.yaml"))


def test_merging() -> None:
    base = {"name": "split", "partition": {"share": 0.4, "width": 4}}
    assert merge(base, {"partition": {"share": 0.2}}) == {
        "name": "split",
        "partition": {"share": 0.2, "width": 4},
    }
    assert merge(base, {"name": "split", "partition": 1}) == {"name": "split", "partition": 1}
    assert merge(base, {"name": "subset", "share": 0.5}) == {"name": "subset", "share": 0.5}
    assert merge({"method": base}, {"method": {"name": "subset"}}) == {"method": {"name": "subset"}}
    assert base == {"name": "split", "partition": {"share": 0.4, "width": 4}}


def test_another_name_leaves_the_old_arguments_behind() -> None:
    config = load_config("jssl", ["method.target.name=subset", "method.target.share=0.7"])
    method = build_method(config)
    assert isinstance(method, Joint)
    assert isinstance(method.target, Subset)
    assert method.target.share == 0.7
    assert method.weight == 0.5


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a=1", {"a": 1}),
        ("a.b.c=0.5", {"a": {"b": {"c": 0.5}}}),
        ("a=", {"a": None}),
        ("a=x=y", {"a": "x=y"}),
        ("a=true", {"a": True}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a={b: 1}", {"a": {"b": 1}}),
        ("a={broken", {"a": "{broken"}),
        ("a=scans/*.h5", {"a": "scans/*.h5"}),
        ("a=*.h5", {"a": "*.h5"}),
    ],
)
def test_overrides(text: str, parsed: dict) -> None:
    assert parse_override(text) == parsed


@pytest.mark.parametrize("text", ["a", "=1", "", "--x"])
def test_overrides_without_key_or_value_are_refused(text: str) -> None:
    with pytest.raises(NorefError, match="not of the form key=value"):
        parse_override(text)


@given(st.floats(1e-9, 1e9), st.integers(1, 10**6))
def test_numbers_survive_the_command_line(lr: float, epochs: int) -> None:
    config = load_config("default", [f"training.lr={lr}", f"training.epochs={epochs}"])
    assert config.training.lr == lr
    assert config.training.epochs == epochs


# saved and resumed


@pytest.mark.parametrize("recipe", recipes())
def test_saved_and_read_again(recipe: str, tmp_path: Path) -> None:
    paths = ["data.target.path=[a, b*]", "data.proxy.path=d", "data.validation.path=c"]
    config = load_config(recipe, [*paths, "training.lr=3e-4"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(str(tmp_path / "config.yaml")) == config
    assert read_config(tmp_path / "config.yaml") == config
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved["training"]["save_every"] == 60
    assert "extends" not in saved


def test_validation_is_read_as_the_target_is() -> None:
    config = load_config(
        "default",
        ["data.target.path=a", "data.target.seed=4", "data.target.subjects=2", "data.validation.path=b"],
    )
    assert config.data.validation is not None
    assert (config.data.validation.path, config.data.validation.seed) == ("b", 4)
    assert config.data.validation.subjects is None


def test_a_run_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    known = ["training.lr=0.001", "network.phases=6", "loss={kspace: {l1: 1}}"]
    given = ["data.target.path=x", f"output={tmp_path / 'run'}", *known]
    config = load_config("ssdu", given)
    check_folder(tmp_path / "run", config, resume=False)
    check_folder(tmp_path / "run", config, resume=True)
    save_config(config, tmp_path / "run" / "config.yaml")
    check_folder(tmp_path / "run", config, resume=True)
    with pytest.raises(NorefError, match="already holds a run; go on with --resume"):
        check_folder(tmp_path / "run", config, resume=False)
    for override, told in (
        ("training.lr=0.5", r"training\.lr=0\.001, not 0\.5"),
        ("method.partition.share=0.3", r"method\.partition\.share=0\.4, not 0\.3"),
        ("method.name=subset", r"method\.name=split, not subset"),
        ("network.phases=3", r"network\.phases=6, not 3"),
        ("data.target.path=y", r"data\.target\.path=x, not y"),
        ("data.proxy.path=y", r"data\.proxy\.mask=None, not acquired"),
        ("loss.penalty=1", r"loss\.penalty=0\.0, not 1\.0"),
    ):
        changed = load_config("ssdu", [*given, override])
        with pytest.raises(NorefError, match=f"started with {told}; resume it as it was") as error:
            check_folder(tmp_path / "run", changed, resume=True)
        assert "\n" not in str(error.value)
        assert "config.yaml" in str(error.value)


def test_a_moved_run_is_still_the_same(tmp_path: Path) -> None:
    config = load_config("ssdu", ["data.target.path=x", f"output={tmp_path / 'run'}"])
    save_config(config, tmp_path / "moved" / "config.yaml")
    moved = config.model_copy(update={"output": str(tmp_path / "moved")})
    check_folder(tmp_path / "moved", moved, resume=True)


def test_tuples_and_lists_are_the_same_setting(tmp_path: Path) -> None:
    config = Config(network={"name": "istanet"}, method={"name": "subset", "share": (0.5, 0.9)})
    save_config(config, tmp_path / "config.yaml")
    check_folder(tmp_path, config, resume=True)


def test_folders_with_other_files_are_not_written_to(tmp_path: Path) -> None:
    config = load_config("ssdu", ["data.target.path=x"])
    (tmp_path / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(NorefError, match="holds other files; give another output="):
            check_folder(tmp_path, config, resume)
    with pytest.raises(NorefError, match="holds other files"):
        check_folder(tmp_path / "thesis.tex", config, resume=False)


def test_damaged_configurations_of_runs_are_one_line(tmp_path: Path) -> None:
    for content in (b"", b"\xff\xfe", b"{", b"training: 5"):
        (tmp_path / "config.yaml").write_bytes(content)
        with pytest.raises(NorefError, match=r"config\.yaml") as error:
            read_config(tmp_path / "config.yaml")
        assert "\n" not in str(error.value)


def test_bad_input_does_not_claim_the_folder(tmp_path: Path) -> None:
    """After a wrong path, the corrected command just works."""
    config = load_config("ssdu", [f"data.target.path={tmp_path / 'absent'}", f"output={tmp_path / 'run'}"])
    with pytest.raises(NorefError, match="absent"):
        noref.train(config)
    assert not (tmp_path / "run").exists()


def test_weights_are_the_seeds_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build_network(load_config("demo")).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    two = build_network(load_config("demo")).state_dict()
    other = build_network(load_config("demo", ["training.seed=1"])).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_objective_is_the_configurations() -> None:
    loss = "loss={kspace: {l1: 1}, image: {ssim: 0.5}, weighting: none, penalty: 0.02}"
    method = build_method(load_config("jssl", [loss]))
    assert isinstance(method, Joint)
    wanted = Objective(kspace={"l1": 1}, image={"ssim": 0.5}, weighting="none", penalty=0.02)
    assert method.objective == method.target.objective == method.proxy.objective == wanted
