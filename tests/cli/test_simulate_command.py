from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from noref import formats
from noref.cli.simulate import default_acs, simulate
from noref.errors import NorefError

app = typer.Typer()
app.command()(simulate)
SMALL = ["--scans", "2", "--slices", "3", "--coils", "4", "--matrix", "48"]


def run(*arguments: str) -> None:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception


def test_full_scans_come_with_their_clean_kspace_and_rss(tmp_path: Path) -> None:
    run(str(tmp_path / "out"), "--anatomy", "prostate", *SMALL)
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == ["prostate-0001.h5", "prostate-0002.h5"]
    slices = formats.read(files[1])
    assert len(slices) == 3
    scan = slices[2]
    assert scan.id == "prostate-0002/prostate-0002/002"
    assert scan.kspace.shape == (4, 48, 48)
    assert bool(scan.mask.all())
    assert scan.clean is not None
    assert scan.rss is not None
    assert not scan.raw
    assert scan.header.spacing == pytest.approx((380 / 48, 380 / 48, 9.5))


@pytest.mark.parametrize(
    "mask",
    ["lines", "gaussian1d", "random2d", "gaussian2d", "poisson", "poisson-elliptical", "pseudo-spiral"],
)
def test_accelerated_scans_come_without_reference_and_with_the_same_samples(
    tmp_path: Path, mask: str
) -> None:
    run(str(tmp_path / "full"), *SMALL)
    run(str(tmp_path / "fast"), *SMALL, "--acceleration", "2", "--mask", mask)
    full = formats.read(tmp_path / "full" / "brain-0002.h5")[1]
    fast = formats.read(tmp_path / "fast" / "brain-0002.h5")[1]
    assert fast.clean is None
    assert fast.rss is None
    assert fast.acceleration == pytest.approx(2)
    torch.testing.assert_close(fast.kspace, full.kspace * fast.mask, rtol=0, atol=0)


def test_partial_fourier_leaves_out_the_first_lines(tmp_path: Path) -> None:
    fast = ["--acceleration", "2", "--acs", "12", "--partial-fourier", "0.75"]
    run(str(tmp_path / "out"), *SMALL, *fast, "--mask", "equispaced")
    masks = torch.stack([scan.mask for scan in formats.read(tmp_path / "out" / "brain-0001.h5")])
    assert not bool(masks[:, :12].any())
    assert bool(masks[:, 12:].any(0).any(-1)[:4].any())
    assert masks.numel() / int(masks.sum()) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("mask", ["regular", "magic", "caipi"])
def test_masks_of_a_spacing_are_acquired_and_a_part_of_it_is_refused(tmp_path: Path, mask: str) -> None:
    run(str(tmp_path / "out"), *SMALL, "--acceleration", "4", "--acs", "0", "--mask", mask)
    assert formats.read(tmp_path / "out" / "brain-0001.h5")[0].acceleration == pytest.approx(4, rel=0.1)
    with pytest.raises(NorefError, match=f"mask {mask}: acceleration 2.5 is its spacing"):
        run(str(tmp_path / "other"), *SMALL, "--acceleration", "2.5", "--mask", mask)
    assert not list(tmp_path.glob("other/*"))


def test_the_seed_decides_on_everything(tmp_path: Path) -> None:
    first = ["--scans", "1", "--slices", "1", "--matrix", "32", "--coils", "2"]
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        run(str(tmp_path / name), *first, "--seed", seed)
    a, b, c = (formats.read(tmp_path / name / "brain-0001.h5")[0].kspace for name in "abc")
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(a, c)


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NorefError, match="already holds files"):
        run(str(tmp_path), *SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_calibration_shrinks_with_acceleration_but_suffices_for_maps() -> None:
    assert [default_acs(320, r) for r in (2, 4, 8, 16)] == [26, 26, 13, 12]
