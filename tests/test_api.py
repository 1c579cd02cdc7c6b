"""What a user calls from Python, from files to a model that reconstructs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from synthetic import scan, undersampled
from training.files import tiny, write_proxies, write_targets

import noref
from noref.api import build_engine, dataset
from noref.config import Config, Source, load_config
from noref.data.files import files_of, open_scans
from noref.errors import NorefError
from noref.formats import fastmri
from noref.formats.base import pseudonym
from noref.scan import Role, ScanBatch
from noref.scoring import Trained, shared_subjects
from noref.training import Engine


def slice_of(subject: int) -> str:
    """The only slice of a subject."""
    return f"{pseudonym(f'subject{subject}')}/target{subject}/000"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, Engine]:
    """A configuration, its model folder, and the engine as it is after training."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("api")
    config = tiny("idr", folder)
    model = noref.train(config)
    engine = build_engine(config)
    engine.resume()
    return config, model, engine


def one_line(error: pytest.ExceptionInfo[NorefError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# models


def test_a_model_folder_is_all_there_is(trained: tuple[Config, Path, Engine]) -> None:
    config, model, engine = trained
    assert sorted(path.name for path in model.iterdir()) == ["README.md", "config.yaml", "model.safetensors"]
    assert noref.load_config(str(model / "config.yaml")) == config
    card = (model / "README.md").read_text()
    assert "target: 2 slices (2 coils, 20×16)" in card
    assert f"{engine.progress.best:.5f}" in card
    assert noref.__version__ in card
    run = sorted(path.name for path in model.parent.iterdir())
    assert run == ["checkpoint.safetensors", "config.yaml", "metrics.jsonl", "model", "teacher"]


def test_a_loaded_model_is_the_trained_one(trained: tuple[Config, Path, Engine]) -> None:
    config, folder, engine = trained
    assert config.data.target is not None
    sample = dataset(config.data.target, Role.TARGET)[1]
    engine.network.eval()
    with torch.no_grad():
        expected = engine.network(sample.kspace[None], ScanBatch.of([sample]).encoding()).image[0]
    for place in (folder, folder.parent, str(folder)):
        model = noref.load(place, device="cpu")
        image = model.reconstruct(sample)
        assert image.dtype == torch.complex64
        assert image.shape == (1, 20, 16)
        assert torch.equal(image, expected)
        assert not model.network.training
        assert model.config == config


def test_a_model_prepares_what_was_read(trained: tuple[Config, Path, Engine]) -> None:
    model = noref.load(trained[1], device="cpu")
    read = undersampled(scan((20, 16), 2, seed=3), "random2d", 2, 4)
    with pytest.raises(NorefError, match="not prepared for this model"):
        model.reconstruct(read)
    brighter = replace(read, kspace=read.kspace * 1e-6j)
    first, second = (model.prepare(one) for one in (read, brighter))
    images = [model.reconstruct(one) * one.scale for one in (first, second)]
    torch.testing.assert_close(images[1], images[0] * 1e-6j, rtol=1e-3, atol=1e-9)


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_folder_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("default", tmp_path)

    def fail(*_: object) -> None:
        raise RuntimeError("out of something")

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_optimise", fail)
        with pytest.raises(RuntimeError, match="out of something"):
            noref.train(config)
    noref.train(config)


def test_nothing_outside_the_mask_is_read(trained: tuple[Config, Path, Engine]) -> None:
    model = noref.load(trained[1], device="cpu")
    sample = noref.data.dataset.Dataset(
        [scan((20, 16), 2, seed=3)], Source(path="x", mask="random2d", acs=4)
    )[0]
    spoilt = replace(sample, kspace=torch.where(sample.mask, sample.kspace, 1e6))
    assert torch.equal(model.reconstruct(sample), model.reconstruct(spoilt))


def test_models_that_are_none_are_refused(trained: tuple[Config, Path, Engine], tmp_path: Path) -> None:
    _, good, _ = trained
    with pytest.raises(NorefError, match="no model there; give a model folder") as error:
        noref.load(tmp_path / "absent")
    one_line(error)

    def copied(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    unfinished = copied("unfinished")
    (unfinished / "model.safetensors").unlink()
    with pytest.raises(NorefError, match="a run that has finished"):
        noref.load(unfinished)

    bare = copied("bare")
    (bare / "config.yaml").unlink()
    with pytest.raises(NorefError, match=r"config\.yaml: cannot be read") as error:
        noref.load(bare)
    one_line(error)

    for name, content in (("empty", b""), ("cut", (good / "model.safetensors").read_bytes()[:-50])):
        (copied(name) / "model.safetensors").write_bytes(content)
        with pytest.raises(NorefError, match=r"model\.safetensors: damaged") as error:
            noref.load(tmp_path / name)
        one_line(error)

    other = copied("other")
    text = (other / "config.yaml").read_text().replace("features: 2", "features: 3")
    (other / "config.yaml").write_text(text)
    with pytest.raises(
        NorefError, match=r"another network: .* is \(2, 2, 3, 3\), not \(3, 2, 3, 3\)"
    ) as error:
        noref.load(other)
    one_line(error)

    missing = copied("missing")
    weights = load_file(missing / "model.safetensors")
    weights.pop("network.inner.phases.0.gather")
    save_file(weights, missing / "model.safetensors")
    with pytest.raises(NorefError, match=r"phases\.0\.gather is missing"):
        noref.load(missing)


def test_a_finished_run_resumed_writes_the_model_again(trained: tuple[Config, Path, Engine]) -> None:
    config, model, _ = trained
    before = (model / "model.safetensors").read_bytes()
    shutil.rmtree(model)
    assert noref.train(config, resume=True) == model
    assert (model / "model.safetensors").read_bytes() == before


def test_another_training_does_not_touch_a_run(trained: tuple[Config, Path, Engine]) -> None:
    config, model, _ = trained
    with pytest.raises(NorefError, match="already holds a run"):
        noref.train(config)
    assert model.is_dir()


# what a training needs


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    config = load_config("default", [f"output={tmp_path / 'run'}"])
    with pytest.raises(NorefError, match=r"give data\.target\.path"):
        noref.train(config)


def test_a_role_can_be_given_once(tmp_path: Path) -> None:
    config = tiny("jssl", tmp_path, "data.proxy.role=target")
    with pytest.raises(NorefError, match="both have the role target"):
        noref.train(config)


def test_one_shared_mask_is_forgiven_where_references_are_learned(tmp_path: Path) -> None:
    """Not where proxies are there, and teach what targets do."""
    full = [scan((20, 16), 1, seed=seed, noise=0.01) for seed in range(2)]
    mask = undersampled(full[0], "random2d", 2, 4).mask
    (tmp_path / "alike").mkdir()
    for i, one in enumerate(full):
        fastmri.write(tmp_path / "alike" / f"alike{i}.h5", [one.undersampled(mask)])
    for recipe, refused in (("ssdu-everything", True), ("jssl", False)):
        (tmp_path / recipe).mkdir()
        config = tiny(recipe, tmp_path / recipe, f"data.target.path={tmp_path / 'alike'}")
        if refused:
            with pytest.raises(NorefError, match=r"all 2 scans of 1 coil\(s\) share one mask"):
                build_engine(config)
        else:
            with pytest.warns(UserWarning, match="share one mask"):
                build_engine(config)


def test_without_holdout_nothing_is_validated(tmp_path: Path) -> None:
    model = noref.train(tiny("default", tmp_path, "data.target.holdout=0"))
    assert "gamma" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "Γ" not in (model / "README.md").read_text()


def test_validation_needs_held_out_samples(tmp_path: Path) -> None:
    path = write_targets(tmp_path / "more", 1)
    config = tiny("default", tmp_path, f"data.validation.path={path}", "data.validation.holdout=0")
    with pytest.raises(NorefError, match="only targets with holdout above 0 can validate"):
        noref.train(config)
    assert not (tmp_path / "run").exists()


def test_validation_scans_select_the_weights(tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    slices = [undersampled(scan((16, 18), 2, seed=9), "random2d", 2, 4)]
    fastmri.write(more / "validation.h5", slices)
    engine = build_engine(tiny("default", tmp_path, f"data.validation.path={more}"))
    engine.run()
    assert engine.validation is not None
    assert [scan_.id for scan_ in engine.validation] == [f"{pseudonym('subject9')}/validation/000"]
    assert [len(scores) for scores in engine.progress.gammas[0]] == [1]


# files


def test_subjects_that_train_and_validate_are_told(tmp_path: Path) -> None:
    path = write_targets(tmp_path / "more", 2)
    config = tiny("default", tmp_path, f"data.validation.path={path}")
    with pytest.warns(UserWarning, match=r"data\.validation: \d of \d subjects are trained on as well"):
        build_engine(config)


def test_a_model_knows_whom_it_was_trained_on(trained: tuple[Config, Path, Engine]) -> None:
    config, model, engine = trained
    loaded = noref.load(model)
    assert loaded.subjects == {pseudonym(one.split("/")[0]) for one in engine.steps.sets[Role.TARGET].ids}
    scans = dataset(config.data.target, Role.TARGET)
    (said,) = shared_subjects({"mine": [Trained(model, loaded)]}, scans)
    count = len(loaded.subjects)
    assert said.startswith(f"mine was trained on {count} of the {count} subjects (the first: ")
    others = replace(loaded, subjects=frozenset({"someone"}))
    assert shared_subjects({"mine": [Trained(model, others)]}, scans) == []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three good files, and what else lies about in a folder."""
    write_targets(tmp_path / "data", 3)
    (tmp_path / "data" / "notes.txt").write_text("")
    (tmp_path / "data" / ".hidden.h5").write_bytes(b"")
    return tmp_path / "data"


def test_a_path_is_a_file_a_folder_a_pattern_or_a_list(data: Path) -> None:
    first, second, third = (data / f"target{i}.h5" for i in range(3))
    assert files_of(str(data)) == [first, second, third]
    assert files_of(str(first)) == [first]
    assert files_of(str(data / "target[12].h5")) == [second, third]
    assert files_of(str(data.parent / "**" / "*2.h5")) == [third]
    assert files_of([str(third), str(data / "*0*")]) == [third, first]
    scans = open_scans([str(third), str(first)])
    assert scans.ids == (slice_of(2), slice_of(0))
    assert tuple(one.id for one in scans) == scans.ids
    assert tuple(one.id for one in scans[1:]) == scans.ids[1:]
    with pytest.raises(IndexError):
        scans[2]


def test_a_path_may_start_at_home(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(data.parent))
    assert open_scans(f"~/{data.name}").ids == open_scans(str(data)).ids


def test_a_file_may_have_a_name_like_a_pattern(data: Path) -> None:
    odd = (data / "target0.h5").rename(data / "scan[1].h5")
    assert files_of(str(odd)) == [odd]


def test_nothing_found_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "*.h5"):
        with pytest.raises(NorefError, match="no scans there; noref reads") as error:
            files_of(str(path))
        assert str(path) in one_line(error)
    with pytest.raises(NorefError, match=r"absent\.h5"):
        open_scans(str(tmp_path / "absent.h5"))


def test_bad_files_are_left_out_only_when_asked(data: Path) -> None:
    (data / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n half a file")
    fastmri.write(data / "nan.h5", [scan((20, 16), 2, seed=7)])
    _spoil(data / "nan.h5")
    with pytest.raises(NorefError, match=r"broken\.h5"):
        open_scans(str(data))
    with pytest.warns(UserWarning, match=r"left out 2 of 5 files: .*broken\.h5"):
        scans = open_scans(str(data), skip_bad=True)
    assert len(scans) == 3
    with (
        pytest.warns(UserWarning, match="left out 2 of 2"),
        pytest.raises(NorefError, match=r"none of the 2 files can be read; the first: .*broken") as error,
    ):
        open_scans([str(data / "broken.h5"), str(data / "nan.h5")], skip_bad=True)
    one_line(error)


def _spoil(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["kspace"][0] = np.nan


def test_training_says_how_many_files_were_left_out(tmp_path: Path) -> None:
    config = tiny("default", tmp_path, "data.target.skip_bad=true")
    (tmp_path / "targets" / "broken.h5").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="left out 1 of 3 files"):
        noref.train(config)


def test_the_same_scan_twice_is_refused(data: Path) -> None:
    (data / "copies").mkdir()
    shutil.copy(data / "target1.h5", data / "copies")
    with pytest.raises(NorefError, match=f"hold the same scan {slice_of(1)}; say subject_folder=N") as error:
        open_scans([str(data), str(data / "copies")])
    assert one_line(error).count("target1.h5") == 2


def test_subjects_are_counted_in_the_order_of_their_names(data: Path) -> None:
    first = sorted(sorted(map(slice_of, range(3)))[:2], key=lambda name: name.split("/", 1)[1])
    assert open_scans(str(data), subjects=2).ids == tuple(first)
    assert len(open_scans(str(data), subjects=9)) == 3


def test_a_subject_may_have_several_files(data: Path) -> None:
    fastmri.write(data / "again0.h5", [scan((20, 16), 2, seed=0)])
    ids = open_scans(str(data), subjects=2).ids
    names = sorted(pseudonym(f"subject{i}") for i in range(3))[:2]
    assert {name.split("/", 1)[0] for name in ids} == set(names)
    again = pseudonym("subject0")
    assert [name for name in ids if name.startswith(again)] == [
        f"{again}/{scan}/000" for scan in ("again0", "target0") if again in names
    ]


def test_proxies_are_undersampled_and_keep_their_reference(tmp_path: Path) -> None:
    path = write_proxies(tmp_path / "full")
    source = Source(path=str(path), mask="random2d", acceleration=2, acs=4)
    one = dataset(source, Role.PROXY)[0]
    assert one.role is Role.PROXY
    assert one.reference is not None
    assert one.acceleration == pytest.approx(2, rel=0.05)
    overridden = source.model_copy(update={"role": Role.TARGET})
    assert dataset(overridden, Role.PROXY)[0].role is Role.TARGET


# the import


def test_importing_costs_little_and_needs_nothing_optional() -> None:
    code = (
        "import sys, time, torch; before = time.process_time(); import noref; "
        "print(time.process_time() - before); print(*sys.modules)"
    )
    seconds = []
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        spent, modules = run.stdout.splitlines()
        seconds.append(float(spent))
        loaded = {name.split(".")[0] for name in modules.split()}
        assert {"torch", "noref"} <= loaded
        assert not loaded & {"sigpy", "pywt", "skimage", "matplotlib", "twixtools"}
    assert median(seconds) < 2, seconds
