"""One line for every Siemens raw file that cannot be read: which, what is wrong, what to do."""

from __future__ import annotations

import builtins
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import twixtools
from mrd_files import kspace
from twix_files import block, lines, protocol, write, write_vb
from twixtools.mdb import Mdb_local

from noref import formats
from noref.errors import NorefError

Write = Callable[[Path], object]


def plain(path: Path) -> None:
    write(path, ("gre", protocol(), lines(kspace(2, 8, 12))))


def cut(share: float, before: Write = plain) -> Write:
    def written(path: Path) -> None:
        before(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

    return written


def vb(path: Path) -> None:
    write_vb(path, protocol(), lines(kspace(2, 8, 12), several=False))


def vb_without_end(path: Path) -> None:
    vb(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: -(128 + 32)])


def changed(where: int, by: bytes, before: Write = plain) -> Write:
    def written(path: Path) -> None:
        before(path)
        content = bytearray(path.read_bytes())
        content[where : where + len(by)] = by
        path.write_bytes(content)

    return written


def made(blocks: Sequence[Mdb_local], derived: dict[str, Any] | None = None, **told: Any) -> Write:
    return lambda path: write(path, ("gre", protocol(derived, **told), blocks))


def nan() -> list[Mdb_local]:
    values = kspace(2, 8, 12)
    values[0, 2, 3] = np.nan
    return lines(values)


FULL = kspace(2, 8, 12)
NOISE = block(kspace(3, 256), "NOISEADJSCAN")
BAD: dict[str, tuple[Write, str]] = {
    "half of it": (cut(0.96), "damaged or incomplete"),
    "no header": (cut(0.5), "damaged or incomplete"),
    "half of a VB file": (cut(0.6, vb), "damaged or incomplete"),
    "a VB file without its end": (vb_without_end, "ends before its last block"),
    "no channels": (changed(len(protocol()) + 30, bytes(2), vb), "damaged or incomplete"),
    "protocol": (changed(10248, b"\1\1\1\1\1\1\1\1"), "damaged or incomplete"),
    "no image": (made([block(kspace(2, 256), "NOISEADJSCAN")]), "holds no image data"),
    "no read-outs": (made([block(kspace(2, 12), "PHASCOR")]), "holds no image data"),
    "noise of other coils": (made([NOISE, *lines(FULL)]), "noise scans of 3 channels, but 2 in the image"),
    "coils": (made([*lines(FULL), *lines(kspace(3, 8, 12), contrast=0)]), "read-outs of 2 and 3 channels"),
    "NaN": (made(nan()), "NaN or infinity"),
    "zeros": (made(lines(0 * FULL)), "all zeros"),
    "radial": (made(lines(FULL), sKSpace_ucTrajectory="0x2"), "a radial scan"),
    "ramps": (
        made(lines(FULL), {"alRegridMode": 4}),
        "not on straight ramps of known",
    ),
    "ramps without times": (made(lines(FULL), {"alRegridMode": 2}), "not on straight ramps of known"),
    "multi-band": (made(lines(FULL), sSliceAcceleration_lMultiBandFactor=4), "4 slices were excited at once"),
    "lines": (made(lines(kspace(1, 12, 12))), "lies outside the encoded matrix"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, said = BAD[name]
    path = tmp_path / "a.dat"
    make(path)
    with pytest.raises(NorefError) as error:
        list(formats.read(path))
    text = str(error.value)
    assert said in text
    assert str(path) in text
    assert "\n" not in text


def test_other_files_of_that_name_are_no_twix(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(NorefError, match=r"of no known format; noref reads .*Siemens twix"):
        formats.read(path)


@pytest.mark.parametrize("content", [b"\0" * 4096, struct.pack("<2I", 0, 1) + bytes(4096), b"ab"])
def test_what_begins_a_little_like_twix_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    with pytest.raises(NorefError, match="of no known format"):
        formats.read(path)


def test_a_measurement_of_another_name_is_not_there(tmp_path: Path) -> None:
    plain(tmp_path / "a.dat")
    with pytest.raises(NorefError, match="holds no measurement tse with an image; it has gre"):
        formats.read(tmp_path / "a.dat", key="tse")


@pytest.mark.parametrize("asked", [{"axes": "coils,ky,kx"}, {"mask_key": "mask"}])
def test_axes_and_masks_are_not_asked_for(tmp_path: Path, asked: dict[str, str]) -> None:
    plain(tmp_path / "a.dat")
    with pytest.raises(NorefError, match="twix says itself what its axes are"):
        formats.read(tmp_path / "a.dat", **asked)  # type: ignore[arg-type]


def test_a_file_that_was_shortened_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    plain(path)
    slices = formats.read(path)
    cut(0.96, lambda _: None)(path)
    with pytest.raises(NorefError, match="damaged or incomplete"):
        slices[0]


def test_without_twixtools_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain(tmp_path / "a.dat")
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "twixtools":
            raise ModuleNotFoundError("No module named 'twixtools'", name="twixtools")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(NorefError, match=r"twixtools is not installed; pip install noref\[siemens\]"):
        formats.read(tmp_path / "a.dat")


@pytest.mark.real_data
@pytest.mark.parametrize("size", [100, 9000, 10300, 60_000, 10240 + 1_646_624 - 400])
def test_real_files_that_were_cut_off(real_data: Path, tmp_path: Path, size: int) -> None:
    whole = (real_data / "twix/gre_2ch_phantom.dat").read_bytes()
    (tmp_path / "a.dat").write_bytes(whole[:size])
    with pytest.raises(NorefError, match=r"a.dat: damaged or incomplete .*; copy or export it again"):
        formats.read(tmp_path / "a.dat")


@pytest.mark.real_data
def test_a_real_file_of_noise_alone(real_data: Path, tmp_path: Path) -> None:
    path = str(real_data / "twix/gre_2ch_phantom.dat")
    (real,) = twixtools.read_twix(path, verbose=False, parse_pmu=False)
    for one in real["mdb"]:
        one.add_flag("NOISEADJSCAN")
    write(tmp_path / "a.dat", ("gre", real["hdr_str"].tobytes(), real["mdb"]))
    with pytest.raises(NorefError, match="holds no image data"):
        formats.read(tmp_path / "a.dat")
