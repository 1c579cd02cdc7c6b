"""`noref inspect` says what is true of a file."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from command import done, noref, refused
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from noref import formats
from noref.cli.inspect import describe, describe_file, describe_noise, describe_sampling, inspect
from noref.data.noise import border_power, noise_level
from noref.errors import NorefError
from noref.formats import fastmri
from noref.physics import fft2c, ifft2c
from noref.scan import Header, Scan


def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(inspect)
    return made


def scan(sigma: float = 0.01, coils: int = 4, shape: tuple[int, int] = (64, 48)) -> Scan:
    """A smooth disc, whose k-space does not reach the corners, in noise."""
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    image = torch.exp(-6 * (y[:, None] ** 2 + x[None, :] ** 2))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(coils, *shape, dtype=torch.complex64, generator=generator)
    full = torch.ones(shape, dtype=torch.bool)
    return Scan("p/s/000", fft2c(image.to(torch.complex64)).expand_as(noise) + sigma * noise, full, full)


def lines(step: int, acs: int, shape: tuple[int, int] = (64, 48)) -> torch.Tensor:
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[::step] = True
    mask[shape[0] // 2 - acs // 2 : shape[0] // 2 + acs // 2] = True
    return mask


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("sigma", [1e-6, 0.1])
def test_the_noise_level_is_that_of_the_noise(step: int, sigma: float) -> None:
    level, region = noise_level(scan(sigma, shape=(256, 192)).undersampled(lines(step, 20, (256, 192))))
    assert region in ("corners", "air")
    assert level == pytest.approx(sigma, rel=0.1)


def test_the_noise_level_is_read_off_where_there_is_something_to_read() -> None:
    radius = [(torch.arange(n) - n // 2).abs() / (n / 2) for n in (64, 48)]
    ellipse = radius[0][:, None] ** 2 + radius[1][None, :] ** 2 <= 1
    assert border_power(scan(0.1).undersampled(ellipse))[1] == "border"
    level, _ = noise_level(scan(0.1).undersampled(ellipse))
    assert level == pytest.approx(0.1, rel=0.1)
    centre = (radius[0][:, None] < 0.5) & (radius[1][None, :] < 0.5)
    assert noise_level(scan().undersampled(centre))[0] is None
    assert describe_noise(scan().undersampled(centre)).startswith("not estimated")


def test_sampling_is_put_in_words() -> None:
    whole = scan()
    assert describe_sampling(whole) == "full"
    assert describe_sampling(whole.undersampled(lines(4, 8))) == "lines, R = 2.91, ACS 9 lines"
    echo = lines(4, 8)
    echo[:, :8] = False
    assert describe_sampling(whole.undersampled(echo)).startswith("lines, 40 of 48 samples of the read-out")
    echo = torch.arange(48).expand(64, 48) >= 8
    assert describe_sampling(whole.undersampled(echo)).startswith(
        "all lines, 40 of 48 samples of the read-out"
    )
    assert "swap ky and kx" in describe_sampling(whole.undersampled(lines(4, 8, (48, 64)).mT))
    points = torch.rand(64, 48, generator=torch.Generator().manual_seed(0)) < 0.3
    points[26:38, 19:29] = True
    described = describe_sampling(whole.undersampled(points))
    assert described.startswith("2-D, R = ")
    assert described.endswith("ACS 12 × 10")
    points[32, 24] = False
    assert describe_sampling(whole.undersampled(points)).endswith("no ACS")
    retrospective = replace(whole, mask=lines(4, 8))
    assert describe_sampling(retrospective).endswith("100% of k-space measured")


def test_padding_is_left_out_of_the_acceleration() -> None:
    padding = torch.zeros(64, 48, dtype=torch.bool)
    padding[:8] = padding[56:] = True
    padded = replace(scan().undersampled(~padding), padding=padding)
    assert describe_sampling(padded) == "full"
    assert describe(padded)["padding"].startswith("25.0%")
    assert "R = 2.00" in describe_sampling(padded.undersampled(lines(2, 0)))


def test_a_file_is_described_in_plain_lines_and_pictured(tmp_path: Path) -> None:
    header = Header(crop=(64, 24), spacing=(1.5, 1.5, 4), protocol="AX [T2]")
    slices = [
        replace(scan().undersampled(lines(4, 8)), id=f"p/s/{i:03d}", raw=False, header=header)
        for i in range(3)
    ]
    fastmri.write(tmp_path / "a.h5", slices)
    np.save(tmp_path / "b.npy", scan().kspace[0].numpy())
    names = [str(tmp_path / "a.h5"), str(tmp_path / "b.npy")]
    result = CliRunner().invoke(app(), [*names, "--picture", str(tmp_path / "p.png")])
    assert result.exit_code == 0, result.output
    told = result.output.splitlines()
    assert told[0] == names[0]
    assert told[1:3] == [
        "  format: fastMRI HDF5",
        "  slices: 3; what follows is about p/a/001",
    ]
    assert "  matrix: 64 × 48 (ky × kx)" in told
    assert "  coils: 4" in told
    assert "  raw: no, made from images" in told
    assert "  header: crop 64 × 24, spacing 1.5 × 1.5 × 4 mm, protocol AX [T2]" in told
    assert "  format: NumPy array" in told
    with Image.open(tmp_path / "p.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (128, 96)
    mask = lines(4, 8).numpy()
    np.testing.assert_array_equal(pixels[:64, 48:], mask * np.uint8(255))
    assert pixels[32, 24] > 250
    assert pixels[0, 0] < 60


def test_a_terminal_gets_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "b.npy", scan().kspace[0].numpy())
    module = sys.modules[inspect.__module__]  # the package's own `inspect` is the command
    monkeypatch.setattr(module, "Console", lambda **_: Console(force_terminal=True, width=200))
    result = CliRunner().invoke(app(), [str(tmp_path / "b.npy")])
    assert "│ matrix" in result.output


def test_references_and_maps_are_told(tmp_path: Path) -> None:
    whole = scan()
    fastmri.write(tmp_path / "a.h5", [replace(whole, clean=whole.kspace, maps=whole.kspace[None])])
    slices = formats.read(tmp_path / "a.h5")
    facts = describe_file(slices, 0) | describe(slices[0])
    assert facts["slices"] == "1"
    assert facts["reference"] == "noiseless k-space, RSS image"
    assert facts["coils"] == "4, with maps"
    assert facts["raw"] == "yes"
    assert facts["header"] == "none"


def test_bad_files_are_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app(), [str(tmp_path / "no.h5")])
    assert isinstance(result.exception, NorefError)


def test_of_a_folder_each_file_is_told_and_those_that_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    (folder / "deep").mkdir(parents=True)
    fastmri.write(folder / "a.h5", [scan().undersampled(lines(4, 8))])
    np.save(folder / "b.npy", scan().kspace.numpy())
    np.save(folder / "deep" / "c.npy", ifft2c(scan().kspace).numpy())
    (folder / "d.h5").touch()
    (folder / "notes.txt").write_text("no scan")
    arguments = [folder, "--axes", '{"b*": "coils,ky,kx", "c*": "coils,y,x"}', "--domain", '{"c*": image}']
    told = done("inspect", *arguments, "--picture", tmp_path / "p.png").out
    said = told.splitlines()
    assert [line for line in said if not line.startswith("  ")] == [
        f"{folder}/a.h5",
        f"{folder}/b.npy",
        f"refused: {folder}/d.h5: is empty; copy or export it again",
        f"{folder}/deep/c.npy",
        f"{folder}: 1 of 4 files refused; skip_bad=true leaves them out",
        f"picture: {tmp_path}/p.png",
    ]
    assert [line for line in said if "raw:" in line] == [
        "  raw: yes",
        "  raw: yes",
        "  raw: no, made from images",
    ]
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (96, 3 * 64)
    # Files that are named are meant: one that is bad ends the whole, as ever.
    assert refused("inspect", folder / "d.h5").endswith("d.h5: is empty; copy or export it again")


def test_noise_scans_in_a_folder_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", scan().kspace.numpy())
    noise = torch.randn(4, 64, 48, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "noise.npy", noise.numpy())
    options = ["--axes", "coils,ky,kx", "--noise", tmp_path / "noise.npy"]
    told = done("inspect", tmp_path, *options).out
    assert [line for line in told.splitlines() if not line.startswith("  ")] == [f"{tmp_path}/b.npy"]
    assert "from the noise scans" in told


def test_a_folder_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    assert "no scans there; noref reads" in refused("inspect", tmp_path)
    for name in ("a.h5", "b.h5"):
        (tmp_path / name).touch()
    result = noref("inspect", tmp_path)
    assert result.code == 2
    assert len(result.out.splitlines()) == 2
    assert result.err == (
        f"noref: {tmp_path}: none of the 2 files can be read; the first: {tmp_path}/a.h5: is empty; copy or "
        "export it again\n"
    )


def test_axes_are_for_the_files_that_need_them(tmp_path: Path) -> None:
    fastmri.write(tmp_path / "a.h5", [scan()])
    np.save(tmp_path / "b.npy", scan().kspace.numpy())
    told = done("inspect", tmp_path / "a.h5", tmp_path / "b.npy", "--axes", "coils,ky,kx").out
    assert told.count("matrix: 64 × 48") == 2
    assert "domain: input should be 'kspace' or 'image'" in refused(
        "inspect", tmp_path / "b.npy", "--domain", "images"
    )


def test_a_folder_of_dicom_images_is_one_file(tmp_path: Path) -> None:
    image = torch.rand(3, 32, 24, generator=torch.Generator().manual_seed(0))
    directions = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    header = Header(spacing=(1, 1, 3), position=(0, 0, 0), directions=directions)
    formats.write(tmp_path / "in" / "series.dcm", image, header)
    told = done("inspect", tmp_path / "in" / "series.dcm").out.splitlines()
    assert told[:2] == [f"{tmp_path}/in/series.dcm", "  format: DICOM"]
    assert told[2].startswith("  slices: 3;")
    assert done("inspect", tmp_path / "in").out.splitlines() == told


@pytest.mark.real_data
def test_real_folders_are_described(real_data: Path) -> None:
    told = done("inspect", real_data / "multicoil").out
    assert f"{real_data}/multicoil/bart_picsbrain_8ch_poisson_undersampled.hdr\n" in told
    assert f"refused: {real_data}/multicoil/loraks_mprage_4ch_full.mat: say with key which array" in told
    series = done("inspect", real_data / "prostate_dicom").out
    assert "slices: 19;" in series


@pytest.mark.real_data
def test_real_scans_are_described(real_data: Path) -> None:
    def facts(name: str, **options: str) -> dict[str, str]:
        return describe(formats.read(real_data / "multicoil" / name, **options)[0])

    poisson = facts("bart_picsbrain_8ch_poisson_undersampled.cfl")
    assert poisson["sampling"] == "2-D, R = 7.90, ACS 20 × 20"
    assert poisson["coils"] == "8"
    full = facts("mchiew_brain_16ch_full_96.mat", axes="kx,ky,-,coils")
    assert full["sampling"] == "full"
    assert full["noise"].startswith("σ = ")
    halved = facts("xingkong_phantom_16ch_R2.mat", axes="kx,ky,coils")
    assert halved["sampling"].startswith("lines, 59 of 64 samples of the read-out, R = 2.24")
    retrospective = facts(
        "loraks_mprage_4ch_full.mat", axes="ky,kx,coils", key="kData", mask_key="kMaskPFACS7"
    )
    assert "100% of k-space measured" in retrospective["sampling"]
