"""Virtual coils: orthonormal, ordered by what they keep, and as many as BART's keep as much."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noref import formats
from noref.coils.compression import Compression, compressed, geometric_matrices, svd_matrix
from noref.errors import NorefError
from noref.formats.bart import read_cfl, write_cfl
from noref.physics import cartesian
from noref.scan import Scan, coil_maps

METHODS: tuple[Compression, ...] = ("svd", "geometric")
needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")


def energy(kspace: Tensor) -> float:
    return float(kspace.abs().square().sum())


def scan(coils: int = 8, shape: tuple[int, int] = (32, 24), noise: float = 0.0) -> Scan:
    return synthetic.scan(shape, coils, noise=noise)


def unitary(rows: Tensor) -> None:
    gram = rows @ rows.mH
    torch.testing.assert_close(gram, torch.eye(rows.shape[-2]).expand_as(gram) + 0j, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=20)
@given(
    coils=st.integers(1, 9),
    kept=st.integers(1, 9),
    shape=st.tuples(st.integers(9, 21), st.integers(1, 21)),
    seed=st.integers(0, 99),
)
def test_rows_are_orthonormal_and_all_coils_keep_everything(
    coils: int, kept: int, shape: tuple[int, int], seed: int
) -> None:
    kept = min(coils, kept)
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(coils, *shape, dtype=torch.complex64, generator=generator)
    matrix, matrices = svd_matrix(samples, kept), geometric_matrices(samples, shape[1], kept)
    assert matrix.shape == (kept, coils)
    assert matrices.shape == (shape[1], kept, coils)
    unitary(matrix)
    unitary(matrices)
    if kept == coils:
        for method in METHODS:
            whole = torch.ones(shape, dtype=torch.bool)
            more = replace(scan(), kspace=samples, measured=whole, mask=whole, maps=None)
            assert compressed(more, coils, method) is more


@pytest.mark.parametrize("method", METHODS)
def test_more_coils_keep_more_and_geometric_ones_the_most(method: Compression) -> None:
    full = scan(noise=0.05)
    shares = [energy(compressed(full, kept, method).kspace) / energy(full.kspace) for kept in range(1, 8)]
    assert shares == sorted(shares)
    assert shares[-1] <= 1 + 1e-5
    assert shares[3] > 0.9
    if method == "geometric":
        others = [energy(compressed(full, kept).kspace) / energy(full.kspace) for kept in range(1, 8)]
        assert all(mine > theirs for mine, theirs in zip(shares, others, strict=True))


@needs_bart
@pytest.mark.parametrize(("method", "flag"), [("svd", "-S"), ("geometric", "-G")])
@pytest.mark.parametrize("kept", [1, 3, 6])
def test_bart_keeps_as_much(tmp_path: Path, method: Compression, flag: str, kept: int) -> None:
    full = scan(noise=0.02)
    write_cfl(tmp_path / "k", full.kspace.permute(2, 1, 0)[:, :, None].numpy())
    subprocess.run(["bart", "cc", f"-p{kept}", "-A", flag, "k", "v"], cwd=tmp_path, check=True)
    theirs = np.array(read_cfl(tmp_path / "v"))
    mine = compressed(full, kept, method).kspace
    assert theirs.size == mine.numel()
    assert energy(mine) == pytest.approx(float((np.abs(theirs) ** 2).sum()), rel=1e-3)


@needs_bart
def test_virtual_coils_are_those_of_bart_but_for_their_phase(tmp_path: Path) -> None:
    full = scan(noise=0.02)
    write_cfl(tmp_path / "k", full.kspace.permute(2, 1, 0)[:, :, None].numpy())
    subprocess.run(["bart", "cc", "-p3", "-A", "-S", "k", "v"], cwd=tmp_path, check=True)
    theirs = torch.from_numpy(np.array(read_cfl(tmp_path / "v"))[:, :, 0]).permute(2, 1, 0)
    mine = compressed(full, 3).kspace
    inner = (mine.conj() * theirs).flatten(1).sum(1).abs()
    norms = torch.linalg.vector_norm(mine.flatten(1), dim=1) * torch.linalg.vector_norm(
        theirs.flatten(1), dim=1
    )
    torch.testing.assert_close(inner, norms, rtol=1e-4, atol=0)


def test_geometric_virtual_coils_change_slowly() -> None:
    full = scan(noise=0.01)
    matrices = geometric_matrices(full.kspace, 24, 3)
    # Where coils see the object they turn little; neighbours that were not aligned would differ by any phase.
    overlaps = torch.einsum("xvc,xvc->xv", matrices[:-1].conj(), matrices[1:])[6:18]
    assert float(overlaps.real.min()) > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_white_noise_stays_white(method: Compression) -> None:
    full = replace(scan(), noise_cov=2 * torch.eye(8) + 0j)
    fewer = compressed(full, 5, method)
    assert fewer.noise_cov is not None
    torch.testing.assert_close(fewer.noise_cov, 2 * torch.eye(5) + 0j, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_those_of_the_virtual_coils(method: Compression) -> None:
    full = scan()
    fewer = compressed(full, 7, method)
    assert (full.maps is None, fewer.coils, fewer.reference) == (False, 7, None)
    maps = coil_maps(fewer)
    torch.testing.assert_close(maps.abs().square().sum(1), torch.ones(1, 32, 24))
    made = cartesian(full.mask[None], maps[None]).forward(synthetic.image((32, 24))[None])[0]
    error = torch.linalg.vector_norm(made - fewer.kspace) / torch.linalg.vector_norm(made)
    assert float(error) < 0.05


def test_only_what_may_be_shown_calibrates() -> None:
    full = scan(noise=0.05)
    mask = torch.zeros_like(full.mask)
    mask[::2] = mask[12:20] = True
    holdout = torch.zeros_like(mask)
    holdout[2] = True
    shown = replace(full, mask=mask, holdout=holdout)
    hidden = ~mask | holdout
    other = replace(shown, kspace=torch.where(hidden, 50 * full.kspace.flip(0), full.kspace))
    for method in METHODS:
        ours, theirs = (compressed(one, 4, method).kspace for one in (shown, other))
        assert torch.equal(ours[:, ~hidden.any(1)], theirs[:, ~hidden.any(1)])


def test_a_separate_calibration_scan_calibrates() -> None:
    full = scan(noise=0.05)
    apart = replace(full, calibration=full.kspace[:, 8:24, 4:20])
    for method in METHODS:
        fewer = compressed(apart, 4, method)
        assert fewer.calibration is not None
        assert fewer.calibration.shape[0] == 4
    matrix = svd_matrix(full.kspace[:, 8:24, 4:20], 4)
    torch.testing.assert_close(compressed(apart, 4).kspace, torch.einsum("vc,cyx->vyx", matrix, full.kspace))


def test_what_cannot_be_compressed_is_refused_in_one_line() -> None:
    full = scan()
    gap = torch.ones_like(full.mask)
    gap[14:18] = False
    with pytest.raises(NorefError, match="the centre of k-space was not sampled"):
        compressed(full.undersampled(gap), 4)
    points = torch.rand(32, 24, generator=torch.Generator().manual_seed(0)) < 0.7
    points[12:20, 8:16] = True
    with pytest.raises(NorefError, match="geometric compression needs whole read-outs"):
        compressed(full.undersampled(points), 4, "geometric")
    with pytest.raises(NorefError, match="geometric compression needs whole read-outs"):
        compressed(replace(full, mask=points), 4, "geometric")
    few = torch.zeros_like(full.mask)
    few[15:18] = True
    with pytest.raises(NorefError, match="3 calibration lines cannot tell 4 virtual coils apart"):
        compressed(full.undersampled(few), 4, "geometric")


@pytest.mark.real_data
def test_half_of_the_coils_of_a_head_keep_it(real_data: Path) -> None:
    path = next((real_data / "multicoil").glob("mchiew*"))
    raw = formats.read(path, axes="kx,ky,-,coils", key="raw")[0]
    found = {
        (coils, method): energy(compressed(raw, coils, method).kspace) / energy(raw.kspace)
        for coils in (4, 8)
        for method in METHODS
    }
    assert found[8, "svd"] == pytest.approx(0.958, abs=5e-4)
    assert found[8, "geometric"] == pytest.approx(0.9999, abs=5e-5)
    assert found[4, "geometric"] == pytest.approx(0.993, abs=5e-4)
