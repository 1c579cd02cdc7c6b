from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from noref.coils import acs_box, calibration
from noref.errors import NorefError
from noref.scan import Scan


def _scan(mask: Tensor, coils: int = 2) -> Scan:
    kspace = torch.arange(coils * mask.numel()).reshape(coils, *mask.shape).to(torch.complex64)
    return Scan(id="s", kspace=kspace, measured=mask, mask=mask)


def _rank(box: tuple[slice, slice]) -> tuple[int, int]:
    height, width = (side.stop - side.start for side in box)
    return min(height, width), height * width


def _exhaustive(mask: Tensor) -> tuple[int, int]:
    ky, kx = mask.shape
    y, x = ky // 2, kx // 2
    ranks = [(0, 0)]
    for top, bottom, left, right in itertools.product(
        range(y + 1), range(y + 1, ky + 1), range(x + 1), range(x + 1, kx + 1)
    ):
        if mask[top:bottom, left:right].all():
            ranks.append(_rank((slice(top, bottom), slice(left, right))))
    return max(ranks)


@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    density=st.floats(0.3, 1.0),
    seed=st.integers(0, 2**31),
)
def test_the_box_is_sampled_holds_the_centre_and_no_better_one_exists(
    shape: tuple[int, int], density: float, seed: int
) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density
    box = acs_box(mask)
    assert _rank(box) == _exhaustive(mask)
    if mask[shape[0] // 2, shape[1] // 2]:
        assert mask[box].all()
        assert all(side.start <= n // 2 < side.stop for side, n in zip(box, shape, strict=True))


def test_whole_lines_give_lines_times_readout() -> None:
    mask = torch.zeros(96, 60, dtype=torch.bool)
    mask[::4] = True
    mask[38:58] = True
    assert acs_box(mask) == (slice(38, 58), slice(0, 60))


def test_a_square_centre_is_preferred_to_the_full_line_through_it() -> None:
    mask = torch.rand(256, 256, generator=torch.Generator().manual_seed(1)) < 0.2
    mask[118:138, 118:138] = True
    mask[128, :] = True
    mask[127, :] = True
    assert acs_box(mask) == (slice(118, 138), slice(118, 138))


def test_nothing_where_the_centre_was_not_sampled() -> None:
    mask = torch.ones(8, 9, dtype=torch.bool)
    mask[4, 4] = False
    assert acs_box(mask) == (slice(0, 0), slice(0, 0))
    assert calibration(_scan(mask)).shape == (2, 0, 0)


def test_calibration_leaves_the_holdout_alone() -> None:
    mask = torch.zeros(16, 10, dtype=torch.bool)
    mask[2:14] = True
    holdout = torch.zeros_like(mask)
    holdout[2:4] = holdout[12:14] = True
    scan = replace(_scan(mask), holdout=holdout)
    assert torch.equal(calibration(scan), scan.kspace[:, 4:12])


@pytest.mark.parametrize(
    ("start", "stop", "kept"),
    [(4, 12, (4, 12)), (3, 14, (3, 14)), (2, 9, (7, 9)), (7, 16, (7, 10)), (5, 12, (5, 12)), (8, 12, (8, 9))],
)
def test_calibration_lies_evenly_around_the_centre(start: int, stop: int, kept: tuple[int, int]) -> None:
    mask = torch.zeros(16, 10, dtype=torch.bool)
    mask[start:stop] = True
    scan = _scan(mask)
    assert torch.equal(calibration(scan), scan.kspace[:, slice(*kept)])
    assert (kept[1] - kept[0]) // 2 == 8 - kept[0]


def test_a_separate_calibration_scan_comes_first() -> None:
    separate = torch.randn(2, 24, 24, dtype=torch.complex64)
    scan = replace(_scan(torch.ones(8, 8, dtype=torch.bool)), calibration=separate)
    assert calibration(scan) is separate


@pytest.mark.parametrize("shape", [(640, 320), (320, 640)])
def test_a_full_matrix_is_searched_quickly(shape: tuple[int, int]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.999
    mask[shape[0] // 2, shape[1] // 2] = True
    start = time.process_time()
    acs_box(mask)
    assert time.process_time() - start < 0.5


def test_a_calibration_scan_of_other_coils_is_refused() -> None:
    one = replace(
        _scan(torch.ones(16, 16, dtype=torch.bool), 4),
        calibration=torch.ones(3, 12, 12, dtype=torch.complex64),
    )
    with pytest.raises(NorefError, match="a calibration scan of 3 coils, but 4 in the image"):
        calibration(one)
