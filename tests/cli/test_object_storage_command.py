"""Prepared scans on object storage: `-o s3://…`, and trainings from there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from command import TINY, done, many, refused, same
from object_storage import served
from PIL import Image
from safetensors.torch import load_file
from training.ranks import finish, start

from noref.data.store import Store


def objects(url: str) -> list[str]:
    """All below a URL."""
    fs, root = fsspec.url_to_fs(url)
    fs.invalidate_cache()
    return [name.removeprefix(f"{root}/") for name in fs.find(root)]


def test_training_from_it_is_training_from_a_folder(undersampled: Path, bucket: str, tmp_path: Path) -> None:
    places, told = (
        {"folder": str(tmp_path / "store"), "zarr": str(tmp_path / "s.zarr"), "s3": f"{bucket}/s"},
        {},
    )
    weights, logs = {}, {}
    for name, place in places.items():
        assert done("prepare", undersampled, "-o", place, "holdout=0.1", "seed=3").out == f"{place}\n"
        told[name] = done("inspect", place).out.replace(place, "")
        run = tmp_path / f"run-{name}"
        target = (f"data.target.path={place}", "data.target.holdout=0.1", "data.target.seed=3")
        # Forked processes load the scans of the first, which has opened the store before.
        done("train", "default", *target, f"output={run}", "training.workers=2", *TINY)
        weights[name] = load_file(run / "model" / "model.safetensors")
        logs[name] = (run / "metrics.jsonl").read_text()
    for name in ("zarr", "s3"):
        assert weights[name].keys() == weights["folder"].keys()
        assert all((weight == weights["folder"][key]).all() for key, weight in weights[name].items())
        assert logs[name] == logs["folder"]
        assert told[name] == told["folder"]
    assert "targets; coil maps by espirit" in told["s3"]
    fs, root = fsspec.url_to_fs(places["s3"])
    with fs.open(f"{root}/contact.png") as sheet, Image.open(tmp_path / "store" / "contact.png") as other:
        assert np.array_equal(Image.open(sheet), other)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bart_picsbrain_8ch_poisson_undersampled.cfl", ["holdout=0.05"]),
        ("smsnlinv_phantom_16ch_radial29.cfl", ["trajectory=radial"]),
    ],
)
def test_real_scans_are_the_same_everywhere(
    name: str, settings: list[str], real_data: Path, bucket: str, tmp_path: Path
) -> None:
    places = [str(tmp_path / "store"), str(tmp_path / "store.zarr"), f"{bucket}/store"]
    for place in places:
        done("prepare", real_data / "multicoil" / name, "-o", place, *settings)
    first, *others = (Store(place)[0] for place in places)
    assert first.maps is not None
    assert all(same(first, other) for other in others)


def test_what_is_asked_in_vain_is_one_line(undersampled: Path, bucket: str, tmp_path: Path) -> None:
    place = f"{bucket}/store"
    done("prepare", undersampled, "-o", place)
    before = objects(place)
    assert "already holds objects" in refused("prepare", undersampled, "seed=1", "-o", place)
    fs, root = fsspec.url_to_fs(place)
    fs.rm(f"{root}/contact.png")
    assert done("prepare", undersampled, "-o", place).out == f"{place}\n"
    assert "prepared already" in refused("prepare", place, "-o", tmp_path / "other")
    assert "seed=0" in refused("train", "ssdu", f"data.target.path={place}", "data.target.seed=1")
    assert "prepare all in one store" in refused("train", "ssdu", f"data.target.path=[{place},{place}]")
    assert "name the raw files" in refused("reconstruct", "wavelet", place, "-o", tmp_path / "x.npy")
    assert "name raw files" in refused("inspect", place, "--picture", tmp_path / "x.png")
    assert "no prepared scans there" in refused("train", "ssdu", f"data.target.path={bucket}/other")
    assert "sampling pattern" not in refused("inspect", f"{bucket}/other")
    assert objects(place) == before
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_killed_is_gone_on_with(undersampled: Path, bucket: str, tmp_path: Path) -> None:
    scans, place = many(tmp_path / "scans", undersampled, 8), f"{bucket}/store"
    processes = start(2, "prepare", scans, "-o", place)
    # Half of the third volume.
    while processes[1].poll() is None and len([o for o in objects(place) if "/c/" in o]) < 5:
        time.sleep(0.01)
    processes[1].kill()
    (code, told, said), _ = finish(processes)
    assert (code, told) == (2, "")
    assert "Traceback" not in said
    begun = objects(place)
    assert "store.json" not in begun
    assert len([name for name in begun if "/c/" in name]) < 16
    assert "not prepared to the end" in refused("train", "ssdu", f"data.target.path={place}")
    assert "begun with other scans or settings" in refused("prepare", scans, "seed=1", "-o", place)
    done("prepare", scans, "-o", place)
    done("prepare", scans, "-o", tmp_path / "alone.zarr")
    assert sorted(objects(place)) == sorted(objects(str(tmp_path / "alone.zarr")))
    assert all(
        same(one, other) for one, other in zip(Store(place), Store(tmp_path / "alone.zarr"), strict=True)
    )


def test_a_server_that_goes_ends_a_training_with_a_line(
    undersampled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = [
        "data.target.path=s3://bucket/store",
        f"output={tmp_path / 'run'}",
        *TINY,
        "training.epochs=1000",
    ]
    with served() as environment:
        # How often the client's library tries again, and how long it waits between, is not what is tested.
        for name, value in {**environment, "AWS_MAX_ATTEMPTS": "1"}.items():
            monkeypatch.setenv(name, value)
        # In processes of their own: connections of this one would be to other tests' server.
        make = "import fsspec; fsspec.filesystem('s3').mkdir('bucket')"
        subprocess.run([sys.executable, "-c", make], check=True)
        (prepared,) = finish(start(1, "prepare", undersampled, "-o", "s3://bucket/store"))
        assert prepared[:2] == (0, "s3://bucket/store\n")
        (training,) = start(
            1, "train", "ssdu", *target, *TINY, "training.epochs=1000", "training.log_every=1"
        )
        log = tmp_path / "run" / "metrics.jsonl"
        while training.poll() is None and not (log.exists() and log.read_text().count("\n") > 3):
            time.sleep(0.01)
    ((code, _, said),) = finish([training])
    assert code == 2
    last = said.splitlines()[-1]
    assert last.startswith("noref: s3://bucket/store: cannot be reached (")
    assert "Traceback" not in said
