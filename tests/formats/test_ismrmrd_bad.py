"""One line for every ISMRMRD file that cannot be read: which, what is wrong, what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from mrd_files import CALIBRATION, NOISE, kspace, lines, readout, space, write, xml

from noref import formats
from noref.errors import NorefError

PLAIN = xml(space((12, 8, 1), limits=(0, 7, 4)))


def plain(path: Path) -> None:
    write(path, lines(kspace(2, 8, 12)), PLAIN)


def truncated(path: Path) -> None:
    plain(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def without(field: str) -> Callable[[Path], None]:
    """A file whose read-outs' headers, or their counters, lack a field."""

    def written(path: Path) -> None:
        plain(path)
        with h5py.File(path, "a") as file:
            data = file["dataset/data"][()]
            head = data.dtype["head"]
            kept = [(name, head[name]) for name in head.names if name != field]
            dtype = [
                (name, np.dtype(kept) if name == "head" else data.dtype[name]) for name in data.dtype.names
            ]
            fewer = np.empty(len(data), dtype)
            for name, _ in kept:
                fewer["head"][name] = data["head"][name]
            for name in ("data", "traj"):
                fewer[name] = data[name]
            del file["dataset/data"]
            types = [(name, h5py.vlen_dtype(np.float32)) for name in ("traj", "data")]
            file["dataset"].create_dataset("data", data=fewer, dtype=np.dtype([dtype[0], *types]))

    return written


def short(path: Path) -> None:
    plain(path)
    with h5py.File(path, "a") as file:
        one = file["dataset/data"][3]
        one["data"] = one["data"][:-4]
        file["dataset/data"][3] = one


def unwritten(path: Path) -> None:
    plain(path)
    with h5py.File(path, "a") as file:
        file["dataset/data"].resize(1000, axis=0)


def made(readouts: Callable[[], list], header: str = PLAIN) -> Callable[[Path], object]:
    return lambda path: write(path, readouts(), header)


def images_only(path: Path) -> None:
    formats.write(path.with_suffix(".mrd"), kspace(2, 8, 6))
    path.with_suffix(".mrd").rename(path)


def nan() -> np.ndarray:
    values = kspace(2, 8, 12)
    values[0, 2, 3] = np.nan
    return values


RADIAL = xml(space((16, 16, 1), trajectory="radial"))
FAR = np.full((12, 2), 40, np.float32)
BAD: list[tuple[Callable[[Path], object], str]] = [
    (truncated, "damaged or incomplete"),
    (unwritten, "1000 read-outs are not all there"),
    (short, "read-out 3 holds 22 samples where its header says 2 channels of 12"),
    (without("flags"), "the headers of its read-outs lack flags"),
    (without("idx"), "the headers of its read-outs lack idx.kspace_encode_step_1"),
    (images_only, "holds no image data, no read-outs"),
    (made(lambda: [readout(kspace(2, 50), NOISE)]), "holds no image data, no read-outs"),
    (made(lambda: lines(kspace(2, 8, 12), CALIBRATION)), "holds no image data, no read-outs"),
    (made(lambda: lines(nan())), "k-space holds NaN"),
    (made(lambda: lines(kspace(2, 8, 12) * 0)), "k-space is all zeros"),
    (
        made(lambda: [readout(kspace(3, 50), NOISE), *lines(kspace(2, 8, 12))]),
        "noise scans of 3 channels, but 2 in the image",
    ),
    (
        made(lambda: [readout(kspace(n, 50), NOISE) for n in (2, 3)] + lines(kspace(2, 8, 12))),
        "noise scans of 2 and 3 channels",
    ),
    (
        made(lambda: lines(kspace(2, 8, 12), rows=[0, 1]) + lines(kspace(3, 8, 12), rows=[2])),
        "read-outs of 2 and 3 channels in one scan",
    ),
    (
        made(lambda: lines(kspace(2, 8, 12)), xml(space((12, 6, 1), limits=(0, 7, 3)))),
        "line 6 lies outside the encoded matrix of 6 lines around line 3; correct encodedSpace",
    ),
    (
        made(lambda: lines(kspace(2, 8, 12)), xml(space((12, 8, 1), limits=(0, 7, 6)))),
        "line 0 lies outside the encoded matrix of 8 lines around line 6",
    ),
    (
        made(lambda: lines(kspace(2, 8, 12)), xml(space((8, 8, 1)))),
        "read-outs of 12 samples around sample 6 do not fit an encoded matrix of 8",
    ),
    (
        made(lambda: lines(kspace(2, 8, 12), center_sample=9)),
        "read-outs of 12 samples around sample 9 do not fit",
    ),
    (
        made(lambda: lines(kspace(2, 8, 12)), xml(space((12, 80000, 1)))),
        "an encoded matrix of 12 × 80000 cannot be",
    ),
    (made(lambda: lines(kspace(2, 8, 12)), RADIAL), "read-out 0 is off the Cartesian grid"),
    (
        made(lambda: [readout(kspace(2, 12), traj=FAR)], RADIAL),
        "its trajectory reaches 40, beyond an encoded matrix of 16",
    ),
    (
        made(
            lambda: [readout(kspace(2, 12), traj=FAR)],
            xml("<encoding><trajectory>spiral</trajectory></encoding>"),
        ),
        "a spiral scan whose header gives no encoded matrix",
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


@pytest.mark.parametrize("share", np.linspace(0.02, 0.98, 13).tolist())
def test_files_cut_anywhere_get_one_line(tmp_path: Path, share: float) -> None:
    path = tmp_path / "scan.h5"
    plain(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(NorefError, match=r"damaged or incomplete|of no known format"):
        formats.read(path)[0]


@pytest.mark.parametrize("seed", range(3, 13))
def test_files_with_damage_inside_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "scan.h5"
    plain(path)
    rng = np.random.default_rng(seed)
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    start = int(rng.integers(100, len(content) - 200))
    content[start : start + 60] = rng.integers(0, 256, 60)
    path.write_bytes(content.tobytes())
    with suppress(NorefError), warnings.catch_warnings():
        # Where the header was hit.
        warnings.simplefilter("ignore")
        formats.read(path)[0]
