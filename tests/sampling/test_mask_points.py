"""CAIPI lattices are those of the literature; Gaussian points have the published density."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noref.classical import CLASSICAL, reconstruct
from noref.coils import estimate_maps
from noref.data.prepare import combined
from noref.sampling import points
from noref.sampling.holdout import hold_out
from noref.sampling.masks import acquisition_mask
from noref.sampling.points import caipi_lattice
from noref.scan import Scan, coil_maps
from noref.seeding import Key


def key(seed: int = 0) -> Key:
    return Key(seed, "s/a/0", "mask")


def aliases(mask: np.ndarray) -> np.ndarray:
    """Where images lie on each other, in fields of view: the peaks of the point spread function."""
    spread = np.abs(np.fft.fft2(mask)) / mask.sum()
    peaks = np.argwhere(spread > 0.99) / np.array(mask.shape)
    return peaks - np.rint(peaks)


@pytest.mark.parametrize("acceleration", range(1, 17))
def test_a_lattice_has_r_aliases_as_far_apart_as_any_shift_allows(acceleration: int) -> None:
    rows, columns, shift = caipi_lattice(acceleration)
    assert rows * columns == acceleration

    def nearest(r: int, c: int, delta: int) -> tuple[float, int]:
        size = r * c  # a period of the lattice along both axes
        ky, kx = np.mgrid[: 2 * size, : 2 * size]
        mask = (ky % r == 0) & ((kx - delta * (ky // r)) % c == 0)
        found = aliases(mask)
        assert len(found) == acceleration
        shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        distance = np.hypot(*(found[:, None] + shifts).reshape(-1, 2).T)
        return float(distance[distance > 1e-9].min()), r

    best = max(
        nearest(r, acceleration // r, delta)[0]
        for r in range(1, acceleration + 1)
        if acceleration % r == 0
        for delta in range(acceleration // r)
    )
    assert nearest(rows, columns, shift)[0] == pytest.approx(best, abs=1e-9)


def test_the_usual_lattices() -> None:
    # Breuer 2006: 2 × 2 with a shift of one; 1 × 3 and 3 × 3 with a shift of one.
    assert caipi_lattice(4) == (2, 2, 1)
    assert caipi_lattice(3) == (1, 3, 1)
    assert caipi_lattice(9) == (3, 3, 1)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(12, 50), st.integers(12, 50)),
    acceleration=st.integers(1, 16),
    acs=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_caipi_rows_shift_by_the_same_number(
    shape: tuple[int, int], acceleration: int, acs: int, seed: int
) -> None:
    mask = acquisition_mask("caipi", shape, acceleration, acs, key(seed)).numpy()
    rows, columns, shift = caipi_lattice(acceleration)
    block = tuple(slice(n // 2 - acs // 2, n // 2 - acs // 2 + acs) for n in shape)
    lattices = []
    for above in range(rows):
        for beside in range(columns):
            lattice = np.zeros(shape, bool)
            for number, ky in enumerate(range(above, shape[0], rows)):
                lattice[ky, (beside + shift * number) % columns :: columns] = True
            lattice[block] = True
            lattices.append(lattice)
    assert any(np.array_equal(mask, lattice) for lattice in lattices)


@pytest.mark.parametrize("acceleration", [3, 4, 6, 8])
def test_all_offsets_of_caipi_are_drawn(acceleration: int) -> None:
    drawn = {
        acquisition_mask("caipi", (24, 24), acceleration, 0, key(s)).numpy().tobytes() for s in range(120)
    }
    assert len(drawn) == acceleration
    together = sum(np.frombuffer(mask, bool).astype(int) for mask in drawn)
    assert np.array_equal(together, np.ones(24 * 24))


def test_gaussian_points_have_the_published_width() -> None:
    # Single points, drawn as by the Gaussian that is half as high 0.175 of the matrix from its top.
    shape, draws = (20, 12), 6000
    counts = sum(acquisition_mask("gaussian2d", shape, 240, 0, key(seed)).double() for seed in range(draws))
    assert isinstance(counts, torch.Tensor)
    ky, kx = (torch.arange(n).sub(n // 2) / n for n in shape)
    expected = 0.5 ** ((ky[:, None] ** 2 + kx**2) / 0.175**2).double()
    torch.testing.assert_close(counts / draws, expected / expected.sum(), rtol=0, atol=0.011)


def mchiew(folder: Path) -> np.ndarray:
    with h5py.File(folder / "multicoil/mchiew_brain_16ch_full_96.mat") as file:
        raw = file["raw"][()]
    return (raw["real"] + 1j * raw["imag"])[:, 0]


def loraks(folder: Path) -> np.ndarray:
    return scipy.io.loadmat(folder / "multicoil/loraks_mprage_4ch_full.mat")["kData"].transpose(2, 0, 1)


@pytest.mark.real_data
@pytest.mark.parametrize(("read", "acceleration", "acs"), [(mchiew, 4, 18), (loraks, 2, 24)])
def test_real_coils_part_the_aliases_of_a_shifted_lattice_better(
    real_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], np.ndarray],
    acceleration: int,
    acs: int,
) -> None:
    kspace = torch.from_numpy(np.ascontiguousarray(read(real_data))).to(torch.complex64)
    everywhere = torch.ones(kspace.shape[-2:], dtype=torch.bool)
    full = Scan(read.__name__, kspace, everywhere, everywhere)

    def error() -> float:
        mask = acquisition_mask("caipi", full.shape, acceleration, acs, key())
        scan = hold_out(full.undersampled(mask), 0.07, 0)
        scan = replace(scan, maps=estimate_maps(scan))
        truth = combined(kspace, coil_maps(scan))
        return float((reconstruct(CLASSICAL["cg-sense"], scan) - truth).norm() / truth.norm())

    shifted = error()
    rows, columns, _ = caipi_lattice(acceleration)
    monkeypatch.setattr(points, "caipi_lattice", lambda _: (rows, columns, 0))
    assert shifted < 0.93 * error()
