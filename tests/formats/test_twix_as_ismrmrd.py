"""Siemens raw files are read as ISMRMRD files of the same read-outs are."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import mrd_files
import numpy as np
import pytest
import torch
from mrd_files import kspace, readout, space, xml
from torch import Tensor
from twix_files import block, lines, protocol, write, write_vb
from twixtools.mdb import Mdb_local

from noref import formats
from noref.scan import Scan

FLAGS = {
    "NOISEADJSCAN": mrd_files.NOISE,
    "PATREFSCAN": mrd_files.CALIBRATION,
    "PATREFANDIMASCAN": mrd_files.CALIBRATION_AND_IMAGING,
    "REFLECT": mrd_files.REVERSE,
    "PHASCOR": mrd_files.NAVIGATOR,
}
SYSTEM = (
    "<acquisitionSystemInformation><systemVendor>SIEMENS</systemVendor><relativeReceiverNoiseBandwidth>0.793</relativeReceiverNoiseBandwidth>"
    "</acquisitionSystemInformation><measurementInformation><protocolName>gre</protocolName>"
    "</measurementInformation>"
)
"""What converters of Siemens files say of every scanner."""

ReadOut = tuple[np.ndarray, tuple[str, ...], dict[str, int]]


def read(path: Path, **how: object) -> list[Scan]:
    return list(formats.read(path, **how))


def rows(values: np.ndarray, *flags: str, of: range | list[int] | None = None, **head: int) -> list[ReadOut]:
    chosen = range(values.shape[1]) if of is None else of
    return [(values[:, row], flags, {"kspace_encode_step_1": row, **head}) for row in chosen]


def averaged() -> list[ReadOut]:
    return [*rows(kspace(2, 8, 12, seed=1)), *rows(kspace(2, 8, 12, seed=2), average=1)]


def many_scans() -> list[ReadOut]:
    found = []
    for number, name in enumerate(("contrast", "phase", "repetition", "set")):
        found += rows(kspace(2, 8, 12, seed=number), **{name: 1})
    return found


def reflected() -> list[ReadOut]:
    """As if they were in phase with each other."""
    values = kspace(3, 8, 12)
    turned = values[..., ::-1]
    return rows(values, of=range(0, 8, 2)) + rows(turned, "REFLECT", of=range(1, 8, 2))


def epi() -> list[ReadOut]:
    """Lines in both directions, behind navigators of both."""
    smooth = np.exp(-(((np.arange(12) - 6.3) / 2) ** 2)) * np.exp(0.2j * np.arange(12)) * np.ones((3, 1))
    made = [(smooth * np.exp(1j * n), ("PHASCOR", "REFLECT")[: 1 + n % 2], {}) for n in range(3)]
    return [(values.astype(np.complex64), flags, head) for values, flags, head in made] + reflected()


def with_noise() -> list[ReadOut]:
    return [(kspace(3, 256, seed=5), ("NOISEADJSCAN",), {}), *rows(kspace(3, 8, 12))]


def embedded() -> list[ReadOut]:
    values = kspace(2, 8, 12)
    return [
        *rows(values, "PATREFSCAN", of=[3, 5]),
        *rows(values, of=[0, 2, 6]),
        *rows(values, "PATREFSCAN", "PATREFANDIMASCAN", of=[4]),
    ]


def separate() -> list[ReadOut]:
    own = kspace(2, 8, 12, seed=4)[..., 2:10]
    return [*rows(own, "PATREFSCAN", of=[2, 3, 4, 5]), *rows(kspace(2, 8, 12), of=range(0, 8, 2))]


def partial_echo() -> list[ReadOut]:
    short = kspace(2, 8, 12)[..., 3:]
    return rows(short, center_sample=3, discard_pre=1, discard_post=2)


def partial_fourier() -> list[ReadOut]:
    return rows(kspace(2, 8, 12), of=range(2, 8))


def slices() -> list[ReadOut]:
    return [one for slice_ in range(3) for one in rows(kspace(2, 8, 12, seed=slice_), slice=slice_)]


def without_images() -> list[ReadOut]:
    """What is no line of an image is left out."""
    return [(kspace(2, 12, seed=9), (name,), {}) for name in ("PHASCOR", "RTFEEDBACK", "noname60")]


CASES = {
    "plain": (lambda: rows(kspace(3, 8, 12)), 1),
    "one coil": (lambda: rows(kspace(1, 8, 12)), 1),
    "averages": (averaged, 1),
    "scans": (many_scans, 1),
    "reflected": (reflected, 1),
    "EPI": (epi, 1),
    "noise": (with_noise, 1),
    "embedded": (embedded, 2),
    "separate": (separate, 4),
    "partial echo": (partial_echo, 1),
    "partial Fourier": (partial_fourier, 1),
    "slices": (slices, 1),
    "others": (lambda: [*without_images(), *rows(kspace(2, 8, 12))], 1),
}
MODES = {1: "other", 2: "embedded", 4: "separate"}
"""`ucRefScanMode`, and what converters make of it."""


def as_mrd(path: Path, made: list[ReadOut], mode: int) -> Path:
    header = xml(
        space(
            (12, 8, 1),
            (6, 8, 1),
            view=(24, 16, 5),
            recon_view=(12, 16, 5),
            limits=(0, 7, 4),
            calibration=MODES[mode],
        ),
        more=SYSTEM,
    )
    readouts = []
    for values, flags, head in made:
        numbers = [FLAGS[name] for name in flags if name in FLAGS]
        if len(numbers) < len(flags):
            continue
        dwell = 30.0 if "NOISEADJSCAN" in flags else 10.0
        vectors = {"phase_dir": (1, 0, 0), "read_dir": (0, 1, 0), "slice_dir": (0, 0, 1)}
        place = {"position": (0, 0, 10 * head.get("slice", 0))}
        readouts.append(readout(values, *numbers, sample_time_us=dwell, **vectors, **place, **head))
    return mrd_files.write(path, readouts, header)


def as_twix(made: list[ReadOut], several: bool = True) -> list[Mdb_local]:
    blocks = []
    for values, flags, head in made:
        told = dict(head)
        cut = (told.pop("discard_pre", 0), told.pop("discard_post", 0))
        centre = told.pop("center_sample", None)
        place = (0, 0, 10 * told.get("slice", 0))
        blocks.append(
            block(values, *flags, centre_column=centre, cut=cut, position=place, several=several, **told)
        )
    return blocks


def assert_same(one: Scan, other: Scan) -> None:
    for field in fields(Scan):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(b, Tensor):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=0, msg=field.name)
        else:
            assert a == b, field.name


@pytest.mark.filterwarnings("ignore:.*without navigators")
@pytest.mark.parametrize("averages", ["mean", "apart"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("several", [True, False], ids=["VD", "VB"])
def test_the_same_read_outs_give_the_same_scans(
    tmp_path: Path, case: str, several: bool, averages: formats.Averages
) -> None:
    make, mode = CASES[case]
    expected = read(as_mrd(tmp_path / "a.h5", make(), mode), averages=averages)
    header = protocol(sPat_ucRefScanMode=hex(mode))
    blocks = as_twix(make(), several)
    path = tmp_path / "a.dat"
    if several:
        write(path, ("gre", header, blocks))
    else:
        write_vb(path, header, blocks)
    found = read(path, averages=averages)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("several", [True, False], ids=["VD", "VB"])
@pytest.mark.parametrize(("first", "kz"), [(0, 4), (1, 5)])
def test_volumes_are_those_of_ismrmrd(tmp_path: Path, several: bool, first: int, kz: int) -> None:
    """All partitions, or of partial Fourier the last."""
    values, centre, over = kspace(2, kz, 8, 12), kz // 2, 1.25
    numbered = [
        ((values[:, z], row), {"kspace_encode_step_1": row, "kspace_encode_step_2": z - first})
        for z in range(first, kz)
        for row in range(8)
    ]
    place = {"position": (1, 2, 3)}
    blocks = [
        block(lines_[:, row], several=several, centre_partition=centre - first, **place, **steps)
        for (lines_, row), steps in numbered
    ]
    told = {"i3DFTLength": kz, "iNoOfFourierPartitions": kz - first}
    header = protocol(told, sKSpace_dSliceOversamplingForDialog=over - 1)
    path = tmp_path / "a.dat"
    if several:
        write(path, ("gre", header, blocks))
    else:
        write_vb(path, header, blocks)
    vectors = {"phase_dir": (1, 0, 0), "read_dir": (0, 1, 0), "slice_dir": (0, 0, 1)}
    readouts = [
        readout(lines_[:, row], sample_time_us=10.0, **vectors, **place, **steps)
        for (lines_, row), steps in numbered
    ]
    encoding = space(
        (12, 8, kz),
        (6, 8, round(kz / over)),
        view=(24, 16, 5 * over),
        recon_view=(12, 16, 5),
        limits=(0, 7, 4),
        partitions=(0, kz - 1 - first, centre - first),
        calibration="other",
    )
    mrd = mrd_files.write(tmp_path / "a.h5", readouts, xml(encoding, more=SYSTEM))
    expected, found = read(mrd), read(path)
    assert len(found) == len(expected) == 6
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    assert found[0].shape == (8, kz)
    assert torch.equal(found[0].measured[0], torch.arange(kz) >= first)


def test_ramps_of_a_protocol_are_those_of_ismrmrd(tmp_path: Path) -> None:
    header = protocol(
        {
            "alRegridMode": 2,
            "alRegridRampupTime": 40,
            "alRegridFlattopTime": 60,
            "alRegridRampdownTime": 30,
            "alRegridDelaySamplesTime": 15,
            "aflRegridADCDuration": 100.0,
        }
    )
    values = kspace(2, 8, 20)
    (found,) = read(write(tmp_path / "a.dat", ("gre", header, lines(values))))
    names = ("rampUpTime", "flatTopTime", "rampDownTime", "acqDelayTime", "numSamples", "dwellTime")
    parameters = "".join(
        f"<userParameterDouble><name>{name}</name><value>{value}</value></userParameterDouble>"
        for name, value in zip(names, (40, 60, 30, 15, 20, 5), strict=True)
    )
    trajectory = f"<identifier>ConventionalEPI</identifier>{parameters}"
    encoding = space(
        (12, 8, 1),
        (6, 8, 1),
        view=(24, 16, 5),
        recon_view=(12, 16, 5),
        limits=(0, 7, 4),
        more=f"<trajectoryDescription>{trajectory}</trajectoryDescription>",
    )
    vectors = {"phase_dir": (1, 0, 0), "read_dir": (0, 1, 0), "slice_dir": (0, 0, 1)}
    readouts = [
        readout(values[:, row], kspace_encode_step_1=row, sample_time_us=10.0, **vectors) for row in range(8)
    ]
    (expected,) = read(mrd_files.write(tmp_path / "a.h5", readouts, xml(encoding, more=SYSTEM)))
    assert found.shape == (8, 6)
    assert_same(found, expected)
