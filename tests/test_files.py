"""Files and folders are whole or not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noref.errors import NorefError
from noref.files import check_free, created, sweep, whole, whole_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from noref.files import whole, whole_folder
folder = Path(sys.argv[1])
with whole(folder / "x.h5") as file, whole_folder(folder / "deep" / "x.dcm") as inside:
    file.write_text("half")
    (inside / "0001.dcm").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    for path in (tmp_path / "new" / "a", tmp_path / "empty"):
        if path.name == "empty":
            path.mkdir()
        with whole_folder(path) as temporary:
            (temporary / "one").write_text("1")
            assert not (path / "one").exists()
        assert [file.name for file in path.iterdir()] == ["one"]
        assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_a_folder_that_fails_is_not_there(tmp_path: Path) -> None:
    def fail(error: Exception) -> None:
        with whole_folder(tmp_path / "a") as temporary:
            (temporary / "one").write_text("1")
            raise error

    for error, expected in ((ValueError("mine"), ValueError), (OSError(28, "No space left"), NorefError)):
        with pytest.raises(expected):
            fail(error)
        assert list(tmp_path.iterdir()) == []


def test_folders_that_hold_something_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("mine")
    (tmp_path / "b").write_text("mine")
    for name in ("a", "b"):
        with pytest.raises(NorefError, match=f"{name}: already holds files"), whole_folder(tmp_path / name):
            pytest.fail("nothing is to be written")
        with pytest.raises(NorefError, match="already holds files"):
            check_free(tmp_path / name)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a", "a/mine", "b"]


def test_folders_that_nobody_may_write_are_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    check_free(locked / "new")
    locked.chmod(0o555)
    assert as_somebody(lambda: check_free(locked / "new" / "er")) == (
        f"{locked / 'new' / 'er'}: cannot be written (permission denied); choose another folder"
    )


def as_somebody(act: Callable[[], None]) -> str:
    """What a user without rights is told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            act()
        except NorefError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    return os.read(reading, 10_000).decode()


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("1")
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert len(list(tmp_path.rglob("*"))) == 5
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "kept"]


def test_what_others_are_writing_is_not_swept(tmp_path: Path) -> None:
    young, old = (tmp_path / f".part-1.1@elsewhere@{name}" for name in ("young", "old"))
    for path in (young, old):
        path.write_text("half")
    os.utime(old, (0, 0))
    with whole(tmp_path / "mine") as mine, whole_folder(tmp_path / "a") as folder:
        mine.write_text("half")
        sweep(tmp_path)
        assert mine.exists()
        assert folder.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, "a", "mine"]


@pytest.mark.parametrize("links", [True, False])
def test_one_of_several_creates_a_file(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "new" / "one"
    with ThreadPoolExecutor(8) as pool:
        succeeded = list(pool.map(lambda number: created(path, b"%d" % number), range(8)))
    assert sum(succeeded) == 1
    assert path.read_bytes() == b"%d" % succeeded.index(True)
    assert [file.name for file in path.parent.iterdir()] == ["one"]
