"""Zeros around k-space are known zeros where they are nobody's undersampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mrd_files import kspace, lines, space, write, xml

from noref import formats
from noref.formats.zero_border import zero_border
from noref.sampling.frames import FRAME_MASKS, frame_masks
from noref.sampling.masks import IN_POINTS, MASKS, acquisition_mask
from noref.scan import Scan
from noref.seeding import Key

RANDOM = sorted(set(MASKS) - {"regular", "magic", "caipi"})


def read(path: Path, values: np.ndarray) -> Scan:
    np.save(path / "k.npy", values)
    return formats.read(path / "k.npy", axes="coils,ky,kx")[0]


def padded(inner: np.ndarray, ky: int, kx: int) -> np.ndarray:
    """k-space in the centre of a larger matrix of zeros."""
    full = np.zeros((len(inner), ky, kx), np.complex64)
    y, x = ky // 2 - inner.shape[1] // 2, kx // 2 - inner.shape[2] // 2
    full[:, y : y + inner.shape[1], x : x + inner.shape[2]] = inner
    return full


@given(
    size=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    more=st.tuples(st.integers(4, 20), st.integers(4, 20)),
)
def test_around_a_full_scan_all_zeros_are_known(size: tuple[int, int], more: tuple[int, int]) -> None:
    values = padded(kspace(1, *size), size[0] + more[0], size[1] + more[1])
    measured = torch.from_numpy(values[0] != 0)
    found = zero_border(measured)
    assert found is not None
    assert torch.equal(found, ~measured)


def test_a_full_scan_that_was_interpolated_is_full(tmp_path: Path) -> None:
    scan = read(tmp_path, padded(kspace(2, 24, 24), 32, 32))
    assert scan.acceleration == 1
    assert scan.padding is not None
    assert int(scan.mask.sum()) == 24 * 24


def test_an_evenly_spaced_scan_that_was_interpolated_keeps_its_acceleration(tmp_path: Path) -> None:
    inner = kspace(2, 48, 40)
    kept = np.zeros(48, bool)
    kept[::3] = kept[18:30] = True
    inner[:, ~kept] = 0
    scan = read(tmp_path, padded(inner, 64, 40))
    assert scan.acceleration == pytest.approx(48 / kept.sum(), rel=0.03)
    assert scan.padding is not None
    assert not (scan.padding & scan.mask).any()


def test_what_is_missing_on_one_side_was_left_out(tmp_path: Path) -> None:
    values = kspace(2, 32, 32)
    values[:, :10] = 0
    values[:, :, :6] = 0
    assert read(tmp_path, values).padding is None
    # Of both kinds: five lines are missing at the other end as well.
    values[:, -5:] = 0
    padding = read(tmp_path, values).padding
    assert padding is not None
    assert padding[:, 0].nonzero().flatten().tolist() == [*range(5), *range(27, 32)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", RANDOM)
def test_edges_of_random_masks_are_no_padding(kind: str, seed: int) -> None:
    for rate in (2, 4, 8):
        acs = 8 if kind in IN_POINTS else 4
        mask = acquisition_mask(kind, (64, 48), rate, acs, Key(seed, f"{kind}{rate}", "mask"))
        assert zero_border(mask) is None


@pytest.mark.parametrize("kind", ["regular", "magic", "caipi"])
def test_edges_of_even_masks_are_no_padding(kind: str) -> None:
    for rate in (2, 3, 4, 6):
        for seed in range(6):
            mask = acquisition_mask(kind, (64, 48), rate, 12, Key(seed, "s", "mask"), 1.0)
            assert zero_border(mask) is None


@pytest.mark.parametrize("kind", FRAME_MASKS)
def test_edges_of_frames_are_no_padding(kind: str) -> None:
    for mask in frame_masks(kind, 8, (64, 48), 4, 8, Key(0, "s", "mask")):
        assert zero_border(mask) is None


def test_read_outs_that_end_early_on_both_sides_are_of_a_lower_resolution(tmp_path: Path) -> None:
    values = kspace(2, 16, 16)
    header = xml(space((24, 16, 1), limits=(0, 15, 8)))
    scan = formats.read(write(tmp_path / "a.h5", lines(values), header))[0]
    assert scan.acceleration == 1
    assert scan.padding is not None
    assert scan.padding[0].nonzero().flatten().tolist() == [*range(4), *range(20, 24)]


def test_a_partial_echo_is_no_padding(tmp_path: Path) -> None:
    header = xml(space((24, 16, 1), limits=(0, 15, 8)))
    made = lines(kspace(2, 16, 18), center_sample=6)
    scan = formats.read(write(tmp_path / "a.h5", made, header))[0]
    assert scan.padding is None
    assert scan.acceleration == pytest.approx(24 / 18)
