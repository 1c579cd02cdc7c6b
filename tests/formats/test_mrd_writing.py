"""What is written is read back, by noref, by the format's own package and by its own tools."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd_files import ismrmrd, kspace

from noref import formats
from noref.coils.whitening import noise_covariance
from noref.errors import NorefError
from noref.formats import mrd_writing
from noref.formats.base import pseudonym
from noref.formats.mrd_header import EncodingSpace, Limits, MrdHeader, Space, build, parse
from noref.physics import ifft2c
from noref.scan import Header, Scan

needs_tools = pytest.mark.skipif(
    shutil.which("ismrmrd_recon_cartesian_2d") is None, reason="ismrmrd-tools are not installed"
)
PLACED = Header(
    crop=(7, 5),
    spacing=(1.5, 2.0, 4.0),
    position=(1.0, -2.0, 3.5),
    directions=((0.0, 0.6, 0.8), (1.0, 0.0, 0.0), (0.0, 0.8, -0.6)),
    protocol="T2 <fast> ü",
    acceleration=2.0,
)


WHO = pseudonym("P1")
"""What stands for the patient whose scans are written."""


def scan(coils: int, ky: int, kx: int, seed: int = 0, lines: torch.Tensor | None = None) -> Scan:
    measured = torch.ones(ky, kx, dtype=torch.bool)
    if lines is not None:
        measured &= lines[:, None]
    values = torch.from_numpy(kspace(coils, ky, kx, seed=seed)) * measured
    return Scan(f"P1/a/{seed:03d}", values, measured, measured)


def back(path: Path, *scans: Scan) -> list[Scan]:
    mrd_writing.write(path, scans)
    return list(formats.read(path))


@settings(deadline=None, max_examples=15)
@given(
    coils=st.integers(1, 4),
    ky=st.integers(6, 12),
    kx=st.integers(4, 12),
    slices=st.integers(1, 3),
    seed=st.integers(0, 99),
    echo=st.integers(0, 2),
    padded=st.integers(0, 1),
    calibration=st.booleans(),
    noise=st.booleans(),
)
def test_reading_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    coils: int,
    ky: int,
    kx: int,
    slices: int,
    seed: int,
    echo: int,
    padded: int,
    calibration: bool,
    noise: bool,
) -> None:
    rng = np.random.default_rng(seed)
    lines = torch.from_numpy(rng.random(ky) < 0.6)
    lines[ky // 2] = True
    padding = torch.zeros(ky, kx, dtype=torch.bool)
    if padded:
        # On both sides of the centre, as the first line of an even matrix has no partner.
        padding[: 1 + (ky % 2 == 0)] = padding[-1] = True
        lines &= ~padding[:, 0]
    whole = [scan(coils, ky, kx, seed=i, lines=lines) for i in range(slices)]
    measured = whole[0].measured.clone()
    measured[:, :echo] = False
    written = [
        replace(
            one.undersampled(measured),
            padding=padding if padded else None,
            calibration=torch.from_numpy(kspace(coils, 3, 4, seed=i + 50)) if calibration else None,
            noise_cov=noise_covariance(torch.from_numpy(kspace(coils, 50))) if noise else None,
            header=Header(crop=(ky - 1, kx - 2), spacing=(1.5, 2.0, 4.0), thickness=4.0),
        )
        for i, one in enumerate(whole)
    ]
    path = tmp_path_factory.mktemp("mrd") / "a.h5"
    read = back(path, *(one.scaled(0.5 - 2j) for one in written))
    assert [one.id for one in read] == [f"{WHO}/a/{i:03d}" for i in range(slices)]
    for mine, one in zip(read, written, strict=True):
        torch.testing.assert_close(mine.kspace, one.kspace)
        for name in ("measured", "mask", "padding"):
            assert (getattr(mine, name) is None) == (getattr(one, name) is None), name
            assert getattr(one, name) is None or torch.equal(getattr(mine, name), getattr(one, name)), name
        for name in ("calibration", "noise_cov"):
            assert (getattr(mine, name) is None) == (getattr(one, name) is None), name
            if getattr(one, name) is not None:
                torch.testing.assert_close(getattr(mine, name), getattr(one, name), rtol=1e-4, atol=1e-5)
        assert mine.header == one.header


def test_geometry_and_repetitions_are_kept(tmp_path: Path) -> None:
    places = [(1.0, -2.0, 3.5), (5.0, -2.0, 3.5)]
    written = [
        replace(scan(2, 8, 10, seed=s), id=f"P1/{name}/{s:03d}", header=replace(PLACED, position=places[s]))
        for name in ("first", "second")
        for s in range(2)
    ]
    read = back(tmp_path / "a.mrd", *written)
    assert [one.id for one in read] == [f"{WHO}/a.repetition{r}/00{s}" for r in range(2) for s in range(2)]
    for index, (mine, one) in enumerate(zip(read, written, strict=True)):
        repetition = index // 2
        assert torch.equal(mine.kspace, one.kspace)
        assert mine.header.position == pytest.approx(one.header.position)
        assert mine.header.directions is not None
        assert one.header.directions is not None
        np.testing.assert_allclose(mine.header.directions, one.header.directions, atol=1e-6)
        frame = {"repetition": repetition, "frame": (repetition, 2), "frame_part": f"repetition{repetition}"}
        assert replace(mine.header, position=None, directions=None) == replace(
            one.header, position=None, directions=None, thickness=4.0, **frame
        )


def test_what_lies_between_slices_is_no_thickness(tmp_path: Path) -> None:
    (read,) = back(tmp_path / "a.mrd", replace(scan(2, 8, 10), header=replace(PLACED, thickness=3.0)))
    assert read.header.thickness == 3


def test_trajectories_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    trajectory = torch.from_numpy(rng.uniform(-8, 8, size=(6, 20, 2)).astype(np.float32))
    written = replace(
        scan(2, 6, 20), trajectory=trajectory, header=Header(matrix=(16, 18), spacing=(2, 3, 4))
    )
    (read,) = back(tmp_path / "a.mrd", written)
    assert read.trajectory is not None
    torch.testing.assert_close(read.trajectory, trajectory, rtol=1e-5, atol=1e-5)
    assert torch.equal(read.kspace, written.kspace)
    assert (read.header.matrix, read.header.spacing, read.padding) == ((16, 18), (2, 3, 4), None)


def test_headers_are_read_back_and_fit_the_schema() -> None:
    space = Space((12, 8, 1), (24.0, 16.0, 5.0))
    encoding = EncodingSpace(space, Space((6, 8, 1)), Limits(1, 6, 4), "radial", "separate", 3.0)
    volume = EncodingSpace(space, space, None, "epi", "other", partitions=Limits(0, 9, 5), across=2.0)
    header = MrdHeader([encoding, volume], "P<1>", "T2 & ü", 0.8)
    header = replace(
        header,
        vendor="GE",
        field_strength=2.89,
        repetition_time=500.0,
        echo_times=(12.5, 25.0),
        flip_angle=90.0,
    )
    text = build(header, 5)
    assert parse(text) == replace(header, subject=pseudonym("P<1>"))
    checked = ismrmrd.xsd.CreateFromDocument(text)
    assert checked.encoding[0].encodingLimits.kspace_encoding_step_1.center == 4
    assert checked.encoding[1].encodingLimits.kspace_encoding_step_2.maximum == 9
    assert checked.acquisitionSystemInformation.receiverChannels == 5


def test_the_formats_own_package_reads_it(tmp_path: Path) -> None:
    written = replace(scan(3, 8, 10), noise_cov=torch.eye(3) + 0j)
    mrd_writing.write(tmp_path / "a.h5", [written])
    with ismrmrd.Dataset(str(tmp_path / "a.h5"), mode="r") as file:
        assert file.number_of_acquisitions() == 9
        noise, first, last = (file.read_acquisition(i) for i in (0, 1, 8))
    assert noise.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    np.testing.assert_allclose(
        noise.data @ noise.data.conj().T / noise.number_of_samples, np.eye(3), atol=1e-5
    )
    np.testing.assert_array_equal(first.data, written.kspace[:, 0])
    assert first.is_flag_set(ismrmrd.ACQ_FIRST_IN_SLICE)
    assert last.is_flag_set(ismrmrd.ACQ_LAST_IN_SLICE)
    assert last.is_flag_set(ismrmrd.ACQ_LAST_IN_MEASUREMENT)
    assert (last.idx.kspace_encode_step_1, last.center_sample) == (7, 5)


@needs_tools
def test_the_formats_own_tool_reconstructs_it(tmp_path: Path) -> None:
    written = replace(scan(3, 8, 12), header=Header(crop=(8, 6)))
    mrd_writing.write(tmp_path / "a.h5", [written])
    subprocess.run(["ismrmrd_recon_cartesian_2d", "a.h5"], cwd=tmp_path, check=True, capture_output=True)
    with h5py.File(tmp_path / "a.h5") as file:
        theirs = file["dataset/cpp/data"][()].squeeze()
    mine = ifft2c(written.kspace)[..., 3:9].abs().square().sum(0).sqrt().numpy()
    np.testing.assert_allclose(theirs / theirs.max(), mine / mine.max(), rtol=1e-4)


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("name", ["a.mrd", "a.mrd.h5"])
def test_the_formats_own_package_reads_images(tmp_path: Path, complex_: bool, name: str) -> None:
    images = kspace(3, 8, 6)
    values = images if complex_ else np.abs(images)
    formats.write(tmp_path / name, values, replace(PLACED, crop=None))
    with ismrmrd.Dataset(str(tmp_path / name), mode="r") as file:
        assert file.number_of_images("image_0") == 3
        for i in range(3):
            image = file.read_image("image_0", i)
            assert image.data.dtype == (np.complex64 if complex_ else np.float32)
            np.testing.assert_array_equal(image.data[0, 0], values[i])
            assert image.slice == i
            # 4 mm along the normal (0, 0.8, −0.6).
            np.testing.assert_allclose(image.position[:], (1, -2 + 3.2 * i, 3.5 - 2.4 * i), rtol=1e-5)
            np.testing.assert_allclose(image.phase_dir[:], (1, 0, 0))
            np.testing.assert_allclose(image.field_of_view[:], (12, 12, 4))
        assert ismrmrd.xsd.CreateFromDocument(file.read_xml_header()).encoding[0].reconSpace.matrixSize.x == 6
    with pytest.raises(NorefError, match="holds no image data"):
        formats.read(tmp_path / name)


def test_what_raw_data_cannot_hold_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    one = scan(2, 8, 10)
    points = torch.ones(8, 10, dtype=torch.bool)
    points[2, 4] = False
    cases: list[tuple[list[Scan], str]] = [
        ([], "there is no slice to write"),
        ([one.undersampled(points)], "was sampled in points"),
        ([one, scan(3, 8, 10, seed=1)], "differ in subject, matrix, coils or field of view"),
        ([replace(one, calibration=torch.zeros(2, 9, 10) + 0j)], "is larger than its k-space"),
        ([replace(one, trajectory=torch.zeros(8, 10, 2))], "but no matrix of the image in its header"),
    ]
    for scans, complaint in cases:
        with pytest.raises(NorefError, match=complaint) as caught:
            mrd_writing.write(path, scans)
        assert str(caught.value).startswith(str(path))
        assert not list(tmp_path.iterdir())


@pytest.mark.real_data
def test_a_head_goes_through_unchanged(real_data: Path, tmp_path: Path) -> None:
    path = next((real_data / "multicoil").glob("mchiew*"))
    raw = formats.read(path, axes="kx,ky,-,coils", key="raw")[0]
    (read,) = back(tmp_path / "head.mrd", raw)
    assert torch.equal(read.kspace, raw.kspace)
    assert torch.equal(read.mask, raw.mask)
