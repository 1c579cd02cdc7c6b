from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from synthetic import scan, undersampled

from noref.errors import NorefError
from noref.sampling.centre import centre_block
from noref.sampling.draw import lines_of, sampled_in_lines
from noref.sampling.holdout import acs_mask, hold_out
from noref.sampling.partition import Partition, draw_share, protected
from noref.scan import Scan
from noref.seeding import Key

SHAPE = (48, 40)


def key(epoch: int = 0) -> Key:
    return Key(0, "s", "view", epoch)


def target(kind: str, coils: int, shape: tuple[int, int] = SHAPE) -> Scan:
    return hold_out(undersampled(scan(shape, coils), kind, 3.0, 8), 0.07, 0).as_target()


TARGETS = {
    (kind, coils): target(kind, coils) for kind in ("lines", "equispaced", "random2d") for coils in (1, 3)
}
SHARES: list[Any] = [0.2, 0.4, (0.05, 0.45), [0.2, 0.5, 0.9]]


@pytest.mark.parametrize("unit", ["auto", "points", "lines"])
@pytest.mark.parametrize("weight", ["uniform", "gaussian"])
@pytest.mark.parametrize("of", TARGETS)
def test_laws_of_partitions(of: tuple[str, int], weight: Any, unit: Any) -> None:
    by_lines = unit == "lines" or (unit == "auto" and of[0] != "random2d")
    for share in SHARES:
        check_laws(TARGETS[of], Partition(weight=weight, unit=unit, share=share), by_lines)


def check_laws(what: Scan, partition: Partition, by_lines: bool) -> None:
    omega, guarded = what.mask, protected(what, partition.centre)
    drawn = set()
    for epoch in range(3):
        theta, lam = partition(what, key(epoch))
        assert theta.dtype is lam.dtype is torch.bool
        assert not bool((theta & lam).any())
        assert torch.equal(theta | lam, omega)
        assert not bool((lam & guarded).any())
        again = partition(what, key(epoch))
        assert torch.equal(theta, again[0])
        assert torch.equal(lam, again[1])
        rho = draw_share(partition.share, key(epoch).fold("share"))
        if by_lines:
            assert torch.equal(lam, lines_of(lam) & omega)
            free = int((lines_of(omega) & ~lines_of(guarded)).sum())
            wanted, count = round(rho * int(lines_of(omega).sum())), int(lines_of(lam).sum())
        else:
            free = int((omega & ~guarded).sum())
            wanted, count = round(rho * int(omega.sum())), int(lam.sum())
        assert count == min(wanted, free)
        drawn.add(lam.numpy().tobytes() if wanted < free else epoch)
    assert len(drawn) > 1


@pytest.mark.parametrize("of", TARGETS)
def test_the_centre_is_protected_and_the_acs_where_maps_were_made_from_it(of: tuple[str, int]) -> None:
    what = TARGETS[of]
    block = centre_block(SHAPE, 6, 5) & what.mask
    acs = acs_mask(what.mask)
    assert int(acs.sum()) > int(block.sum())
    assert torch.equal(protected(what, 1 / 8), block | acs if of[1] > 1 else block)
    separate = replace(what, calibration=torch.zeros(of[1], 8, 8, dtype=torch.complex64))
    assert torch.equal(protected(separate, 1 / 8), block)
    assert int(protected(what, 0).sum()) >= 4


def test_points_of_a_line_scan_may_be_split_on_request() -> None:
    what = TARGETS["lines", 1]
    _, lam = Partition(unit="points", share=0.4)(what, key())
    assert not sampled_in_lines(lam)


@pytest.mark.parametrize("unit", ["points", "lines"])
def test_gaussian_splits_hold_back_the_centre_more_often(unit: Any) -> None:
    what = replace(scan(SHAPE, 1), mask=torch.ones(SHAPE, dtype=torch.bool))

    def mean(weight: Any, width: float) -> torch.Tensor:
        partition = Partition(weight=weight, unit=unit, share=0.2, width=width)
        return torch.stack([partition(what, key(e))[1].double() for e in range(60)]).mean(0)

    def ratio(held: torch.Tensor) -> float:
        near, far = centre_block(SHAPE, 24, 40), ~centre_block(SHAPE, 24, 40)
        return float(held[near].mean() / held[far].mean())

    uniform, wide, narrow = (
        ratio(mean("uniform", 4)),
        ratio(mean("gaussian", 3.5)),
        ratio(mean("gaussian", 8)),
    )
    assert 0.7 < uniform < 1.2
    assert wide > 1.5
    assert narrow > 2 * wide


def test_the_gaussian_has_the_published_width() -> None:
    # Single points are drawn in proportion to exp(−½((k − k₀)/σ)²), σ = (n − 1)/4 per axis.
    shape = (9, 5)
    full = replace(scan(shape, 1), mask=torch.ones(shape, dtype=torch.bool))
    partition = Partition(weight="gaussian", unit="points", share=1 / 45)
    counts = sum(partition(full, key(e))[1].double() for e in range(3000))
    assert isinstance(counts, torch.Tensor)
    ky, kx = torch.arange(9.0) - 4, torch.arange(5.0) - 2
    expected = torch.exp(-0.5 * (ky / 2) ** 2)[:, None] * torch.exp(-0.5 * (kx / 1) ** 2)
    expected = expected * ~protected(full, partition.centre)
    torch.testing.assert_close(counts / 3000, (expected / expected.sum()).double(), atol=0.025, rtol=0)


@pytest.mark.parametrize("unit", ["auto", "points", "lines"])
def test_an_empty_loss_is_refused_in_one_line(unit: Any) -> None:
    what = TARGETS["lines", 3]
    with pytest.raises(NorefError, match=r"subject0/scan/0: .*protect a smaller centre") as caught:
        Partition(unit=unit, centre=1.0)(what, key())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unit", ["points", "lines"])
def test_at_least_one_unit_is_held_back(unit: Any) -> None:
    _, lam = Partition(unit=unit, share=1e-6)(TARGETS["lines", 3], key())
    assert int(lam.sum()) == (1 if unit == "points" else SHAPE[1])


def test_no_line_is_cut_by_the_protected_centre() -> None:
    # One coil: a block, not the ACS, is protected; its lines cannot be held back in part.
    what = TARGETS["lines", 1]
    block = protected(what, 1 / 8)
    _, lam = Partition(share=1.0, centre=1 / 8)(what, key())
    assert torch.equal(lam, what.mask & ~lines_of(block))


def test_shares_are_numbers_ranges_or_choices() -> None:
    def many(share: Any) -> list[float]:
        return [draw_share(share, key(e)) for e in range(300)]

    assert set(many(0.3)) == {0.3}
    assert set(many([0.2, 0.4, 0.8])) == {0.2, 0.4, 0.8}
    for pair in ((0.1, 0.5), [0.1, 0.5]):
        drawn = many(pair)
        assert 0.1 <= min(drawn) < 0.13
        assert 0.47 < max(drawn) <= 0.5
