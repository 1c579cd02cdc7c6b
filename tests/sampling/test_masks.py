from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from noref.errors import NorefError
from noref.sampling.centre import acs_size, centre_block
from noref.sampling.masks import IN_POINTS, MASKS, SPACED, acquisition_mask, mask_from_file
from noref.seeding import Key

COUNTED = [kind for kind in MASKS if kind not in SPACED]
EXACT = [kind for kind in COUNTED if kind != "equispaced"]


def key(seed: int = 0, scan: str = "s/a/0") -> Key:
    return Key(seed, scan, "mask")


shapes = st.tuples(st.integers(16, 70), st.integers(16, 70))
accelerations = st.floats(1.5, 8)
seeds = st.integers(0, 1000)


def affordable(acceleration: float, generous: float) -> float:
    """A share of calibration lines that leaves room for others."""
    return generous * 0.6 / acceleration


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in EXACT if kind not in IN_POINTS]),
    shape=shapes,
    acceleration=accelerations,
    generous=st.floats(0, 1),
    seed=seeds,
)
def test_random_lines_are_whole_hold_the_acs_and_are_exactly_so_many(
    kind: str, shape: tuple[int, int], acceleration: float, generous: float, seed: int
) -> None:
    acs = affordable(acceleration, generous)
    mask = acquisition_mask(kind, shape, acceleration, acs, key(seed))
    assert mask.dtype is torch.bool
    assert mask.shape == shape
    assert torch.equal(mask, mask[:, :1].expand(shape))
    assert int(mask[:, 0].sum()) == round(shape[0] / acceleration)
    assert bool(mask[centre_block(shape, acs_size(acs, shape[0]), shape[1])].all())


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in EXACT if kind in IN_POINTS]),
    shape=shapes,
    acceleration=accelerations,
    generous=st.floats(0, 1),
    seed=seeds,
)
def test_points_hold_the_centre_block_and_are_exactly_so_many(
    kind: str, shape: tuple[int, int], acceleration: float, generous: float, seed: int
) -> None:
    acceleration = max(acceleration, 2.0) if kind == "poisson-elliptical" else acceleration
    acs = affordable(acceleration, generous)
    mask = acquisition_mask(kind, shape, acceleration, acs, key(seed))
    assert int(mask.sum()) == round(shape[0] * shape[1] / acceleration)
    assert bool(mask[centre_block(shape, acs_size(acs, shape[0]), acs_size(acs, shape[1]))].all())


def fastmri_equispaced(size: int, acceleration: float, low: int, offset: int) -> np.ndarray:
    """fastMRI's `EquispacedMaskFractionFunc`, from its formula: centre lines, and lines at real spacing."""
    mask = np.zeros(size, dtype=bool)
    pad = (size - low + 1) // 2
    mask[pad : pad + low] = True
    spacing = acceleration * (low - size) / (low * acceleration - size)
    line = float(offset)
    while line < size - 1:
        mask[int(np.around(line))] = True
        line += spacing
    return mask


@pytest.mark.parametrize(
    ("size", "acceleration", "fraction"),
    [(368, 4, 0.08), (320, 8, 0.04), (372, 4, 0.08), (640, 6, 0.06), (322, 5, 0.04), (96, 2, 0.1)],
)
def test_equispaced_lines_are_fastmris(size: int, acceleration: float, fraction: float) -> None:
    low = round(fraction * size)
    spacing = acceleration * (low - size) / (low * acceleration - size)
    allowed = {
        fastmri_equispaced(size, acceleration, low, offset).tobytes(): offset
        for offset in range(round(spacing))
    }
    seen = set()
    for seed in range(20):
        mask = acquisition_mask("equispaced", (size, 3), acceleration, fraction, key(seed))
        assert torch.equal(mask, mask[:, :1].expand(mask.shape))
        lines = mask[:, 0].numpy()
        assert lines.tobytes() in allowed
        seen.add(allowed[lines.tobytes()])
        assert size / lines.sum() == pytest.approx(acceleration, rel=0.06)
    assert len(seen) > len(allowed) / 2


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(list(MASKS)),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    acceleration=st.integers(1, 12),
    acs=st.integers(0, 3),
    seed=seeds,
)
def test_small_and_odd_matrices_have_masks_of_their_shape(
    kind: str, shape: tuple[int, int], acceleration: int, acs: int, seed: int
) -> None:
    calibrated = acs * (acs if kind in IN_POINTS else shape[1])
    room = kind in SPACED or calibrated * acceleration <= shape[0] * shape[1]
    # What the ellipse holds of such matrices is told elsewhere.
    assume(room and (kind != "poisson-elliptical" or (acceleration > 3 and min(shape) > 5)))
    mask = acquisition_mask(kind, shape, acceleration, acs, key(seed))
    assert mask.dtype is torch.bool
    assert mask.shape == shape
    assert mask.is_contiguous()
    rows = min(acs, shape[0])
    assert bool(mask[centre_block(shape, rows, acs if kind in IN_POINTS else shape[1])].all())


@pytest.mark.parametrize("kind", [kind for kind in EXACT if kind != "poisson-elliptical"])
def test_all_of_kspace_is_sampled_without_acceleration(kind: str) -> None:
    assert bool(acquisition_mask(kind, (33, 24), 1, 4, key()).all())


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("acceleration", [2, 4, 8])
def test_acceleration_counts_the_acs(kind: str, acceleration: float) -> None:
    mask = acquisition_mask(kind, (192, 160), acceleration, 0.05, key())
    assert mask.numel() / int(mask.sum()) == pytest.approx(acceleration, rel=0.05)


@pytest.mark.parametrize("kind", MASKS)
def test_masks_depend_on_seed_and_scan_and_on_nothing_else(kind: str) -> None:
    def mask(k: Key) -> torch.Tensor:
        return acquisition_mask(kind, (64, 48), 3, 8, k)

    first = mask(key())
    np.random.default_rng(0).random(7)
    torch.rand(3)
    assert torch.equal(first, mask(key()))
    others = [mask(key(seed, scan)) for seed, scan in [(1, "s/a/0"), (0, "s/a/1"), (2, "t/a/0")]]
    assert not all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("kind", [kind for kind in EXACT if kind in IN_POINTS])
def test_points_grow_rarer_away_from_the_centre(kind: str) -> None:
    shape = (64, 48)
    mean = torch.stack([acquisition_mask(kind, shape, 5, 4, key(seed)).double() for seed in range(60)]).mean(
        0
    )
    ky, kx = (torch.arange(n).sub(n // 2).div(n / 2) for n in shape)
    radius = (ky[:, None] ** 2 + kx**2).sqrt() / 2**0.5
    rings = [mean[(radius >= a) & (radius < a + 0.15)].mean() for a in (0.1, 0.25, 0.4, 0.55, 0.7)]
    # Discs have room for more of themselves at the border of k-space; arms of a spiral fill it almost evenly.
    least = {"random2d": 1.3, "gaussian2d": 1.3, "pseudo-radial": 1.2}.get(kind, 1.1)
    assert all(inner > least * outer for inner, outer in itertools.pairwise(rings))


def test_random_lines_favour_no_line_outside_the_acs() -> None:
    mean = torch.stack(
        [acquisition_mask("lines", (40, 2), 4, 4, key(seed))[:, 0].double() for seed in range(600)]
    ).mean(0)
    outside = torch.cat((mean[:18], mean[22:]))
    # 6 of 36 lines; the standard error of 600 draws is 0.015.
    assert float((outside - 6 / 36).abs().max()) < 0.07


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize(("acceleration", "acs"), [(4, 0.3), (4, 0.6), (8, 200), (1.5, 63)])
def test_an_acs_of_more_than_one_in_r_is_refused(kind: str, acceleration: float, acs: float) -> None:
    if kind in IN_POINTS and acs in (0.3, 63):
        acs = 0.9  # a block of shares of both axes holds the square of that share
    with pytest.raises(NorefError, match=f"mask {kind}: .* lower acs or acceleration"):
        acquisition_mask(kind, (64, 64), acceleration, acs, key())


@pytest.mark.parametrize("kind", COUNTED)
def test_an_acs_slightly_too_large_is_refused_too(kind: str) -> None:
    shape = (64, 64)
    acs = 33 if kind in IN_POINTS else 17
    with pytest.raises(NorefError, match="leave no room"):
        acquisition_mask(kind, shape, 4, acs, key())


def test_masks_from_files(tmp_path: Path) -> None:
    lines = np.array([1, 0, 0, 1, 1, 0])
    points = np.arange(24).reshape(6, 4) % 5 == 0
    np.save(tmp_path / "lines.npy", lines)
    np.save(tmp_path / "points.npy", points)
    assert torch.equal(
        mask_from_file(tmp_path / "lines.npy", (6, 4)), torch.from_numpy(lines > 0)[:, None].expand(6, 4)
    )
    assert torch.equal(mask_from_file(tmp_path / "points.npy", (6, 4)), torch.from_numpy(points))


def test_mask_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "odd.npy", np.ones((5, 4)))
    with pytest.raises(NorefError, match=r"odd\.npy: a mask of \(5, 4\) fits no axis of k-space \(6, 4\)"):
        mask_from_file(tmp_path / "odd.npy", (6, 4))
    np.save(tmp_path / "columns.npy", np.ones(4))
    with pytest.raises(NorefError, match="fits no axis"):
        mask_from_file(tmp_path / "columns.npy", (6, 4))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", mask=np.ones(6))
    for name in ("missing.npy", "text.npy", "empty.npy", "objects.npy", "archive.npz"):
        with pytest.raises(NorefError, match=name) as caught:
            mask_from_file(tmp_path / name, (6, 4))
        assert "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 99), count=st.integers(0, 99))
def test_the_centre_block_is_symmetric_about_the_centre(size: int, count: int) -> None:
    block = centre_block((size, 1), count, 1)[:, 0]
    inside = torch.arange(size)[block] - size // 2
    assert len(inside) == min(count, size)
    if len(inside):
        assert -int(inside[0]) - int(inside[-1]) in (0, 1)


@pytest.mark.parametrize(("acs", "expected"), [(12, 12), (0.08, 26), (0, 0), (1, 1)])
def test_the_acs_is_a_number_of_lines_or_a_share(acs: float, expected: int) -> None:
    assert acs_size(acs, 320) == expected
