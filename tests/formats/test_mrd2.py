"""Streams of MRD version 2: what they hold is what version 1 would hold."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import mrd
import mrd.tools.phantom
import mrd.tools.stream_recon
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mrd2_files import converted, stream
from mrd_files import CALIBRATION, NOISE, REVERSE, kspace, lines, readout, space, write, xml
from torch import Tensor

from noref import formats
from noref.data.oversampling import without_oversampling
from noref.data.shown import cropped
from noref.errors import NorefError
from noref.formats import mrd_writing
from noref.formats.base import pseudonym
from noref.physics import ifft2c
from noref.scan import Header, Scan

VIEW = (240.0, 200.0, 5.0)


def assert_alike(one: formats.Slices, other: formats.Slices) -> None:
    """Two files of one stem hold the same scans."""
    assert one.ids == other.ids
    for a, b in zip(one, other, strict=True):
        for field in fields(Scan):
            mine, theirs = getattr(a, field.name), getattr(b, field.name)
            if isinstance(mine, Tensor) and mine.dtype == torch.bool:
                assert torch.equal(mine, theirs)
            elif isinstance(mine, Tensor):
                torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6 * float(mine.abs().max()))
            elif isinstance(mine, Header):
                for name in ("spacing", "position"):
                    told = getattr(mine, name)
                    assert (told is None) == (getattr(theirs, name) is None)
                    assert told is None or told == pytest.approx(getattr(theirs, name), rel=1e-6)
                same = {"spacing": None, "position": None}
                assert replace(mine, **same) == replace(theirs, **same)
            else:
                assert mine == theirs, field.name


def generate(folder: Path, matrix: int, coils: int = 1, repetitions: int = 1) -> Path:
    """The package's own phantom, with read-outs sampled twice as dense, and noise scans."""
    command = [sys.executable, "-m", "mrd.tools.phantom", "-o", str(folder / "phantom.mrd"), "-n", "0.05"]
    for option, value in (("-m", matrix), ("-c", coils), ("-r", repetitions), ("-s", 2)):
        command += [option, str(value)]
    # From 2.2 on noise scans are an option.
    noise = hasattr(mrd.tools.phantom, "generate_cartesian_phantom")
    subprocess.run([*command, *["-C"] * noise], check=True)
    return folder / "phantom.mrd"


@pytest.mark.parametrize("matrix", [32, 34])
def test_images_are_those_of_the_package(matrix: int, tmp_path: Path) -> None:
    path = generate(tmp_path, matrix, 4, 2)
    with path.open("rb") as given, (tmp_path / "images").open("wb") as made:
        mrd.tools.stream_recon.reconstruct_mrd_stream(given, made)
    theirs = images_of(tmp_path / "images")
    scans = formats.read(path)
    assert scans.format == "MRD 2 stream"
    assert scans.ids == tuple(f"{pseudonym('1234BGVF')}/phantom.repetition{i}/000" for i in range(2))
    for scan, image in zip(scans, theirs, strict=True):
        assert (scan.shape, scan.header.crop) == ((matrix, 2 * matrix), (matrix, matrix))
        assert scan.header.spacing == pytest.approx((300 / matrix, 300 / matrix, 5))
        for one in (scan, without_oversampling(scan)):
            mine = cropped(ifft2c(one.kspace), one).abs().square().sum(0).sqrt()
            assert float((mine - image).abs().max()) < 1e-6 * float(image.max())
        # 32 read-outs of noise, of this level in the real part.
        torch.testing.assert_close(scan.noise_cov, 0.005 * torch.eye(4) + 0j, atol=0.0006, rtol=0)


def images_of(path: Path) -> list[Tensor]:
    """Images of a stream, one channel and slice each."""
    with path.open("rb") as file, mrd.BinaryMrdReader(file) as reader:
        reader.read_header()
        return [torch.from_numpy(item.value.data[0, 0].copy()) for item in reader.read_data()]


@pytest.mark.skipif(
    shutil.which("ismrmrd_generate_cartesian_shepp_logan") is None, reason="ismrmrd-tools are not installed"
)
@pytest.mark.parametrize(
    "options",
    [
        ("-m", 48, "-c", 3),
        ("-m", 50, "-c", 1, "-C"),
        ("-m", 48, "-c", 3, "-r", 2, "-a", 2, "-w", 16, "-C"),
        ("-m", 48, "-c", 2, "-O", 1, "-k"),
    ],
)
def test_version_1_and_2_of_a_generated_scan_are_alike(options: tuple[object, ...], tmp_path: Path) -> None:
    command = ["ismrmrd_generate_cartesian_shepp_logan", "-o", "a.h5", *map(str, options)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert_alike(
        formats.read(tmp_path / "a.h5"), formats.read(converted(tmp_path / "a.h5", tmp_path / "a.mrd"))
    )


@pytest.mark.parametrize("averages", ["mean", "apart"])
def test_flags_counters_and_geometry_are_kept(averages: formats.Averages, tmp_path: Path) -> None:
    first, second, noise = kspace(3, 16, 24), kspace(3, 16, 24, seed=1), kspace(3, 1, 64, seed=2)
    place = {
        "position": (1.0, -2.0, 30.5),
        "read_dir": (0.0, 1.0, 0.0),
        "phase_dir": (1.0, 0.0, 0.0),
        "slice_dir": (0.0, 0.0, -1.0),
        "sample_time_us": 2.5,
    }
    made = [
        readout(noise[:, 0], NOISE, sample_time_us=5.0),
        *lines(first, rows=[0, 2, 4, 6, 8, 10, 12, 14], **place),
        *lines(second, rows=[0, 2, 4, 6, 8, 10, 12, 14], average=1, **place),
        *lines(first[..., ::-1], REVERSE, contrast=1, discard_pre=2, **place),
        *lines(second[..., :20], set=1, center_sample=8, **place),
        *lines(first, CALIBRATION, rows=[6, 7, 8, 9], slice=0, **place),
        *lines(second, slice=3, **place),
    ]
    for one in made[-16:]:
        one.encoding_space_ref = 1
    encodings = (
        space((24, 16, 1), view=VIEW, limits=(0, 15, 8), calibration="separate"),
        space((24, 16, 1), (12, 16, 1), view=VIEW, recon_view=(120.0, 200.0, 5.0), limits=(0, 15, 8)),
    )
    write(tmp_path / "a.h5", made, xml(*encodings, more=MORE))
    one, other = (
        formats.read(path, averages=averages)
        for path in (tmp_path / "a.h5", converted(tmp_path / "a.h5", tmp_path / "a.mrd"))
    )
    assert len(one) == {"mean": 4, "apart": 5}[averages]
    assert one.ids[0].startswith(pseudonym("P7"))
    assert one[0].calibration is not None
    assert_alike(one, other)
    assert_alike(one, pickle.loads(pickle.dumps(other)))


MORE = (
    "<subjectInformation><patientID>P7</patientID></subjectInformation>"
    "<measurementInformation><patientPosition>HFS</patientPosition><protocolName>T2</protocolName>"
    "</measurementInformation><acquisitionSystemInformation><relativeReceiverNoiseBandwidth>0.8"
    "</relativeReceiverNoiseBandwidth></acquisitionSystemInformation>"
    "<experimentalConditions><H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz></experimentalConditions>"
)


def test_trajectories_are_kept(tmp_path: Path) -> None:
    values = kspace(2, 10, 24)
    angles = np.pi * np.arange(10)[:, None] / 10
    radius = (np.arange(24) - 12) / 24
    positions = np.stack([radius * np.cos(angles), radius * np.sin(angles)], -1).astype(np.float32)
    made = [readout(values[:, i], traj=positions[i], kspace_encode_step_1=i) for i in range(10)]
    header = xml(space((24, 24, 1), view=(200.0, 200.0, 5.0), trajectory="radial"), more=MORE)
    write(tmp_path / "a.h5", made, header)
    one = formats.read(tmp_path / "a.h5")
    assert one[0].trajectory is not None
    assert_alike(one, formats.read(converted(tmp_path / "a.h5", tmp_path / "a.mrd")))


@pytest.mark.real_data
def test_a_real_scan_is_the_same_in_both_versions(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "multicoil"
    arrays = [
        scipy.io.loadmat(folder / f"xingkong_phantom_16ch_{name}.mat")[key].astype(np.complex64)
        for name, key in (("R2", "KSpaceDATA"), ("refscan", "refscan"))
    ]
    values, calibration = (torch.from_numpy(a).permute(2, 1, 0).contiguous() for a in arrays)
    measured = values.abs().sum(0) > 0
    noise = torch.eye(16) * (2 + 0j)
    scan = Scan("p/a/000", values, measured, measured, calibration=calibration, noise_cov=noise)
    mrd_writing.write(tmp_path / "a.h5", [scan])
    found = formats.read(converted(tmp_path / "a.h5", tmp_path / "a.mrd"))
    assert torch.equal(found[0].kspace, values)
    assert_alike(formats.read(tmp_path / "a.h5"), found)


@pytest.mark.parametrize("shape", [(1, 8, 10), (3, 7, 5)])
def test_images_come_back(shape: tuple[int, ...], tmp_path: Path) -> None:
    drawn = torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    directions = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
    header = Header(
        spacing=(1.5, 2.0, 4.0), position=(1.0, 2.0, 3.0), directions=directions, protocol="T2 «ä»"
    )
    for images in (drawn, drawn.abs()):
        formats.write(tmp_path / "a.mrd2", images, header)
        torch.testing.assert_close(torch.stack(images_of(tmp_path / "a.mrd2")), images, rtol=0, atol=0)
        with (tmp_path / "a.mrd2").open("rb") as file, mrd.BinaryMrdReader(file) as reader:
            told = reader.read_header()
            heads = [item.value.head for item in reader.read_data()]
        assert told.measurement_information.protocol_name == "T2 «ä»"
        assert [head.slice for head in heads] == list(range(shape[0]))
        kind = mrd.ImageType.COMPLEX if images.is_complex() else mrd.ImageType.MAGNITUDE
        for number, head in enumerate(heads):
            assert head.image_type == kind
            assert head.field_of_view.tolist() == [2 * shape[2], 1.5 * shape[1], 4]
            assert head.position.tolist() == [1, 2, 3 - 4 * number]
            assert (np.stack([head.col_dir, head.line_dir, head.slice_dir]) == directions).all()
    with pytest.raises(NorefError, match=r"a\.mrd2: holds no image data"):
        formats.read(tmp_path / "a.mrd2")


def test_a_stream_without_header_is_what_its_read_outs_say(tmp_path: Path) -> None:
    values = kspace(2, 8, 10)

    def made() -> Iterator[mrd.Acquisition]:
        for row in range(8):
            head = mrd.AcquisitionHeader(idx=mrd.EncodingCounters(kspace_encode_step_1=row))
            yield mrd.Acquisition(head=head, data=values[:, row])

    (scan,) = formats.read(stream(tmp_path / "a.mrd", None, made()))
    assert scan.id == "a/a/000"
    assert torch.equal(scan.kspace, torch.from_numpy(values))


@pytest.mark.skipif(not hasattr(mrd.Acquisition(), "phase"), reason="mrd-python before 2.2 has none")
def test_phase_offsets_are_refused(tmp_path: Path) -> None:
    made = mrd.Acquisition(data=kspace(2, 10), phase=np.ones(10, np.float32))
    with pytest.raises(NorefError, match=r"a\.mrd: read-outs with phase offsets"):
        formats.read(stream(tmp_path / "a.mrd", None, iter([made])))


def test_a_cut_stream_is_one_line(tmp_path: Path) -> None:
    path = generate(tmp_path, 16)
    content = path.read_bytes()
    assert len(formats.read(path)) == 1
    for size in (*range(5, 15), *range(100, len(content), 997), len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(NorefError, match=r"phantom\.mrd: ") as caught:
            formats.read(path)
        assert "\n" not in str(caught.value)
        assert "damaged or incomplete" in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_one_line_or_none(place: float, bit: int, tmp_path: Path) -> None:
    path = tmp_path / "phantom.mrd"
    if not (tmp_path / "whole").exists():
        shutil.move(generate(tmp_path, 16), tmp_path / "whole")
    content = bytearray((tmp_path / "whole").read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    said = f"{path}: "
    try:
        list(formats.read(path))
    except NorefError as error:
        said = str(error)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said


def test_what_is_no_stream_of_this_version_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = generate(tmp_path, 16)
    content = path.read_bytes()
    path.write_bytes(b"yardX" + content[5:])
    with pytest.raises(NorefError, match="of no known format"):
        formats.read(path)
    if b'"sampleTimeUs"' in content:
        path.write_bytes(content.replace(b'"sampleTimeUs"', b'"sampleTimeNs"'))
        asked = r"2\.2, which needs Python 3\.12"
    else:
        path.write_bytes(content.replace(b'"sampleTimeNs"', b'"sampleTimeUs"'))
        asked = r"2\.0 or 2\.1"
    with pytest.raises(NorefError, match=f"another version of MRD 2 .* install mrd-python {asked}"):
        formats.read(path)
    with path.open("wb") as file, mrd.BinaryMrdNoiseCovarianceWriter(file) as writer:
        writer.write_noise_covariance(mrd.NoiseCovariance(matrix=np.eye(2, dtype=np.complex64)))
    with pytest.raises(NorefError, match="a yardl stream, and not one of MRD's images and raw data"):
        formats.read(path)
    path.write_bytes(content)
    with pytest.raises(NorefError, match="leave out axes, key"):
        formats.read(path, axes="ky,kx")
    monkeypatch.setitem(sys.modules, "mrd", None)
    with pytest.raises(NorefError, match=r"pip install noref\[mrd2\]"):
        formats.read(path)
    with pytest.raises(NorefError, match=r"pip install noref\[mrd2\]"):
        formats.write(tmp_path / "a.mrd2", torch.ones(4, 4))
    assert [one.name for one in tmp_path.iterdir()] == ["phantom.mrd"]
