"""What a store gives is what the files that it was made of give, bit for bit."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data.stores import differing, estimated, proxies, single_coil, stored, targets
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from training.files import TINY, write_proxies, write_targets

import noref
from noref.api import dataset, with_stores
from noref.config import Source, load_config
from noref.data.dataset import Dataset
from noref.data.packed import PackedMasks, packed, unpacked
from noref.data.prepare import Preparation
from noref.data.store import VERSION, Store, storage_at
from noref.data.storing import begin_store, write_store
from noref.errors import NorefError
from noref.scan import Role


@pytest.mark.parametrize("make", [targets, proxies, single_coil, estimated])
def test_scans_and_all_that_is_known_of_them_are_the_same(
    make: Callable[[], Dataset], tmp_path: Path
) -> None:
    made = make()
    read = stored(tmp_path / "store", made)
    assert len(read) == len(made)
    for index in range(len(made)):
        assert differing(made[index], read[index]) == []
        assert differing(made[index].as_target(), read[index].as_target()) == []
    assert read.ids == made.ids
    assert read.buckets == made.buckets
    assert read.volumes == made.volumes
    assert read.references == made.references
    assert read.labels == made.labels
    assert read.masks.keys() == made.masks.keys()
    for shape, masks in made.masks.items():
        assert all(torch.equal(a, b) for a, b in zip(masks, read.masks[shape], strict=True))


def test_a_training_from_a_store_is_the_training_from_files(tmp_path: Path) -> None:
    how = {"mask": "random2d", "acceleration": 2.0, "acs": 4.0}
    sources = {
        "target": Source(path=str(write_targets(tmp_path / "targets", 3))),
        "proxy": Source(path=str(write_proxies(tmp_path / "proxies")), **how),
    }
    given = [*TINY, "data.proxy.redraw=false", *(f"data.proxy.{name}={value}" for name, value in how.items())]
    weights = []
    for place in ("files", "store"):
        paths = []
        for name, source in sources.items():
            path = source.path if place == "files" else tmp_path / f"{name}-store"
            if place == "store":
                made = dataset(source, Role(name))
                write_store(
                    tmp_path / f"{name}-store", map(made.prepared, range(len(made))), source, made.role
                )
            paths.append(f"data.{name}.path={path}")
        config = load_config("jssl", [*given, *paths, f"output={tmp_path / place}"])
        weights.append(load_file(noref.train(config) / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weight) for name, weight in weights[1].items())


def test_opening_reads_no_scan_and_some_subjects_are_the_first(tmp_path: Path) -> None:
    made = targets()
    stored(tmp_path / "store", made)
    part = Store(tmp_path / "store", subjects=2)
    assert part.ids == tuple(made.ids[:2])
    assert part[1].id == made.ids[1]
    shutil.rmtree(tmp_path / "store" / "scans")
    store = Store(tmp_path / "store")
    assert list(store.ids) == made.ids
    with pytest.raises(NorefError, match=r"000000\.bin: damaged or incomplete"):
        store[0]


def test_a_store_of_the_version_before_is_read(tmp_path: Path) -> None:
    """It did not tell in its index what is raw, nor in headers which repetition a scan is of."""
    made = targets()
    stored(tmp_path / "store", made)
    index = tmp_path / "store" / "index.npz"
    with np.load(index) as arrays:
        before = {name: arrays[name] for name in arrays.files if name != "raw"}
    np.savez(index, **before)
    manifest = tmp_path / "store" / "store.json"
    content = json.loads(manifest.read_text())
    digest = hashlib.sha256(index.read_bytes()).hexdigest()
    manifest.write_text(json.dumps({**content, "version": 2, "index": digest}))
    read = Store(tmp_path / "store")
    assert list(read.ids) == made.ids
    assert {seen.raw for seen in read.survey} == {None}
    assert differing(made[0], dataset(Source(path=str(tmp_path / "store")), Role.TARGET)[0]) == []


def test_a_configuration_takes_what_it_does_not_say_from_its_stores(tmp_path: Path) -> None:
    made = stored(tmp_path / "store", targets()).how
    paths = [f"data.target.path={tmp_path / 'store'}", "data.validation.path=others"]
    config = load_config("default", [*paths, "data.validation.seed=9", f"output={tmp_path / 'run'}"])
    given = with_stores(config).data
    assert given.target is not None
    assert given.validation is not None
    for name in Preparation.model_fields:
        assert getattr(given.target, name) == getattr(made, name)
        # Files to validate with are prepared as the store was.
        expected = 9 if name == "seed" else getattr(made, name)
        assert getattr(given.validation, name) == expected
    assert with_stores(with_stores(config)) == with_stores(config)


def test_what_is_written_to_a_scan_stays_in_memory(tmp_path: Path) -> None:
    read = stored(tmp_path / "store", targets())
    before = read[0].kspace.clone()
    read[0].kspace.zero_()
    assert torch.equal(read[0].kspace, before)


def test_other_settings_are_refused_with_those_to_give(tmp_path: Path) -> None:
    stored(tmp_path / "store", proxies())
    path = str(tmp_path / "store")
    with pytest.raises(NorefError, match=r"store: prepared with mask=random2d acceleration=2\.0; "):
        dataset(Source(path=path, mask="lines", acceleration=3.0), Role.PROXY)
    # What is not said is as it was prepared.
    assert dataset(Source(path=path, acs=4.0), Role.PROXY).how.mask == "random2d"
    given = {"mask": "random2d", "acceleration": 2.0, "acs": 4.0}
    assert len(dataset(Source(path=path, **given), Role.PROXY)) == 2
    assert len(dataset(Source(path=[path], subjects=1, **given), Role.PROXY)) == 1
    with pytest.raises(NorefError, match="store: prepared as proxy, not target"):
        dataset(Source(path=path, **given), Role.TARGET)
    with pytest.raises(NorefError, match="leave out axes"):
        dataset(Source(path=path, axes="ky,kx", **given), Role.PROXY)
    with pytest.raises(NorefError, match="prepare all in one store"):
        dataset(Source(path=[path, path], **given), Role.PROXY)


def test_a_store_that_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    stored(tmp_path / "store", targets())
    manifest = tmp_path / "store" / "store.json"
    content = json.loads(manifest.read_text())
    for change, message in (
        (
            {"version": VERSION + 1},
            f"a store of version {VERSION + 1}, and this noref reads up to {VERSION}; update",
        ),
        ({"preparation": 3}, "store: damaged or incomplete"),
        ({"role": "other"}, "store: damaged or incomplete"),
    ):
        manifest.write_text(json.dumps({**content, **change}))
        with pytest.raises(NorefError, match=message) as caught:
            Store(tmp_path / "store")
        assert "\n" not in str(caught.value)
    manifest.write_text(json.dumps(content))
    index = tmp_path / "store" / "index.npz"
    content = index.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damage in (b"", b"PK", content[:100], content[: len(content) // 2], content[:-1], bytes(flipped)):
        index.write_bytes(damage)
        with pytest.raises(NorefError, match="store: damaged or incomplete"):
            Store(tmp_path / "store")
    index.unlink()
    with pytest.raises(NorefError, match="store: damaged or incomplete"):
        Store(tmp_path / "store")


def test_files_of_two_stores_do_not_mix(tmp_path: Path) -> None:
    made, folder = targets(), tmp_path / "store"
    opened = stored(folder, made)
    shutil.move(folder, tmp_path / "old")
    other = Dataset(made.slices, Preparation(holdout=0.2), Role.TARGET)
    anew = stored(folder, other)
    assert anew.ids == opened.ids
    assert differing(anew[0], other[0]) == []
    with pytest.raises(NorefError, match=r"000000\.bin: not of the store that was opened") as caught:
        opened[0]
    assert "\n" not in str(caught.value)
    shutil.copy(tmp_path / "old" / "index.npz", folder)
    with pytest.raises(NorefError, match=r"store: damaged or incomplete \(index\.npz"):
        Store(folder)


def test_the_density_is_that_of_the_scans_left(tmp_path: Path) -> None:
    made = targets()
    stored(tmp_path / "store", made)
    part = Store(tmp_path / "store", subjects=2)
    alone = Dataset(made.slices[:2], made.how, made.role)
    for index in range(2):
        assert differing(alone[index], part[index]) == []
    assert "density" in differing(made[0], part[0])


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
def test_what_the_system_refuses_is_not_called_damage(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = stored(tmp_path / "store", targets())

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    told = rf": cannot be read \({os.strerror(code)}\); check its permissions, and limits"
    with monkeypatch.context() as system:
        system.setattr(mmap, "mmap", refuse)
        with pytest.raises(NorefError, match=r"000000\.bin" + told):
            read[0]
    with monkeypatch.context() as system:
        system.setattr(Path, "open", refuse)
        with pytest.raises(NorefError, match="store" + told):
            Store(tmp_path / "store")


def test_a_cut_or_exchanged_file_is_named(tmp_path: Path) -> None:
    stored(tmp_path / "store", targets())
    first, second = (tmp_path / "store" / "scans" / f"00000{i}.bin" for i in (0, 1))
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    with pytest.raises(NorefError, match=r"000000\.bin: damaged or incomplete"):
        Store(tmp_path / "store")[0]
    shutil.copy(second, first)
    with pytest.raises(NorefError, match=r"000000\.bin: holds subject1/scan/0 for subject0/scan/0"):
        Store(tmp_path / "store")[0]


def test_what_cannot_be_a_store_is_not_written(tmp_path: Path) -> None:
    made = targets()
    scans = [made.prepared(0), made.prepared(0)]
    with pytest.raises(NorefError, match="two scans have the same id"):
        write_store(tmp_path / "twice", scans, made.how, made.role)
    with pytest.raises(NorefError, match="no scan to write"):
        write_store(tmp_path / "none", [], made.how, made.role)
    with pytest.raises(NorefError, match="redraw=false"):
        write_store(tmp_path / "anew", [], Preparation(redraw=True), Role.PROXY)
    with pytest.raises(NorefError, match="already holds files"):
        write_store(tmp_path / "twice", scans[:1], made.how, made.role)
    with pytest.raises(NorefError, match="not prepared to the end"):
        dataset(Source(path=str(tmp_path / "twice")), Role.TARGET)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "preparing.json").write_text("{")
    with pytest.raises(NorefError, match="damaged; remove"):
        begin_store(storage_at(tmp_path / "damaged"), made.how, made.role, ["a/b/0"])


@settings(max_examples=50, deadline=None)
@given(shape=st.tuples(st.integers(1, 20), st.integers(1, 20)), lines=st.booleans(), seed=st.integers(0, 999))
def test_packed_masks_come_back(shape: tuple[int, int], lines: bool, seed: int) -> None:
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask = drawn[:, :1].expand(shape).contiguous() if lines else drawn
    assert torch.equal(unpacked(packed(mask)), mask)
    assert torch.equal(PackedMasks([packed(~mask), packed(mask)])[1], mask)
    assert torch.equal(PackedMasks([packed(~mask), packed(mask)])[1:][0], mask)
