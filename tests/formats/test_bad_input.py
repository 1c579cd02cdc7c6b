"""One line for every file that cannot be read: which, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
import pytest
import scipy.io

from noref import formats
from noref.errors import NorefError


def kspace(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.complex64)


def hdf5(path: Path | BinaryIO, **datasets: object) -> None:
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value


def into(write: Callable[[BinaryIO], object]) -> Callable[[Path], None]:
    """Writes without the suffix that NumPy and SciPy would add."""

    def written(path: Path) -> None:
        with path.open("wb") as file:
            write(file)

    return written


def cut(write: Callable[[BinaryIO], object]) -> Callable[[Path], None]:
    def damaged(path: Path) -> None:
        into(write)(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])

    return damaged


def nan() -> np.ndarray:
    values = kspace(2, 3, 8, 6)
    values[0, 1, 2, 3] = np.nan
    return values


BAD: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path, "not found"),
    (lambda path: path.mkdir(), "is a folder"),
    (lambda path: path.write_bytes(b""), "is empty"),
    (lambda path: path.write_text("# Dimensions in prose"), "of no known format"),
    (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 500), "of no known format"),
    (cut(lambda file: hdf5(file, kspace=kspace(2, 3, 64, 48))), "damaged or incomplete"),
    (cut(lambda file: np.save(file, kspace(64, 48))), "damaged or incomplete"),
    (cut(lambda file: np.savez(file, k=kspace(64, 48))), "damaged or incomplete"),
    (cut(lambda file: scipy.io.savemat(file, {"k": kspace(64, 48)})), "damaged or incomplete"),
    (into(lambda file: np.save(file, np.array([{}]), allow_pickle=True)), "damaged or incomplete"),
    (lambda path: hdf5(path, reconstruction=1), "holds no data set kspace; it has reconstruction"),
    (lambda path: hdf5(path), "holds no data set kspace; it has nothing"),
    (lambda path: hdf5(path, kspace=kspace(8, 6)), r"kspace is complex64 \(8, 6\); expected"),
    (lambda path: hdf5(path, kspace=np.full((2, 8, 6), b"a")), r"kspace is \|S1 \(2, 8, 6\); expected"),
    (lambda path: hdf5(path, kspace=nan()), "slice 0: k-space holds NaN"),
    (lambda path: hdf5(path, kspace=kspace(2, 3, 8, 6) * 0), "slice 0: k-space is all zeros"),
    (lambda path: hdf5(path, kspace=kspace(2, 3, 8, 6), mask=np.ones(7)), r"mask \(7,\) fits no axis"),
    (lambda path: hdf5(path, kspace=kspace(2, 3, 8, 6), mask=np.ones((6, 8))), r"mask \(6, 8\) fits no axis"),
    (
        lambda path: hdf5(path, kspace=kspace(2, 3, 8, 6), maps=kspace(2, 1, 4, 8, 6)),
        r"maps \(2, 1, 4, 8, 6\) do not fit kspace \(2, 3, 8, 6\)",
    ),
    (
        lambda path: hdf5(path, kspace=kspace(2, 3, 8, 6), kspace_clean=kspace(2, 3, 6, 8)),
        r"kspace_clean \(2, 3, 6, 8\) do not fit",
    ),
    (
        lambda path: hdf5(path, kspace=kspace(2, 3, 8, 6), reconstruction_rss=np.ones((1, 8, 6))),
        r"reconstruction_rss \(1, 8, 6\) do not fit",
    ),
]


@pytest.mark.parametrize(("make", "complaint"), BAD, ids=[complaint for _, complaint in BAD])
def test_bad_files_get_one_line(tmp_path: Path, make: Callable[[Path], object], complaint: str) -> None:
    path = tmp_path / "scan.h5"
    make(path)
    with pytest.raises(NorefError, match=complaint) as caught:
        formats.read(path)[0]
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_mask_asked_for_must_be_there(tmp_path: Path) -> None:
    hdf5(tmp_path / "x.h5", kspace=kspace(2, 3, 8, 6), mine=np.array([1, 0, 1, 1, 0, 0]))
    with pytest.raises(NorefError, match="holds no other; it has kspace, mine"):
        formats.read(tmp_path / "x.h5", mask_key="other")
    assert formats.read(tmp_path / "x.h5", mask_key="mine")[1].mask[:, 0].tolist() == [1, 0, 1, 1, 0, 0]
