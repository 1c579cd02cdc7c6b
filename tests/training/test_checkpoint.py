"""A checkpoint is whole or not there, says whose it is, and runs no code."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scans import engine, log, network, same, weights

import noref
from noref import files
from noref.errors import NorefError
from noref.files import append, whole
from noref.training import Engine
from noref.training.checkpoint import (
    VERSION,
    load_checkpoint,
    load_optimiser,
    optimiser_tensors,
    save_checkpoint,
)
from noref.training.progress import TrainingProgress
from noref.training.store import TeacherStore

STATE = {"step": 3, "gammas": [[[0.1, 0.25]]], "best": None}


def groups(size: int = 4) -> dict[str, dict[str, torch.Tensor]]:
    return {"network": {"a.b": torch.arange(size * 1.0)}, "best": {"network.a.b": torch.ones(size) * 1j}}


def one_line(error: pytest.ExceptionInfo[NorefError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_to_flush(path: Path) -> None:
    """What `fsync` does on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_round_trip(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", groups(), STATE)
    tensors, state = load_checkpoint(tmp_path / "c")
    assert state == STATE
    assert tensors.keys() == {"network", "best"}
    assert same(tensors["network"], groups()["network"])
    assert same(tensors["best"], groups()["best"])


def test_full_disk_keeps_the_checkpoint_before(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("64k")
    path = disk / "checkpoint.safetensors"
    save_checkpoint(path, groups(), STATE)
    with pytest.raises(
        NorefError, match=r"checkpoint\.safetensors: cannot be written .*free some space"
    ) as error:
        save_checkpoint(path, groups(100_000), STATE)
    one_line(error)
    assert load_checkpoint(path)[1] == STATE
    assert names(disk) == ["checkpoint.safetensors"]


def test_full_disk_in_a_training_loses_nothing(
    small_disk: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up after three steps; once there is space again, the run goes on to the same end."""
    disk = small_disk("512k")
    first = engine(disk / "run", save_every=0)

    def fill(step: int, *_: object) -> None:
        if step == 3:
            (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 4096))

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "step", lambda _, *arguments: fill(*arguments))
        with pytest.raises(NorefError, match="cannot be written") as error:
            first.run()
    one_line(error)
    assert not list(disk.rglob(".*"))
    (disk / "ballast").unlink()
    again = engine(disk / "run", save_every=0)
    again.resume()
    assert again.progress.taken == 2
    again.run()
    undisturbed = engine(tmp_path / "undisturbed")
    undisturbed.run()
    assert same(weights(again), weights(undisturbed))
    assert log(disk / "run") == log(undisturbed.folder)


def test_no_space_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, groups(), STATE)
    monkeypatch.setattr(files, "flush", fail_to_flush)
    with pytest.raises(NorefError, match=r"cannot be written .*No space left") as error:
        save_checkpoint(path, groups(8), {"step": 4})
    one_line(error)
    assert load_checkpoint(path)[1] == STATE
    assert names(tmp_path) == ["checkpoint.safetensors"]


def test_log_on_a_full_disk_is_one_line(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("64k")
    with pytest.raises(NorefError, match=r"metrics\.jsonl: cannot be written") as error:
        append(disk / "metrics.jsonl", "x" * 100_000)
    one_line(error)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NorefError, match="cannot be written") as error, whole(tmp_path / "file" / "a" / "b"):
        pass
    one_line(error)
    with pytest.raises(NorefError, match="cannot be written"):
        append(tmp_path / "file" / "log", "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "f").write_text("old")

    def write() -> None:
        with whole(tmp_path / "f") as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == ["f"]
    assert (tmp_path / "f").read_text() == "old"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    run = engine(tmp_path_factory.mktemp("run"), epochs=1)
    run.run()
    return run


def test_another_networks_checkpoint_is_refused(trained: Engine) -> None:
    other = engine(trained.folder, net=network(features=5))
    with pytest.raises(
        NorefError, match=r"phases\.0\.extract is \(4, 2, 3, 3\), not \(5, 2, 3, 3\)"
    ) as error:
        other.resume()
    assert str(trained.checkpoint) in one_line(error)
    with pytest.raises(NorefError, match=r"another network: phases\.2\.step is missing"):
        engine(trained.folder, net=network(phases=3)).resume()
    with pytest.raises(NorefError, match=r"another network: phases\.1\.\w+ is \(4, 4, 3, 3\), not known"):
        engine(trained.folder, net=network(phases=1)).resume()


def test_an_older_version_is_refused(tmp_path: Path) -> None:
    metadata = {"version": "1", "state": "{}"}
    save_file({"network.a": torch.zeros(1)}, tmp_path / "c", metadata=metadata)
    with pytest.raises(NorefError, match=f"older noref .format 1, not {VERSION}.; train anew") as error:
        load_checkpoint(tmp_path / "c")
    one_line(error)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    metadata = {"version": str(VERSION + 1), "state": "{}"}
    save_file({"network.a": torch.ones(1)}, tmp_path / "c", metadata=metadata)
    with pytest.raises(
        NorefError, match=f"newer noref .format {VERSION + 1}, not {VERSION}.; update"
    ) as error:
        load_checkpoint(tmp_path / "c")
    one_line(error)


def test_damaged_checkpoints_are_refused(trained: Engine, tmp_path: Path) -> None:
    good = trained.checkpoint.read_bytes()
    bad = {
        "empty": b"",
        "short": good[:5],
        "header": good[:100],
        "truncated": good[:-100],
        "longer": good + bytes(8),
        "garbage": bytes(range(256)) * 40,
        "text": b"not a checkpoint at all",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NorefError, match=f"{name}: damaged or not a checkpoint") as error:
            load_checkpoint(tmp_path / name)
        one_line(error)


def test_other_safetensors_are_no_checkpoints(tmp_path: Path) -> None:
    save_file({"network.a": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(NorefError, match="not a checkpoint of noref"):
        load_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(NorefError, match="no such file"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(NorefError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)


def test_optimiser_goes_on_bit_for_bit() -> None:
    def step(net: torch.nn.Module, optimiser: torch.optim.Optimizer, number: int) -> None:
        for parameter in net.parameters():
            parameter.grad = torch.cos(parameter.detach() * number)
        optimiser.step()

    one, two = network(), network()
    first, second = torch.optim.Adam(one.parameters()), torch.optim.Adam(two.parameters())
    for number in range(1, 4):
        step(one, first, number)
        step(two, second, number)
    again = torch.optim.Adam(two.parameters())
    load_optimiser(again, {name: t.clone() for name, t in optimiser_tensors(second).items()})
    step(one, first, 4)
    step(two, again, 4)
    assert same(one.state_dict(), two.state_dict())


def test_nothing_is_unpickled() -> None:
    source = Path(noref.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"pickle\.loads?\b|Unpickler\(|cPickle|\bdill\b|\bjoblib\b", text), path
        assert "allow_pickle=True" not in text, path
        for module, safe in (("torch", "weights_only=True"), ("np", "allow_pickle=False")):
            for call in re.findall(rf"\b{module}\.load\((?:[^()]|\([^()]*\))*\)", text):
                assert safe in call, (path, call)


def test_checkpoint_state_is_json(trained: Engine) -> None:
    state = load_checkpoint(trained.checkpoint)[1]
    assert json.loads(json.dumps(state)) == state
    assert state["finished"] is True
    assert state["logged"] == (trained.folder / "metrics.jsonl").stat().st_size


IDS = ["plain", "a/b/c", "100%/x", "a%2Fb", "%", "a/b%2Fc/%25", "å ö/Ω/0", "dots.in.it/1.5"]


def write_again_and_again(path: Path) -> None:
    tensors = {"network": {"weight": torch.zeros(4 << 20)}}
    while True:
        save_checkpoint(path, tensors, STATE)


def test_a_kill_while_writing_leaves_nothing_that_is_not_swept(tmp_path: Path) -> None:
    """The library has temporary names of its own: none may stay in the run's folder."""
    path, left = tmp_path / "checkpoint.safetensors", 0
    save_checkpoint(path, groups(), STATE)
    for _ in range(20):
        process = multiprocessing.get_context("fork").Process(target=write_again_and_again, args=(path,))
        process.start()
        while len(list(tmp_path.iterdir())) == 1:
            assert process.is_alive()
        time.sleep(0.002)
        process.kill()
        process.join()
        left += len(list(tmp_path.rglob("*"))) > 1
        files.sweep(tmp_path)
        assert list(tmp_path.rglob("*")) == [path]
        load_checkpoint(path)
    assert left


def test_teacher_images_by_any_id(tmp_path: Path) -> None:
    store = TeacherStore(tmp_path / "stage-1")
    assert len(store) == 0
    assert "a" not in store
    for number, scan in enumerate(IDS):
        store.put(scan, torch.full((1, 3, 2), number * 1j))
    assert len(list((tmp_path / "stage-1").iterdir())) == len(store) == len(IDS)
    assert set(store) == set(IDS)
    for number, scan in enumerate(IDS):
        assert scan in store
        assert store[scan].dtype == torch.complex64
        assert torch.equal(store[scan], torch.full((1, 3, 2), number * 1j))
    with pytest.raises(KeyError):
        store["absent"]
    assert 3 not in store


def test_half_written_teacher_images_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TeacherStore(tmp_path)
    store.put("s/1", torch.ones(1, 2, 2, dtype=torch.complex64))
    (tmp_path / ".part-123-s%2F2.npy").write_bytes(b"\x93NUMPY half")
    assert list(store) == ["s/1"]
    assert "s/2" not in store

    def half(file: Path, array: np.ndarray) -> None:
        Path(file).write_bytes(array.tobytes()[:7])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", half)
    with pytest.raises(NorefError, match="No space left"):
        store.put("s/3", torch.zeros(1, 2, 2))
    with pytest.raises(NorefError, match="No space left"):
        store.put("s/1", torch.zeros(1, 2, 2))
    assert list(store) == ["s/1"]
    assert torch.equal(store["s/1"], torch.ones(1, 2, 2, dtype=torch.complex64))
    files.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
