"""Lines that parallel imaging computed do not count as measured, unless they are to be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import mrd_files
import numpy as np
import pytest
import torch
import twix_files
from hypothesis import given
from hypothesis import strategies as st
from mrd_files import kspace, readout, xml
from scipy.io import loadmat
from torch import Tensor

from noref import formats
from noref.formats import fastmri
from noref.formats.filled import CALIBRATION_LINES, acquired_lines, offset_of
from noref.scan import Header, Scan

SHAPE = (64, 12)


def full(ky: int = SHAPE[0]) -> Tensor:
    return torch.ones(ky, SHAPE[1], dtype=torch.bool)


def expected(ky: int, factor: int, calibration: int) -> set[int]:
    centre = ky // 2
    own = range(centre - calibration // 2, centre - calibration // 2 + calibration)
    return {line for line in range(ky) if (line - centre) % factor == 0 or line in own}


@given(ky=st.integers(4, 80), factor=st.integers(2, 6), calibration=st.integers(0, 30))
def test_acquired_is_every_rth_line_from_the_centre_and_the_calibration(
    ky: int, factor: int, calibration: int
) -> None:
    lines = acquired_lines(full(ky), factor, calibration)
    assert lines is not None
    assert set(lines.nonzero().flatten().tolist()) == expected(ky, factor, calibration)
    assert lines[ky // 2]


def test_calibration_lines_may_be_told_one_by_one() -> None:
    calibration = torch.zeros(64, dtype=torch.bool)
    calibration[[3, 5]] = True
    lines = acquired_lines(full(), 4, calibration)
    assert lines is not None
    assert set(lines.nonzero().flatten().tolist()) == expected(64, 4, 0) | {3, 5}


def with_gap() -> Tensor:
    measured = full()
    measured[5] = False
    return measured


def few() -> Tensor:
    measured = torch.zeros_like(full())
    measured[20:44] = True
    return measured


@pytest.mark.parametrize(
    ("measured", "acceleration"),
    [
        (full(), 1.0),
        (full(), 0.0),
        (full(), 1.5),
        (with_gap(), 2.0),
        (few(), 2.0),
        (torch.zeros_like(full()), 2.0),
    ],
    ids=["R = 1", "no R", "R = 1.5", "an empty line", "the centre alone", "nothing"],
)
def test_nothing_was_filled_in(measured: Tensor, acceleration: float) -> None:
    assert acquired_lines(measured, acceleration) is None


def test_lines_that_partial_fourier_left_out_are_no_gap() -> None:
    measured = full()
    measured[:16] = False
    lines = acquired_lines(measured, 2, 8)
    assert lines is not None
    assert set(lines.nonzero().flatten().tolist()) == {line for line in expected(64, 2, 8) if line >= 16}


def computed(factor: int, offset: int, coils: int = 4, shape: tuple[int, int] = (96, 64)) -> Tensor:
    """Noise of which all lines but every R-th are sums of the lines, coils and samples beside them."""
    ky, kx = shape
    values = torch.from_numpy(kspace(coils, ky, kx, seed=factor))
    filled = values.clone()
    generator = torch.Generator().manual_seed(offset)
    for step in range(1, factor):
        weights = torch.randn(coils, 2, coils, 3, generator=generator, dtype=torch.complex64) / coils**0.5
        for line in range(step, ky - factor + step):
            if (line - ky // 2 - offset - step) % factor == 0:
                beside = values[:, [line - step, line + factor - step]]
                windows = torch.nn.functional.pad(beside, (1, 1)).unfold(-1, 3, 1)
                filled[:, line] = torch.einsum("dlck,clxk->dx", weights, windows)
    return filled


@pytest.mark.parametrize(("factor", "offset"), [(r, o) for r in (2, 3, 4) for o in range(r)])
def test_k_space_tells_which_lines_were_acquired(factor: int, offset: int) -> None:
    assert offset_of(computed(factor, offset), factor) == offset


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("coils", [1, 4])
def test_where_k_space_does_not_tell_the_centre_was_acquired(factor: int, coils: int) -> None:
    values = torch.from_numpy(kspace(coils, 96, 64))
    assert offset_of(values, factor) == 0
    assert offset_of(computed(factor, 1, 1), factor) == 0
    assert offset_of(torch.zeros(coils, 96, 64, dtype=torch.complex64), factor) == 0
    assert offset_of(values[:, :26, :4], factor) == 0


def grappa(values: Tensor, factor: int, offset: int, calibration: int) -> Tensor:
    """Every R-th line and the calibration lines; the others by weights that these give, 2 × 5 neighbours."""
    ky = values.shape[-2]
    from_centre = torch.arange(ky) - ky // 2
    acs = ((from_centre >= -(calibration // 2)) & (from_centre < calibration // 2)).nonzero().flatten()
    windows = torch.nn.functional.pad(values, (2, 2)).unfold(-1, 5, 1)
    filled = values.clone()

    def beside(lines: Tensor, step: int) -> Tensor:
        pair = torch.cat([windows[:, lines - step], windows[:, lines + factor - step]])
        return pair.permute(1, 2, 0, 3).flatten(2)

    for step in range(1, factor):
        known = acs[step : len(acs) - factor + step]
        missing = torch.arange(step, ky - factor + step)
        missing = missing[(missing - ky // 2 - offset - step) % factor == 0]
        missing = missing[(missing < acs[0]) | (missing > acs[-1])]
        sources, targets = beside(known, step).flatten(0, 1), values[:, known].flatten(1).T
        weights = torch.linalg.lstsq(sources, targets).solution
        filled[:, missing] = (beside(missing, step) @ weights).permute(2, 0, 1)
    return filled


@pytest.mark.real_data
@pytest.mark.parametrize(("factor", "offset"), [(2, 0), (2, 1), (3, 1), (3, 2), (4, 3)])
def test_a_real_head_tells_which_lines_grappa_computed(real_data: Path, factor: int, offset: int) -> None:
    raw = loadmat(real_data / "multicoil" / "loraks_mprage_4ch_full.mat")["kData"]
    values = torch.from_numpy(np.moveaxis(raw, -1, 0).astype(np.complex64))
    assert offset_of(grappa(values, factor, offset, 24), factor) == offset
    assert offset_of(values, factor) == 0


@pytest.mark.real_data
def test_a_real_head_in_a_file_is_left_with_the_lines_that_were_acquired(
    real_data: Path, tmp_path: Path
) -> None:
    raw = loadmat(real_data / "multicoil" / "loraks_mprage_4ch_full.mat")["kData"]
    values = torch.from_numpy(np.moveaxis(raw, -1, 0).astype(np.complex64))
    filled = grappa(values, 2, 1, 24)
    everything = torch.ones(filled.shape[1:], dtype=torch.bool)
    header = Header(acceleration=2.0)
    fastmri.write(tmp_path / "a.h5", [Scan("a/a/000", filled, everything, everything, header=header)])
    (scan,) = formats.read(tmp_path / "a.h5")
    kept = {line for line in range(256) if line % 2 or 116 <= line < 140}
    assert set(scan.mask.any(-1).nonzero().flatten().tolist()) == kept
    # What is left is what was measured.
    assert torch.equal(scan.kspace[:, sorted(kept)], values[:, sorted(kept)])


def fastmri_file(folder: Path, acceleration: float = 2.0, **changes: object) -> Path:
    values = torch.from_numpy(kspace(2, *SHAPE))
    scan = Scan("a/a/000", values, full(), full(), header=Header(acceleration=acceleration))
    fastmri.write(folder / "a.h5", [replace(scan, **changes)])
    return folder / "a.h5"


def check(scan: Scan, lines: set[int], values: Tensor) -> None:
    """That a scan holds some lines and nothing else."""
    measured = torch.zeros_like(scan.measured)
    measured[sorted(lines)] = True
    assert torch.equal(scan.measured, measured)
    assert torch.equal(scan.mask, measured)
    assert torch.equal(scan.kspace, torch.where(measured, values, 0))
    assert scan.header.filled_lines == len(measured) - len(lines)


def test_fastmri_files_are_judged_by_their_header(tmp_path: Path) -> None:
    path, values = fastmri_file(tmp_path), torch.from_numpy(kspace(2, *SHAPE))
    check(formats.read(path)[0], expected(64, 2, CALIBRATION_LINES), values)
    (believed,) = formats.read(path, acquired="all")
    assert torch.equal(believed.kspace, values)
    assert believed.mask.all()
    assert believed.header.filled_lines == 0


def test_a_header_that_tells_the_calibration_lines(tmp_path: Path) -> None:
    path, values = fastmri_file(tmp_path), torch.from_numpy(kspace(2, *SHAPE))
    with h5py.File(path, "a") as file:
        text = file["ismrmrd_header"][()].decode()
        more = (
            "<userParameters><userParameterLong><name>EmbeddedRefLinesE1</name><value>8</value>"
            "</userParameterLong></userParameters></ismrmrdHeader>"
        )
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = text.replace("</ismrmrdHeader>", more)
    check(formats.read(path)[0], expected(64, 2, 8), values)


def test_a_mask_in_a_fastmri_file_tells_better_than_its_header(tmp_path: Path) -> None:
    mask = torch.zeros_like(full())
    mask[::4] = True
    (scan,) = formats.read(fastmri_file(tmp_path, mask=mask))
    assert torch.equal(scan.mask, mask)
    assert scan.measured.all()
    assert scan.header.filled_lines == 0


def space(factor: int, calibration: str = "") -> str:
    ky, kx = SHAPE
    told = mrd_files.space((kx, ky, 1), limits=(0, ky - 1, ky // 2))
    mode = f"<calibrationMode>{calibration}</calibrationMode>" if calibration else ""
    return told.replace(
        "</encoding>",
        f"<parallelImaging><accelerationFactor><kspace_encoding_step_1>{factor}</kspace_encoding_step_1>"
        f"<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>{mode}</parallelImaging>"
        "</encoding>",
    )


VALUES = kspace(2, *SHAPE)
SEPARATE = kspace(2, 16, SHAPE[1], seed=3)


def flagged() -> list[mrd_files.ismrmrd.Acquisition]:
    return [
        readout(
            VALUES[:, row],
            *[mrd_files.CALIBRATION_AND_IMAGING] * (28 <= row < 36),
            kspace_encode_step_1=row,
        )
        for row in range(SHAPE[0])
    ]


def beside() -> list[mrd_files.ismrmrd.Acquisition]:
    own = [
        readout(SEPARATE[:, i], mrd_files.CALIBRATION, kspace_encode_step_1=24 + i)
        for i in range(SEPARATE.shape[1])
    ]
    return [*own, *mrd_files.lines(VALUES)]


@pytest.mark.parametrize(
    ("made", "mode", "calibration"),
    [
        (lambda: mrd_files.lines(VALUES), "", CALIBRATION_LINES),
        (flagged, "embedded", 8),
        (beside, "separate", 0),
    ],
    ids=["not told", "flagged", "separate"],
)
def test_ismrmrd_files_are_judged_by_header_and_flags(
    tmp_path: Path, made: Callable[[], list], mode: str, calibration: int
) -> None:
    path = mrd_files.write(tmp_path / "a.h5", made(), xml(space(3, mode)))
    check(formats.read(path)[0], expected(64, 3, calibration), torch.from_numpy(VALUES))
    (believed,) = formats.read(path, acquired="all")
    assert torch.equal(believed.kspace, torch.from_numpy(VALUES))


def test_averages_that_fill_each_others_gaps_were_acquired(tmp_path: Path) -> None:
    made = [
        *mrd_files.lines(VALUES, rows=list(range(0, 64, 2))),
        *mrd_files.lines(VALUES, rows=list(range(1, 64, 2)), average=1),
    ]
    (scan,) = formats.read(mrd_files.write(tmp_path / "a.h5", made, xml(space(2))))
    assert torch.equal(scan.kspace, torch.from_numpy(VALUES))
    assert scan.header.filled_lines == 0


def test_twix_files_hold_what_was_acquired(tmp_path: Path) -> None:
    values = kspace(2, 8, 12)
    header = twix_files.protocol(sPat_lAccelFactPE=2)
    path = twix_files.write(tmp_path / "a.dat", ("gre", header, twix_files.lines(values)))
    (scan,) = formats.read(path)
    assert torch.equal(scan.kspace, torch.from_numpy(values))
    assert scan.header.acceleration == 2
    assert np.array_equal(scan.mask, np.ones((8, 12), bool))
