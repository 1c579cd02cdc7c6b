"""Siemens raw files: what their headers and flags say, and what twixtools reads of real ones."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import twixtools
from mrd_files import kspace
from twix_files import block, lines, protocol, write
from twixtools.mdb import Mdb_local
from twixtools.seqdata import SeqData

from noref import formats
from noref.coils.whitening import whitened
from noref.physics import ifft2c
from noref.scan import Scan


def read(path: Path, **how: object) -> list[Scan]:
    return list(formats.read(path, **how))


def test_slices_can_be_pickled_and_read_again(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    slices = formats.read(write(tmp_path / "a.dat", ("gre", protocol(), lines(values))))
    assert slices.format == "Siemens twix"
    for _ in range(2):
        scan = pickle.loads(pickle.dumps(slices))[0]
        assert torch.equal(scan.kspace, torch.from_numpy(values))


@pytest.mark.parametrize(("ky", "kx"), [(7, 12), (8, 11), (9, 13)])
def test_odd_matrices_have_their_centre_at_half(tmp_path: Path, ky: int, kx: int) -> None:
    values = kspace(2, ky, kx)
    header = protocol(
        {"iPEFTLength": ky, "iNoOfFourierLines": ky, "flReadoutOSFactor": 1.0}, sKSpace_lBaseResolution=kx
    )
    path = write(tmp_path / "a.dat", ("gre", header, lines(values, centre_line=ky // 2)))
    (scan,) = read(path)
    assert torch.equal(scan.kspace, torch.from_numpy(values))


def several_measurements(folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    noise, first, last = kspace(2, 256, seed=1), kspace(2, 8, 12, seed=2), kspace(2, 8, 12, seed=3)
    adjustment = [block(noise, "NOISEADJSCAN"), *lines(kspace(2, 8, 12, seed=4))]
    path = write(
        folder / "a.dat",
        ("AdjCoilSens", protocol(tProtocolName='"AdjCoilSens"'), adjustment),
        ("localizer", protocol(tProtocolName='"localizer"'), lines(first)),
        ("gre", protocol(), lines(last)),
        ("noise", protocol(), [block(kspace(2, 256, seed=5), "NOISEADJSCAN")]),
    )
    return path, first, last


def test_the_last_measurement_with_an_image_is_read_or_the_one_named(tmp_path: Path) -> None:
    path, first, last = several_measurements(tmp_path)
    (scan,) = read(path)
    assert torch.equal(scan.kspace, torch.from_numpy(last))
    told = "Siemens twix, measurement gre of AdjCoilSens, localizer, gre"
    assert formats.read(path).format == told
    (scan,) = read(path, key="localizer")
    assert torch.equal(scan.kspace, torch.from_numpy(first))
    assert scan.header.protocol == "localizer"


def test_noise_of_a_measurement_before_it_whitens_the_image(tmp_path: Path) -> None:
    path, *_ = several_measurements(tmp_path)
    (scan,) = read(path)
    noise = torch.from_numpy(kspace(2, 256, seed=1))
    # 5 µs between the samples of that adjustment, 10 between those of the image.
    expected = noise @ noise.mH / 256 * (5 / 10) / 0.793
    assert scan.noise_cov is not None
    torch.testing.assert_close(scan.noise_cov, expected, rtol=1e-4, atol=1e-6)
    white = whitened(scan).noise_cov
    torch.testing.assert_close(white, torch.eye(2) + 0j, atol=1e-5, rtol=0)


def test_slices_are_numbered_by_where_they_lie(tmp_path: Path) -> None:
    # Interleaved: what was acquired first, third and second.
    heights, made = {0: -7.5, 1: 7.5, 2: 0.0}, []
    turned = (0.5**0.5, 0.0, 0.0, 0.5**0.5)
    for number, height in heights.items():
        values = kspace(1, 8, 12, seed=number)
        made += lines(values, slice=number, position=(1, 2, height), quaternion=turned)
    slices = formats.read(write(tmp_path / "a.dat", ("gre", protocol(), made)))
    assert slices.ids == ("a/a/000", "a/a/001", "a/a/002")
    for scan, number in zip(slices, (0, 2, 1), strict=True):
        assert torch.equal(scan.kspace, torch.from_numpy(kspace(1, 8, 12, seed=number)))
        assert scan.header.position == (1, 2, heights[number])
    # The columns of a quarter turn around z: phase encoding and read-out, turned around, and slice.
    read_out, phase, normal = (torch.tensor(vector) for vector in scan.header.directions or ())
    torch.testing.assert_close(phase, torch.tensor([0.0, -1, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(read_out, torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(normal, torch.tensor([0.0, 0, 1]), atol=1e-6, rtol=0)


def test_slices_across_each_other_keep_their_numbers(tmp_path: Path) -> None:
    made = lines(kspace(1, 8, 12, seed=0), slice=0, position=(0, 0, 9))
    made += lines(kspace(1, 8, 12, seed=1), slice=1, quaternion=(0.5**0.5, 0.5**0.5, 0, 0))
    first, second = read(write(tmp_path / "a.dat", ("gre", protocol(), made)))
    assert torch.equal(first.kspace, torch.from_numpy(kspace(1, 8, 12, seed=0)))
    assert torch.equal(second.kspace, torch.from_numpy(kspace(1, 8, 12, seed=1)))


def test_the_header_tells_geometry_and_timing_and_no_name(tmp_path: Path) -> None:
    header = protocol(
        {"flMagneticFieldStrength": 2.89362, "PatientID": "Doe 17", "PatientName": "Doe"},
        **{"alTR[0]": 500000, "alTE[0]": 10000, "alTE[1]": 25000, "alTI[0]": 300000},
        **{"adFlipAngleDegree[0]": 15, "sPat_lAccelFactPE": 2, "sPrepPulses_ucInversion": "0x4"},
    )
    made = [*lines(kspace(1, 8, 12)), *lines(kspace(1, 8, 12), contrast=1)]
    scans = read(write(tmp_path / "a.dat", ("gre", header, made)))
    assert [scan.header.echo_time for scan in scans] == [10, 25]
    header_read = scans[0].header
    told = (header_read.repetition_time, header_read.inversion_time, header_read.flip_angle)
    assert told == (500, None, 15)
    assert header_read.field_strength == pytest.approx(2.89362)
    assert (header_read.acceleration, header_read.spacing, header_read.crop) == (2, (2, 2, 5), (8, 6))
    assert scans[0].subject.startswith("patient-")
    assert "Doe" not in repr(scans[0])


def test_scans_of_a_patient_share_a_subject_and_files_without_id_do_not(tmp_path: Path) -> None:
    named = [
        write(tmp_path / f"{name}.dat", ("gre", protocol({"PatientID": "17"}), lines(kspace(1, 8, 12))))
        for name in ("a", "b")
    ]
    assert len({read(path)[0].subject for path in named}) == 1
    hidden = write(tmp_path / "c.dat", ("gre", protocol(), lines(kspace(1, 8, 12))))
    assert read(hidden)[0].subject == "c"


def test_an_inversion_brings_its_time(tmp_path: Path) -> None:
    header = protocol(**{"alTI[0]": 300000, "sPrepPulses_ucInversion": "0x1"})
    (scan,) = read(write(tmp_path / "a.dat", ("gre", header, lines(kspace(1, 8, 12)))))
    assert scan.header.inversion_time == 300


def test_lines_are_counted_from_the_centre_that_each_tells(tmp_path: Path) -> None:
    values, own = kspace(1, 8, 12), kspace(1, 8, 12, seed=4)[:, 2:6]
    # The calibration scan counts its lines from its own first.
    made = [
        *lines(own, "PATREFSCAN", centre_line=2),
        *lines(values, rows=range(0, 8, 2)),
    ]
    (scan,) = read(write(tmp_path / "a.dat", ("gre", protocol(sPat_ucRefScanMode="0x4"), made)))
    assert torch.equal(scan.kspace[:, ::2], torch.from_numpy(values[:, ::2]))
    assert scan.calibration is not None
    assert torch.equal(scan.calibration, torch.from_numpy(own))


@pytest.mark.parametrize(("mode", "joined"), [(2, True), (128, True), (4, False), (8, False), (256, False)])
def test_calibration_lines_join_the_image_or_do_not(tmp_path: Path, mode: int, joined: bool) -> None:
    values = kspace(1, 8, 12)
    made = [
        *lines(values, "PATREFSCAN", rows=[3, 5] if joined else [3, 4, 5]),
        *lines(values, rows=range(0, 8, 2)),
    ]
    path = write(tmp_path / "a.dat", ("gre", protocol(sPat_ucRefScanMode=hex(mode)), made))
    (scan,) = read(path)
    found = set(scan.measured.any(-1).nonzero().flatten().tolist())
    assert found == {0, 2, 4, 6} | ({3, 5} if joined else set())


def test_sequences_from_outside_that_tell_no_centre_fill_the_matrix_of_their_lines(tmp_path: Path) -> None:
    values = kspace(2, 10, 16)
    header = protocol({"flReadoutOSFactor": 1.0}, sKSpace_lBaseResolution=8)
    (scan,) = read(write(tmp_path / "a.dat", ("pulseq", header, lines(values, centre_line=0))))
    assert torch.equal(scan.kspace, torch.from_numpy(values))
    # Twice as many samples as the protocol tells: its 12 mm are half of the field of view.
    assert scan.header.crop == (10, 8)
    assert scan.header.spacing == pytest.approx((1.6, 1.5, 5))


def test_sensors_values_between_lines_are_passed_over(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    sensor = Mdb_local()
    sensor.add_flag("SYNCDATA")
    data = SeqData(struct.pack("<I52sI", 4, b"PMU", 0) + b"1234")
    # The class takes bytes, and writes what these are made to.
    sensor._Mdb_local__data = data
    sensor.mdh.FlagsAndDMALength = 192 + len(data)
    blocks = lines(values)
    made = [sensor, *blocks[:4], sensor, *blocks[4:]]
    (scan,) = read(write(tmp_path / "a.dat", ("gre", protocol(), made)))
    assert torch.equal(scan.kspace, torch.from_numpy(values))


def rss(scan: Scan) -> np.ndarray:
    return ifft2c(scan.kspace).abs().square().sum(0).sqrt().numpy()


@pytest.fixture
def phantoms(real_data: Path) -> dict[str, Path]:
    folder = real_data / "twix"
    return {
        "gre": folder / "gre_2ch_phantom.dat",
        "pulseq": folder / "pulseq_32ch_phantom_MID00243.dat",
    }


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["gre", "pulseq"])
def test_real_files_hold_what_twixtools_maps(phantoms: dict[str, Path], name: str) -> None:
    array = twixtools.map_twix(str(phantoms[name]), verbose=False)[-1]["image"]
    array.flags["squeeze_singletons"] = True
    theirs = np.moveaxis(array[:], -2, 0)
    (scan,) = read(phantoms[name])
    np.testing.assert_array_equal(scan.kspace.numpy(), theirs)
    centred = np.fft.ifftshift(theirs, axes=(-2, -1))
    images = np.fft.fftshift(np.fft.ifft2(centred, norm="ortho"), axes=(-2, -1))
    expected = np.sqrt((np.abs(images) ** 2).sum(0))
    assert np.abs(rss(scan) - expected).max() < 1e-5 * expected.max()


@pytest.mark.real_data
def test_real_files_lie_where_twixtools_says(phantoms: dict[str, Path]) -> None:
    for path in phantoms.values():
        place = twixtools.read_twix(str(path), verbose=False, parse_pmu=False)[-1]["geometry"][0]
        (scan,) = read(path)
        header = scan.header
        assert header.position == pytest.approx(place.offset, abs=1e-3)
        assert header.directions is not None
        read_out, phase, normal = header.directions
        assert normal == pytest.approx(place.normal, abs=1e-3)
        theirs = place.prs_to_pcs()
        assert phase == pytest.approx(tuple(theirs[:, 0]), abs=1e-3)
        assert read_out == pytest.approx(tuple(theirs[:, 1]), abs=1e-3)
        assert header.spacing is not None
        assert header.spacing[::-1] == pytest.approx(
            tuple(place.voxelsize)[::-1][:1] + (header.spacing[0],) * 2
        )


@pytest.mark.real_data
def test_a_real_file_tells_its_sequence(phantoms: dict[str, Path]) -> None:
    (scan,) = read(phantoms["gre"])
    header = scan.header
    assert (header.crop, header.spacing, header.protocol) == ((160, 160), (1.25, 1.25, 4), "gre")
    assert (header.repetition_time, header.echo_time, header.flip_angle) == (10, 3, 15)
    assert header.field_strength == pytest.approx(2.89362)
    assert scan.subject == "gre_2ch_phantom"


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:.*without navigators")
def test_read_outs_of_a_real_file_are_told_apart_by_their_flags(
    phantoms: dict[str, Path], tmp_path: Path
) -> None:
    (real,) = twixtools.read_twix(str(phantoms["gre"]), verbose=False, parse_pmu=False)
    (before,) = read(phantoms["gre"])
    blocks = [one.convert_to_local() for one in real["mdb"]]
    for number, one in enumerate(blocks):
        if number % 2:
            one.add_flag("REFLECT")
            one.data = one.data[:, ::-1]
    # Lines at the edge of k-space are noise alone; the next are calibration lines.
    for one in (blocks[0], blocks[159]):
        one.add_flag("NOISEADJSCAN")
    for one in blocks[70:90]:
        one.add_flag("PATREFSCAN")
        one.add_flag("PATREFANDIMASCAN")
    (after,) = read(write(tmp_path / "a.dat", ("gre", real["hdr_str"].tobytes(), blocks)))
    assert torch.equal(after.kspace[:, 1:159], before.kspace[:, 1:159])
    assert not after.measured[[0, 159]].any()
    assert after.noise_cov is not None
    assert before.noise_cov is None
    images = [ifft2c(scan.kspace) for scan in (after, before)]
    error = torch.linalg.vector_norm(images[0] - images[1]) / torch.linalg.vector_norm(images[1])
    assert error < 0.1
    assert after.header == before.header
