"""fastMRI files: the layout as published, and the round trip of what noref writes."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from noref import formats
from noref.errors import NorefError
from noref.formats import fastmri, ismrmrd_header
from noref.formats.base import pseudonym
from noref.physics import crop_centre, ifft2c
from noref.scan import Header, Role, Scan

# What the published files hold, cut down to what matters and with the fields in another order.
HEADER = b"""<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD" xmlns:xs="http://www.w3.org/2001/XMLSchema">
 <measurementInformation><protocolName>T2 &amp; rest</protocolName></measurementInformation>
 <encoding>
  <encodedSpace><matrixSize><x>20</x><y>14</y><z>1</z></matrixSize></encodedSpace>
  <reconSpace>
   <matrixSize><x>10</x><y>16</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>220</x><y>320</y><z>4.5</z></fieldOfView_mm>
  </reconSpace>
  <encodingLimits><kspace_encoding_step_1>
   <minimum>0</minimum><maximum>10</maximum><center>5</center>
  </kspace_encoding_step_1></encodingLimits>
 </encoding>
</ismrmrdHeader>"""


WHO = pseudonym("patient 7")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def published(path: Path, kspace: np.ndarray, **datasets: object) -> Path:
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        for name, value in datasets.items():
            file[name] = value
    return path


def test_a_published_file_is_read_with_its_readout_last_its_padding_and_its_crop(tmp_path: Path) -> None:
    kspace = noise(3, 4, 20, 14)
    kspace[..., :2] = 0
    kspace[..., 13:] = 0
    rss = np.random.default_rng(1).random((3, 10, 14), np.float32)
    path = published(tmp_path / "file1.h5", kspace, ismrmrd_header=HEADER, reconstruction_rss=rss)
    with h5py.File(path, "a") as file:
        file.attrs["patient_id"] = "abc"
        file.attrs["acquisition"] = "AXT2"
    slices = formats.read(path, role=Role.PROXY)
    assert slices.format == "fastMRI HDF5"
    who = pseudonym("abc")
    assert slices.ids == tuple(f"{who}/file1/00{i}" for i in range(3))
    scan = slices[1]
    assert scan.id == f"{who}/file1/001"
    assert scan.role is Role.PROXY
    assert torch.equal(scan.kspace, torch.from_numpy(kspace[1].transpose(0, 2, 1).copy()))
    # left = 14 // 2 - 5 = 2, right = 2 + 10 + 1 = 13
    assert scan.padding is not None
    assert scan.padding[:, 0].nonzero().flatten().tolist() == [0, 1, 13]
    assert torch.equal(scan.mask, ~scan.padding)
    assert torch.equal(scan.measured, scan.mask)
    assert scan.acceleration == 1
    # The recon matrix is 16 phase-encode lines of which only 14 exist.
    assert scan.header == Header(crop=(14, 10), spacing=(20, 22, 4.5), protocol="AXT2")
    assert scan.rss is not None
    assert torch.equal(scan.rss, torch.from_numpy(rss[1].T.copy()))
    assert slices[-1].id == slices[2].id
    assert [s.id for s in slices[1:]] == list(slices.ids[1:])
    with pytest.raises(IndexError):
        slices[3]


def test_a_mask_counts_neither_padding_nor_what_it_leaves_out(tmp_path: Path) -> None:
    kspace = noise(2, 4, 20, 14)
    mask = np.zeros(14, bool)
    mask[[0, 2, 4, 6, 7, 8, 12, 13]] = True
    kspace[..., ~mask] = 0
    kspace[..., [0, 1, 13]] = 0
    scan = formats.read(published(tmp_path / "x.h5", kspace, ismrmrd_header=HEADER, mask=mask))[0]
    assert scan.mask.all(1).nonzero().flatten().tolist() == [2, 4, 6, 7, 8, 12]
    assert scan.acceleration == pytest.approx(11 / 6)


def test_single_coil_files_have_no_coil_axis_and_the_stem_stands_in_for_the_patient(tmp_path: Path) -> None:
    kspace = noise(2, 9, 7)
    slices = formats.read(published(tmp_path / "s.h5", kspace, reconstruction_esc=np.ones((2, 9, 7))))
    scan = slices[0]
    assert scan.id == "s/s/000"
    assert scan.kspace.shape == (1, 7, 9)
    assert scan.padding is None
    assert scan.rss is not None
    assert scan.header == Header()


@pytest.mark.parametrize("names", [("r", "i"), ("real", "imag"), None])
@pytest.mark.parametrize("width", ["f4", "f8"])
def test_any_way_to_write_complex_numbers_is_read(
    tmp_path: Path, names: tuple[str, str] | None, width: str
) -> None:
    kspace = noise(1, 2, 6, 5)
    stored = kspace.astype("c8" if width == "f4" else "c16")
    if names is not None:
        stored = np.empty(kspace.shape, [(name, width) for name in names])
        stored[names[0]], stored[names[1]] = kspace.real, kspace.imag
    scan = formats.read(published(tmp_path / "x.h5", stored))[0]
    assert torch.equal(scan.kspace, torch.from_numpy(kspace[0].transpose(0, 2, 1).copy()))


def test_without_a_mask_zeros_tell_what_was_measured(tmp_path: Path) -> None:
    lines = noise(1, 2, 8, 10)
    lines[..., 1::2] = 0
    points = noise(1, 2, 8, 10)
    keep = np.random.default_rng(0).random((8, 10)) < 0.5
    points[..., ~keep] = 0
    stray = noise(1, 2, 40, 30)
    stray[..., 7, 9] = 0
    read = [
        formats.read(published(tmp_path / f"{i}.h5", k))[0].mask for i, k in enumerate((lines, points, stray))
    ]
    assert torch.equal(read[0], (torch.arange(10) % 2 == 0)[:, None].expand(10, 8))
    assert torch.equal(read[1], torch.from_numpy(keep.T.copy()))
    assert read[2].all()


def test_padding_that_holds_data_is_not_believed(tmp_path: Path) -> None:
    scan = formats.read(published(tmp_path / "x.h5", noise(1, 2, 20, 14), ismrmrd_header=HEADER))[0]
    assert scan.padding is None
    assert scan.mask.all()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"no xml",
        b"<a/>",
        HEADER[:200],
        HEADER.replace(b"<y>14</y>", b""),
        HEADER.replace(b"<y>14</y>", b"<y>28</y>"),
        HEADER.replace(b"<maximum>10", b"<maximum>?"),
        HEADER.replace(b"<maximum>10", b"<maximum>nan"),
        HEADER.replace(b"<maximum>10", b"<maximum>4"),
        HEADER.replace(b"<center>5", b"<center>-5"),
    ],
)
def test_headers_with_anything_missing_or_absurd_are_read(header: bytes) -> None:
    assert ismrmrd_header.parse(header, (14, 20)).sampled_lines == (0, 14)
    assert ismrmrd_header.parse(HEADER, (14, 20)).sampled_lines == (2, 13)


def test_written_headers_satisfy_the_schema() -> None:
    geometry = ismrmrd_header.Geometry(
        (2, 13), (12, 10), (1.5, 0.5, 4), "a < b", 2.0, 500.0, 12.5, None, 90.0, 1.5
    )
    text = ismrmrd_header.build((14, 20), geometry)
    parsed = ismrmrd.xsd.CreateFromDocument(text).encoding[0]
    assert (parsed.encodedSpace.matrixSize.x, parsed.encodedSpace.matrixSize.y) == (20, 14)
    assert parsed.reconSpace.fieldOfView_mm.y == 18
    assert ismrmrd_header.parse(text, (14, 20)) == geometry


def assert_same(read: Scan, written: Scan) -> None:
    for f in fields(Scan):
        a, b = getattr(read, f.name), getattr(written, f.name)
        if isinstance(b, Tensor):
            assert a.dtype == b.dtype, f.name
            assert torch.equal(a, b), f.name
        else:
            assert a == b, f.name


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.integers(4, 17),
    readout=st.integers(4, 17),
    coils=st.integers(1, 3),
    slices=st.integers(1, 3),
    pattern=st.sampled_from(["full", "lines", "lines per slice", "2-D", "2-D per slice", "quiet"]),
    simulated=st.booleans(),
    padded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_reading_gives_back_what_was_written(
    tmp_path: Path,
    lines: int,
    readout: int,
    coils: int,
    slices: int,
    pattern: str,
    simulated: bool,
    padded: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    padding = torch.zeros(lines, readout, dtype=torch.bool)
    if padded:
        padding[0] = padding[lines - 1] = True
    header = Header(
        crop=(lines, readout - 1),
        spacing=(1.25, 0.5, 4.0),
        thickness=3.5,
        position=(1.0, -2.0, 3.0),
        directions=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
        protocol="PD & <fat>",
        repetition_time=2200.0,
        echo_time=27.5,
        flip_angle=150.0,
    )
    scans: list[Scan] = []
    for index in range(slices):
        shape = (lines, readout if "2-D" in pattern else 1)
        if not scans or "per slice" in pattern:
            drawn = torch.from_numpy(rng.random(shape) < 0.5).expand(lines, readout)
            drawn = torch.ones_like(padding) if pattern in ("full", "quiet") else drawn.clone()
            drawn[lines // 2, readout // 2 if "2-D" in pattern else slice(None)] = True
            if pattern not in ("full", "quiet"):
                drawn[1] = False
        mask = drawn & ~padding
        kspace = torch.from_numpy(noise(coils, lines, readout, seed=seed + index)) * mask
        if pattern == "quiet":  # fully sampled, with zeros that were measured
            kspace[:, 1:-1, ::2] = 0
            kspace[:, lines // 2, readout // 2] = 1
        maps = torch.from_numpy(noise(2, coils, lines, readout, seed=seed))
        rss = ifft2c(kspace).abs().square().sum(0).sqrt()
        scans.append(
            Scan(
                id=f"{WHO}/scan/{index:03d}",
                kspace=kspace,
                measured=mask,
                mask=mask,
                padding=padding if padded else None,
                maps=maps if simulated else None,
                clean=torch.from_numpy(noise(coils, lines, readout, seed=index)) if simulated else None,
                rss=crop_centre(rss, (lines, readout - 1)) if pattern in ("full", "quiet") else None,
                raw=not simulated,
                header=replace(header, position=(float(index), 0.5, 2.0)),
            )
        )
    path = tmp_path / "scan.h5"
    fastmri.write(path, scans)
    read = formats.read(path)
    assert len(read) == slices
    for a, b in zip(read, scans, strict=True):
        assert_same(a, b)


def test_masks_are_written_as_fastmri_reads_them_where_it_can(tmp_path: Path) -> None:
    mask = torch.zeros(10, 8, dtype=torch.bool)
    mask[::3] = True
    kspace = torch.from_numpy(noise(2, 10, 8)) * mask
    scan = Scan(id="a/b/000", kspace=kspace, measured=mask, mask=mask)
    fastmri.write(tmp_path / "b.h5", [scan, replace(scan, id="a/b/001")])
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["kspace"].shape == (2, 2, 8, 10)
        assert file["kspace"].dtype == np.complex64
        assert file["mask"][()].tolist() == mask[:, 0].tolist()
        assert file.attrs["acceleration"] == 2.5
        assert file.attrs["patient_id"] == "a"
        assert "reconstruction_rss" not in file


def test_fully_sampled_files_get_the_rss_that_fastmri_defines(tmp_path: Path) -> None:
    kspace = noise(2, 10, 8)
    full = torch.ones(10, 8, dtype=torch.bool)
    scan = Scan("a/b/000", torch.from_numpy(kspace), full, full, header=Header(crop=(6, 4)))
    fastmri.write(tmp_path / "b.h5", [scan])
    shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
    images = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))
    rss = np.sqrt((np.abs(images) ** 2).sum(0))[2:8, 2:6].T
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_allclose(file["reconstruction_rss"][0], rss, rtol=1e-5)
        assert "mask" not in file
        assert file.attrs["max"] == pytest.approx(rss.max(), rel=1e-5)
        assert file.attrs["norm"] == pytest.approx(np.linalg.norm(rss), rel=1e-5)


def test_a_scaled_scan_is_written_in_the_units_of_its_file(tmp_path: Path) -> None:
    full = torch.ones(6, 5, dtype=torch.bool)
    scan = Scan("a/b/000", torch.from_numpy(noise(2, 6, 5)), full, full)
    fastmri.write(tmp_path / "b.h5", [scan.scaled(3.0)])
    torch.testing.assert_close(formats.read(tmp_path / "b.h5")[0].kspace, scan.kspace)


def test_a_retrospective_target_keeps_what_was_measured_outside_its_mask(tmp_path: Path) -> None:
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[::2] = True
    full = torch.ones_like(mask)
    scan = Scan("a/b/000", torch.from_numpy(noise(2, 6, 5)), full, mask)
    fastmri.write(tmp_path / "b.h5", [scan])
    read = formats.read(tmp_path / "b.h5")[0]
    assert torch.equal(read.mask, mask)
    assert read.measured.all()


def test_slices_travel_in_pickles_and_leave_no_file_open(tmp_path: Path) -> None:
    path = published(tmp_path / "x.h5", noise(2, 2, 6, 5))
    slices = formats.read(path)
    first = slices[0]
    again = pickle.loads(pickle.dumps(slices))
    assert torch.equal(again[0].kspace, first.kspace)
    with h5py.File(path, "a") as file:  # would fail were it still open for reading
        file["more"] = 1


def test_slices_that_do_not_belong_together_are_not_written(tmp_path: Path) -> None:
    full = torch.ones(6, 5, dtype=torch.bool)
    scan = Scan("a/b/000", torch.from_numpy(noise(2, 6, 5)), full, full)
    with pytest.raises(NorefError, match="differ in subject"):
        fastmri.write(tmp_path / "b.h5", [scan, replace(scan, id="other/b/001")])
    with pytest.raises(NorefError, match="no slice"):
        fastmri.write(tmp_path / "b.h5", [])
    corner = torch.zeros_like(full)
    corner[0, 0] = True
    with pytest.raises(NorefError, match="padding other than whole lines"):
        fastmri.write(tmp_path / "b.h5", [replace(scan, padding=corner)])
    assert list(tmp_path.iterdir()) == []


def test_submissions_have_the_readout_first(tmp_path: Path) -> None:
    images = noise(3, 7, 5)
    fastmri.write_images(tmp_path / "r.h5", images)
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["reconstruction"].dtype == np.float32
        np.testing.assert_array_equal(file["reconstruction"][()], np.abs(images).transpose(0, 2, 1))


@pytest.mark.parametrize(
    "layout", [{"chunks": (1, 3, 8, 6)}, {"compression": "gzip"}, {"dtype": ">c8"}, {"dtype": np.complex128}]
)
def test_however_the_file_lays_it_out_kspace_is_the_same(tmp_path: Path, layout: dict[str, object]) -> None:
    kspace = noise(3, 3, 16, 12)
    for name, options in (("plain", {}), ("other", layout)):
        with h5py.File(tmp_path / f"{name}.h5", "w", userblock_size=512) as file:
            file.create_dataset("kspace", data=kspace, **options)
    for index in range(3):
        one, other = (formats.read(tmp_path / f"{name}.h5")[index].kspace for name in ("plain", "other"))
        assert torch.equal(one, torch.from_numpy(kspace[index].swapaxes(-1, -2)))
        assert torch.equal(one, other)


def test_a_sum_too_large_to_be_finite_says_nothing_of_its_values(tmp_path: Path) -> None:
    kspace = np.full((1, 2, 16, 12), 1e38, np.complex64)
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file["kspace"] = kspace
    assert bool(torch.isfinite(torch.view_as_real(formats.read(tmp_path / "large.h5")[0].kspace)).all())
    kspace[0, 1, 3, 4] = np.nan
    with h5py.File(tmp_path / "nan.h5", "w") as file:
        file["kspace"] = kspace
    with pytest.raises(NorefError, match="NaN or infinity"):
        formats.read(tmp_path / "nan.h5")[0]
