"""What holds for every place that a store can lie in: folder, Zarr in a folder, Zarr on object storage."""

from __future__ import annotations

import json
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from threading import Barrier

import fsspec
import pytest
import s3fs
import zarr
from data.stores import differing, estimated, proxies, single_coil, stored, targets
from synthetic import scan, undersampled
from torch.utils.data import DataLoader

from noref.data.dataset import Dataset
from noref.data.files import volume_of
from noref.data.prepare import Preparation
from noref.data.storage import Storage
from noref.data.store import VERSION, Store, is_store, storage_at
from noref.data.storing import Written, abandon_store, begin_store, finish_store, write_store, write_volume
from noref.errors import NorefError
from noref.scan import Role, Scan

PLACES = ["folder", "zarr", "s3"]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store can be written."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/some/store"
    return str(tmp_path / ("store.zarr" if request.param == "zarr" else "store"))


def below(place: str) -> list[str]:
    """All objects of a store."""
    fs, root = fsspec.url_to_fs(place)
    fs.invalidate_cache()
    return sorted(name.removeprefix(root) for name in fs.find(root))


def put(place: str, name: str, content: bytes) -> None:
    """Writes an object as anything but noref would."""
    fs, root = fsspec.url_to_fs(place)
    fs.pipe_file(f"{root}/{name}", content)


def content_of(place: str, name: str) -> bytes:
    fs, root = fsspec.url_to_fs(place)
    return bytes(fs.cat_file(f"{root}/{name}"))


def of_two_volumes() -> Dataset:
    """Five slices, the first of a longer record than the others of its volume."""
    made = [undersampled(scan((20, 16), 2, seed=i, noise=0.01), "random2d", 2, 4) for i in range(5)]
    made[0] = undersampled(scan((24, 16), 2, seed=0, noise=0.01), "random2d", 2, 4)
    named = [replace(one, id=f"subject{i // 3}/scan/{i}") for i, one in enumerate(made)]
    return Dataset(named, Preparation(), Role.TARGET)


def go_on(storage: Storage, made: Dataset, asked: list[str]) -> None:
    """Writes a store, or what is missing of it; appends the ids of scans that were asked for."""

    def ask(index: int) -> Scan:
        asked.append(made.ids[index])
        return made.prepared(index)

    stamp, written = begin_store(storage, made.how, made.role, made.ids), []
    volumes = groupby(range(len(made)), key=lambda index: volume_of(made.ids[index]))
    for number, (_, indices) in enumerate(volumes):
        written += write_volume(storage, stamp, number, map(ask, indices), {})
    finish_store(storage, stamp, written, made.how, made.role)


@pytest.mark.parametrize("make", [targets, proxies, single_coil, estimated, of_two_volumes])
def test_scans_are_the_same_bit_for_bit(make: Callable[[], Dataset], place: str) -> None:
    made = make()
    read = stored(place, made)
    assert read.ids == made.ids
    for index in range(len(made)):
        assert differing(made[index], read[index]) == []
    assert is_store(place)


def test_objects_are_what_was_written_last(place: str) -> None:
    storage = storage_at(place)
    assert not storage.has("a/one.json")
    with pytest.raises(FileNotFoundError):
        storage.read("a/one.json")
    storage.check_free()
    for content in (b"first", b"", b"last"):
        storage.write("a/one.json", content)
        assert storage.read("a/one.json") == content
    storage.write("a/two.json", b"two")
    with pytest.raises(NorefError, match="already holds") as caught:
        storage.check_free()
    assert place in str(caught.value)
    storage.remove("a/one.json")
    assert (storage.has("a/one.json"), storage.has("a/two.json")) == (False, True)
    storage.remove("a")
    storage.remove("a")
    assert below(place) == []


def test_an_object_is_created_once(place: str) -> None:
    storage = storage_at(place)
    assert storage.listed("a") == []
    assert storage.create("a/one.json", b"first")
    assert not storage.create("a/one.json", b"second")
    assert storage.read("a/one.json") == b"first"
    assert storage.create("a/two.json", b"two")
    assert storage.listed("a") == ["one.json", "two.json"]


def test_several_begin_the_same_store(place: str) -> None:
    made = of_two_volumes()

    def begin(_: int) -> str:
        return begin_store(storage_at(place), made.how, made.role, made.ids)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(begin, range(4)))) == 1


def test_none_is_in_the_way_of_another_that_begins(tmp_path: Path) -> None:
    made, before = of_two_volumes(), sys.getswitchinterval()

    def begin(path: Path) -> str:
        return begin_store(storage_at(path), made.how, made.role, made.ids)

    # So short that threads meet in each other's midst, as processes do.
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for number in range(30):
                assert len(set(pool.map(begin, [tmp_path / f"{number}"] * 8))) == 1
    finally:
        sys.setswitchinterval(before)


def test_one_of_which_nothing_is_there_is_begun_anew(place: str) -> None:
    made = of_two_volumes()
    other = Preparation(seed=7)
    first = begin_store(storage_at(place), other, made.role, made.ids)

    def begin(_: int) -> str:
        return begin_store(storage_at(place), made.how, made.role, made.ids)

    with ThreadPoolExecutor(4) as pool:
        (stamp,) = set(pool.map(begin, range(4)))
    assert stamp != first
    with pytest.raises(NorefError, match="begun anew by another call"):
        write_volume(storage_at(place), first, 0, [made.prepared(0)], {})
    go_on(storage_at(place), made, [])
    assert Store(place).how == made.how
    assert not [name for name in below(place) if "parts" in name]


def test_one_of_which_something_is_there_is_kept(place: str) -> None:
    made = of_two_volumes()
    stamp = begin_store(storage_at(place), made.how, made.role, made.ids)
    write_volume(storage_at(place), stamp, 1, map(made.prepared, (3, 4)), {})
    before = below(place)
    abandon_store(storage_at(place), stamp)
    with pytest.raises(NorefError, match="begun with other scans or settings"):
        begin_store(storage_at(place), Preparation(seed=7), made.role, made.ids)
    assert below(place) == before


def test_a_store_of_which_nothing_is_there_can_be_left(place: str) -> None:
    made = of_two_volumes()
    stamp = begin_store(storage_at(place), made.how, made.role, made.ids)
    assert write_volume(storage_at(place), stamp, 0, [], {}) == []
    abandon_store(storage_at(place), "another")
    assert below(place)
    abandon_store(storage_at(place), stamp)
    assert below(place) == []
    assert place.startswith("s3") or not Path(place).exists()


def test_two_that_write_the_same_volume_do_no_harm(place: str) -> None:
    made = of_two_volumes()
    stamp = begin_store(storage_at(place), made.how, made.role, made.ids)
    together = Barrier(2)

    def write(_: int) -> list[Written]:
        def scans() -> Iterator[Scan]:
            for index in range(3):
                together.wait(60)
                yield made.prepared(index)
            together.wait(60)

        return write_volume(storage_at(place), stamp, 0, scans(), {})

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(write, range(2))
    assert one == other
    go_on(storage_at(place), made, asked := [])
    assert asked == made.ids[3:]
    assert all(differing(made[index], read) == [] for index, read in enumerate(Store(place)))


def test_other_processes_read_it_too(place: str) -> None:
    made = of_two_volumes()
    read = stored(place, made)
    # Opened before: what a process has opened is of no use to its children.
    assert read[0].id == made.ids[0]
    loaded = list(DataLoader(read, batch_size=None, num_workers=2))
    assert len(loaded) == len(made)
    again = pickle.loads(pickle.dumps(read))
    for index, one in enumerate(loaded):
        assert differing(made[index], one) == []
        assert differing(made[index], again[index]) == []


def test_opening_reads_no_scan(place: str) -> None:
    made = of_two_volumes()
    stored(place, made)
    storage_at(place).remove("scans")
    store = Store(place)
    assert list(store.ids) == made.ids
    with pytest.raises(NorefError, match=r"store.*/scans/000000.*: damaged or incomplete"):
        store[0]


def test_what_cannot_be_read_is_one_line(place: str) -> None:
    stored(place, of_two_volumes())
    manifest = content_of(place, "store.json")
    put(place, "store.json", json.dumps({**json.loads(manifest), "version": VERSION + 1}).encode())
    with pytest.raises(NorefError, match=f"a store of version {VERSION + 1}, and this noref reads up to"):
        Store(place)
    put(place, "store.json", manifest[:-20])
    with pytest.raises(NorefError, match="damaged or incomplete"):
        Store(place)
    put(place, "store.json", manifest)
    put(place, "index.npz", content_of(place, "index.npz")[:-1])
    with pytest.raises(NorefError, match=r"damaged or incomplete \(index\.npz is not as it was written\)"):
        Store(place)
    storage_at(place).remove("store.json")
    storage_at(place).write("preparing.json", b"{}")
    with pytest.raises(NorefError, match="not prepared to the end"):
        is_store(place)


def test_stores_do_not_mix(place: str) -> None:
    made = of_two_volumes()
    opened = stored(place, made)
    assert opened[0].id == made.ids[0]
    storage = storage_at(place)
    for name in ("store.json", "index.npz", "scans", "zarr.json"):
        storage.remove(name)
    assert stored(place, made).ids == opened.ids
    with pytest.raises(NorefError, match=r"scans/000000.*: not of the store that was opened") as caught:
        opened[0]
    assert "\n" not in str(caught.value)


@pytest.fixture
def chunked(tmp_path: Path) -> tuple[Store, Path]:
    """A store, and one of its chunks."""
    stored(tmp_path / "store.zarr", of_two_volumes())
    return Store(tmp_path / "store.zarr"), tmp_path / "store.zarr" / "scans" / "000000" / "c" / "1" / "0"


def test_a_lost_or_damaged_chunk_is_named(chunked: tuple[Store, Path]) -> None:
    store, chunk = chunked
    content = chunk.read_bytes()
    middle = len(content) // 2
    turned = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damage in (content[:middle], content[:-1], b"", content[:8], turned):
        chunk.write_bytes(damage)
        with pytest.raises(NorefError, match="scans/000000: damaged or incomplete") as caught:
            store[1]
        assert "\n" not in str(caught.value)
    chunk.unlink()
    with pytest.raises(NorefError, match=r"damaged or incomplete \(chunk 1 is missing\)"):
        store[1]
    assert store[0].id == "subject0/scan/0"


def test_a_zarr_is_one_that_zarr_reads(chunked: tuple[Store, Path]) -> None:
    store, _ = chunked
    arrays = zarr.open_group(store.path, mode="r")["scans"]
    assert sorted(arrays.array_keys()) == ["000000", "000001"]
    first = arrays["000000"]
    assert first.metadata.dimension_names == ("slice", "byte")
    assert (first.shape[0], first.chunks[0], first.dtype) == (3, 1, "uint8")


def test_a_zarr_is_known_by_what_it_holds(chunked: tuple[Store, Path], tmp_path: Path) -> None:
    store, _ = chunked
    Path(store.path).rename(tmp_path / "copied")
    assert Store(tmp_path / "copied")[1].id == store.ids[1]


def cuts(place: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many objects can be written from now on, until the place refuses."""
    left = 0

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError("cut")

    if place.startswith("s3"):
        whole_put = s3fs.S3FileSystem._pipe_file

        async def pipe_file(*args: object, **kwargs: object) -> object:
            count()
            return await whole_put(*args, **kwargs)

        monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", pipe_file)
    else:
        renamed = Path.replace

        def rename(path: Path, to: Path) -> Path:
            count()
            return renamed(path, to)

        # How all files get their names, those that Zarr writes too.
        monkeypatch.setattr(Path, "replace", rename)

    def allow(number: int) -> None:
        nonlocal left
        left = number

    return allow


def test_it_goes_on_from_wherever_it_was_cut(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = of_two_volumes()
    write_store(place, map(made.prepared, range(len(made))), made.how, made.role)
    names = below(place)
    allow, number, finished = cuts(place, monkeypatch), 0, False
    while not finished:
        other = f"{place.removesuffix('.zarr')}-{number}{'.zarr' * place.endswith('.zarr')}"
        asked: list[str] = []
        allow(number)
        with suppress(NorefError):
            go_on(storage_at(other), made, asked)
            finished = True
        before = len(asked)
        allow(1000)
        if not finished:
            if number:
                with pytest.raises(NorefError, match="not prepared to the end"):
                    is_store(other)
            go_on(storage_at(other), made, asked)
        # A volume of which anything is missing is made again, and no other.
        assert before + len(made) - len(asked) in (0, 3, 5)
        assert below(other) == names
        store = Store(other)
        assert all(differing(made[index], replace(store[index])) == [] for index in range(len(made)))
        number += 1
    assert number > 6


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    made, place = of_two_volumes(), tmp_path / "store.zarr"
    begin_store(storage_at(place), made.how, made.role, made.ids)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = f".part-{dead.pid}.1@{platform.node()}@000000"
    for name in (
        "zarr.0.partial",
        "scans/zarr.1.partial",
        f"scans/{mine}/c/0/0.2.partial",
        "scans/.part-3-x",
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"half")
        # Zarr's do not say whose they are.
        os.utime(place / name, (0, 0))
    go_on(storage_at(place), made, [])
    stored(tmp_path / "other.zarr", made)
    assert below(str(place)) == below(str(tmp_path / "other.zarr"))


def test_what_cannot_be_there_is_one_line(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NorefError, match="no prepared scans there"):
        is_store(f"{bucket}/nothing")
    with pytest.raises(NorefError, match="no-such-bucket-of-ours/x: cannot be reached"):
        write_store("s3://no-such-bucket-of-ours/x", [], Preparation(), Role.TARGET)
    with pytest.raises(NorefError, match=r"nosuch://x: cannot be reached \(Protocol not known"):
        is_store("nosuch://x")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(NorefError, match=r"pip install noref\[zarr\]"):
        is_store(bucket)
    with pytest.raises(NorefError, match=r"pip install noref\[zarr\]"):
        write_store(tmp_path / "store.zarr", [], Preparation(), Role.TARGET)
    assert list(tmp_path.iterdir()) == []
