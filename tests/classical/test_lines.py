"""Regular lines are filled in from their neighbours; everything else is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from objects import acquired, ellipses, psnr
from torch import Tensor

from noref.classical import CLASSICAL, choose, fit, reconstruct
from noref.classical.grappa import GRAPPA
from noref.classical.lines import neighbourhoods
from noref.classical.raki import RAKI
from noref.errors import NorefError
from noref.physics import cartesian
from noref.sampling.holdout import hold_out
from noref.sampling.masks import acquisition_mask
from noref.scan import Scan, ScanBatch
from noref.seeding import Key


def every(spacing: int, shape: tuple[int, int], acs: int, offset: int = 0) -> Tensor:
    """Each `spacing`-th line and an ACS, bool `(ky, kx)`."""
    lines = torch.arange(shape[0]) % spacing == offset
    lines[shape[0] // 2 - acs // 2 : shape[0] // 2 + (acs + 1) // 2] = True
    return lines[:, None].expand(shape).clone()


def regular(spacing: int, *, shape=(64, 48), coils=8, acs=20, noise=0.0, share=0.1, offset=0) -> Scan:
    scan = acquired(ellipses(shape), coils, noise=noise)
    scan = replace(scan, mask=every(spacing, shape, acs, offset), holdout=None)
    return hold_out(scan, share, 0) if share else scan


def zero_filled(scan: Scan) -> Tensor:
    return fit(CLASSICAL["zero-filled"], scan, 0.0)


def filled(scan: Scan, strength: float) -> Tensor:
    """The k-space that GRAPPA makes of one coil after the other: their maps all ones, alone."""
    ones = torch.ones_like(scan.maps)
    kspace, coils = [], scan.coils
    for coil in range(coils):
        only = torch.zeros_like(ones)
        only[:, coil] = 1
        batch = ScanBatch.of([replace(scan, maps=only, holdout=None).undersampled(scan.mask)])
        image = GRAPPA()(batch.kspace, batch.encoding(), strength)
        full = cartesian(torch.ones_like(batch.mask), ones[None])
        kspace.append(full.forward(image)[0, coil])
    return torch.stack(kspace)


@pytest.mark.parametrize("spacing", [2, 3])
def test_grappa_recovers_a_noiseless_object(spacing):
    scan = regular(spacing, share=0)
    error, nothing = (
        float((image - scan.reference).norm() / scan.reference.norm()) ** 2
        for image in (fit(GRAPPA(), scan, 1e-6), zero_filled(scan))
    )
    assert error < 1e-4
    assert error < nothing / 100


def test_grappa_is_the_least_squares_fit():
    """A line between two acquired ones, by NumPy's solver and the definition, sample by sample."""
    scan = regular(2, shape=(40, 17), coils=3, acs=14, noise=0.01, share=0)
    y = np.pad((scan.kspace * scan.mask).numpy().astype(complex), ((0, 0), (0, 0), (2, 2)))
    offsets, line = (-3, -1, 1, 3), 5

    def neighbours(row: int, column: int) -> np.ndarray:
        return np.concatenate([y[:, row + offset, column : column + 5].ravel() for offset in offsets])

    places = [(row, column) for row in range(12 + 3, 27 - 3) for column in range(17)]
    known = np.stack([neighbours(*place) for place in places])
    targets = np.stack([y[:, row, column + 2] for row, column in places])
    penalty = 1e-3 * (np.abs(known) ** 2).sum(0).mean()
    weights = np.linalg.solve(
        known.conj().T @ known + penalty * np.eye(known.shape[1]), known.conj().T @ targets
    )
    expected = np.stack([neighbours(line, column) @ weights for column in range(17)], 1)
    made = filled(scan, 1e-3)
    np.testing.assert_allclose(made[:, line].numpy(), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    torch.testing.assert_close(made[:, 6], scan.kspace[:, 6], rtol=1e-4, atol=1e-4)


def test_the_choice_without_reference_is_as_good_as_the_references():
    scan = regular(2, noise=0.01)
    best = max(psnr(fit(GRAPPA(), scan, s), scan.reference) for s in (1e-1, 1e-2, 1e-3, 1e-4))
    made = psnr(reconstruct(GRAPPA(), scan), scan.reference)
    choice = choose(GRAPPA(), scan)
    assert choice.for_all == choice.strength
    assert made > best - 0.3
    assert made > psnr(zero_filled(scan), scan.reference) + 6


def test_held_out_lines_are_never_read_and_scored():
    scan = regular(2, noise=0.002)
    poisoned = replace(scan, kspace=torch.where(scan.holdout, -3 * scan.kspace, scan.kspace))
    method = GRAPPA(strengths=(1e-3,))
    first, second = choose(method, scan), choose(method, poisoned)
    assert torch.equal(first.image, second.image)
    assert first.errors[1e-3] < 0.5 < second.errors[1e-3]


def test_neighbours_are_the_nearest_acquired_lines():
    acquired = every(3, (30, 1), 12)[:, 0]  # lines 0, 3, 6, 9 to 20, 21, 24, 27
    groups = neighbourhoods(acquired, acquired, slice(9, 22), "GRAPPA")
    where = {line: offsets for offsets, lines in groups.items() for line in lines}
    assert sorted(where) == torch.nonzero(~acquired).flatten().tolist()
    assert where[4] == (-4, -1, 2, 5)
    assert where[5] == (-5, -2, 1, 4)
    assert where[1] == (-1, 2, 5)
    assert where[8] == (-5, -2, 1, 2)
    assert where[29] == (-5, -2)
    held = acquired.clone()
    held[3] = False
    groups = neighbourhoods(held, held, slice(9, 22), "GRAPPA")
    where = {line: offsets for offsets, lines in groups.items() for line in lines}
    assert where[3] == (-3, 3, 6)
    assert where[4] == (-4, 2, 5)
    assert where[5] == (-5, 1, 4)
    # An ACS of 8 lines shows 5 at once, but for four places that are to be learned from.
    acquired = every(3, (30, 1), 8)[:, 0]
    groups = neighbourhoods(acquired, acquired, slice(11, 19), "GRAPPA")
    assert all(max(0, *o) - min(0, *o) <= 4 for o in groups)


def test_padding_stays_zero():
    scan = regular(2, share=0, shape=(48, 20), coils=4, acs=16)
    padding = torch.zeros_like(scan.mask)
    padding[:6] = padding[-5:] = True
    kspace = torch.where(padding, 0, scan.kspace)
    padded = replace(scan, kspace=kspace, mask=scan.mask & ~padding, padding=padding)
    made = filled(padded, 1e-3)
    brightest = made.abs().amax((0, 2))
    assert float(brightest[padding[:, 0]].max()) < 1e-5 < float(brightest[~padding[:, 0]].min())


@pytest.mark.parametrize("method", [GRAPPA(), RAKI()], ids=lambda method: method.name)
@pytest.mark.parametrize("kind", ["lines", "random2d", "no acs", "short acs", "partial", "one side"])
def test_other_sampling_is_refused_in_one_line(kind, method):
    shape = (64, 48)
    scan = regular(2, share=0)
    masks = {
        "lines": lambda: acquisition_mask("lines", shape, 3, 12, Key(0, "x", "mask")),
        "random2d": lambda: acquisition_mask("random2d", shape, 3, 12, Key(0, "x", "mask")),
        "no acs": lambda: every(2, shape, 0),
        "short acs": lambda: every(10, shape, 8),
        "partial": lambda: every(2, shape, 20) & (torch.arange(64) < 44)[:, None],
        "one side": lambda: every(2, shape, 20) & (torch.arange(64) > 24)[:, None],
    }
    scan = hold_out(replace(scan, mask=masks[kind]()), 0.1, 0)
    with pytest.raises(NorefError, match=rf"^ellipses: {method.name.upper()} needs [^\n]*$"):
        reconstruct(method, scan)


@pytest.mark.parametrize("acceleration", [2.0, 2.5, 3.0])
def test_norefs_equispaced_masks_are_regular(acceleration):
    shape = (96, 24)
    mask = acquisition_mask("equispaced", shape, acceleration, 16, Key(1, "x", "mask"))
    scan = acquired(ellipses(shape), 4, noise=0.0)
    scan = hold_out(replace(scan, mask=mask, holdout=None), 0.07, 0)
    choice = choose(GRAPPA(strengths=(1e-3,)), scan)
    assert bool(choice.image.isfinite().all())


def test_a_full_scan_is_its_own_reconstruction():
    scan = acquired(ellipses((32, 24)), 3, noise=0.0)
    full = replace(scan, mask=torch.ones_like(scan.mask), holdout=None)
    torch.testing.assert_close(fit(GRAPPA(), full, 0.0), scan.reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [GRAPPA(), RAKI(steps=5)], ids=lambda method: method.name)
def test_it_is_deterministic_and_scans_do_not_influence_each_other(method):
    scans = [regular(2, shape=(40, 20), coils=3, acs=14, share=0, offset=offset) for offset in (0, 1)]
    batch = ScanBatch.of([scan.undersampled(scan.mask) for scan in scans])
    together = method(batch.kspace, batch.encoding(), 1e-3)
    for index, scan in enumerate(scans):
        torch.testing.assert_close(together[index], fit(method, scan, 1e-3), rtol=1e-5, atol=1e-5)
    assert torch.equal(together, method(batch.kspace, batch.encoding(), 1e-3))


def test_raki_starts_from_grappa():
    scan = regular(2, noise=0.01, share=0)
    torch.testing.assert_close(fit(RAKI(steps=0), scan, 1e-3), fit(GRAPPA(), scan, 1e-3))


def test_raki_learns_what_is_not_linear():
    """Lines that are the size of their neighbours: GRAPPA cannot make them, a network of three layers can."""
    sources = torch.randn(12, 2, 3, 40, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    targets = sources.mean(1).real.abs().to(torch.complex64)
    errors = {}
    for method in (GRAPPA(), RAKI(), RAKI(steps=800)):
        left = method._learn(sources, targets, strength=1e-3)(sources) - targets
        errors[getattr(method, "steps", 0)] = float(
            left.abs().square().mean() / targets.abs().square().mean()
        )
    assert errors[800] < errors[100] < errors[0]
    assert errors[800] < 0.5 * errors[0]


def test_raki_is_as_good_as_grappa():
    scan = regular(3, noise=0.01)
    linear, learned = (psnr(reconstruct(method, scan), scan.reference) for method in (GRAPPA(), RAKI()))
    assert learned > linear - 0.5
    assert learned > psnr(zero_filled(scan), scan.reference) + 6
