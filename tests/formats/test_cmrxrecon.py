"""CMRxRecon's files as MATLAB writes them, of both kinds, whatever their variables are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from test_arrays import matlab73

from noref import formats
from noref.data.files import files_of, open_scans
from noref.errors import NorefError
from noref.formats import cmrxrecon
from noref.scan import Scan

NX, NY, COILS, SLICES, FRAMES = 40, 36, 3, 2, 4


def kspace(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


FULL = kspace(NX, NY, COILS, SLICES, FRAMES)


def save(version: str, path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if version == "v7.3":
        # MATLAB drops trailing axes of one entry, though no further than two.
        for name, array in arrays.items():
            while array.ndim > 2 and array.shape[-1] == 1:
                array = array[..., 0]
            arrays[name] = array
        return matlab73(path, **arrays)
    scipy.io.savemat(path, arrays)
    return path


def lines(step: int, *, frames: int = 1, centre: bool = True) -> np.ndarray:
    """`(nx, ny)` or `(nx, ny, frames)`: lines apart by a step, shifted by frame, and 16 central ones."""
    mask = np.zeros((NX, NY, frames))
    for frame in range(frames):
        mask[:, frame % step :: step, frame] = 1
    if centre:
        mask[:, NY // 2 - 8 : NY // 2 + 8] = 1
    return mask[..., 0] if frames == 1 else mask


VERSIONS = pytest.mark.parametrize("version", ["v5", "v7.3"])


@VERSIONS
@pytest.mark.parametrize("name", ["kspace_full", "kspace_sub04", "kus", "kspace", "whatever"])
def test_every_frame_of_every_slice_is_a_slice(tmp_path: Path, version: str, name: str) -> None:
    path = save(version, tmp_path / "P012" / "cine_sax.mat", **{name: FULL})
    if version == "v7.3":
        with h5py.File(path) as file:
            assert file[name].shape == (FRAMES, SLICES, COILS, NY, NX)
    scans = formats.read(path)
    assert len(scans) == SLICES * FRAMES
    assert scans.ids[5] == "P012/cine_sax/005"
    assert "2 slices of 4 frames" in scans.format
    for number, scan in enumerate(scans):
        position, frame = divmod(number, FRAMES)
        assert torch.equal(scan.kspace, torch.from_numpy(FULL[..., position, frame].T.copy()))
        assert scan.kspace.shape == (COILS, NY, NX)
        assert scan.mask.all()
        assert scan.raw


@VERSIONS
def test_axes_that_matlab_drops_are_put_back(tmp_path: Path, version: str) -> None:
    def read(array: np.ndarray, name: str = "kspace", **options: str) -> list[Scan]:
        return list(formats.read(save(version, tmp_path / "x.mat", **{name: array}), **options))

    still = read(FULL[..., :1])
    assert len(still) == SLICES
    assert torch.equal(still[1].kspace, torch.from_numpy(FULL[..., 1, 0].T.copy()))
    one = read(FULL[..., 0, 0], axes="cmrxrecon")
    assert torch.equal(one[0].kspace, torch.from_numpy(FULL[..., 0, 0].T.copy()))
    single = read(FULL[:, :, 0, 0, 0], axes="cmrxrecon")
    assert torch.equal(single[0].kspace[0], torch.from_numpy(FULL[:, :, 0, 0, 0].T.copy()))


@VERSIONS
@pytest.mark.parametrize("axes", [3, 4])
def test_arrays_of_others_are_not_taken_for_cmrxrecon(tmp_path: Path, version: str, axes: int) -> None:
    array = FULL[..., 0] if axes == 4 else FULL[..., 0, 0]
    with pytest.raises(NorefError, match="say with axes which is which"):
        formats.read(save(version, tmp_path / "x.mat", raw=array))
    assert len(formats.read(tmp_path / "x.mat", axes="cmrxrecon")) == (SLICES if axes == 4 else 1)
    named = "kx,ky,coils,slice" if axes == 4 else "kx,ky,coils"
    assert len(formats.read(tmp_path / "x.mat", axes=named)) == (SLICES if axes == 4 else 1)


@VERSIONS
@pytest.mark.parametrize("frames", [1, FRAMES])
@pytest.mark.parametrize("full", [True, False])
def test_a_mask_beside_the_file_is_its_mask(tmp_path: Path, version: str, frames: int, full: bool) -> None:
    mask = lines(4, frames=frames)
    kt = mask.reshape(NX, NY, frames) * np.ones(FRAMES)
    array = FULL if full else FULL * kt[:, :, None, None]
    path = save(version, tmp_path / "cine_sax.mat", kspace_sub04=array)
    save(version, tmp_path / "cine_sax_mask.mat", mask04=mask)
    scans = formats.read(path)
    for number, scan in enumerate(scans):
        expected = torch.from_numpy(kt[..., number % FRAMES].T.copy() != 0)
        assert torch.equal(scan.mask, expected)
        assert torch.equal(scan.measured, torch.ones_like(expected) if full else expected)
    # 20 lines lie outside the 16 central ones, 5 of them are sampled: R = 4, where counting all makes 36/21.
    assert "mask cine_sax_mask.mat (R = 4.00 without its centre)" in scans.format
    assert scans[0].acceleration == pytest.approx(36 / 21)
    assert files_of(str(tmp_path)) == [path]
    assert len(open_scans(str(tmp_path / "*.mat"))) == SLICES * FRAMES


def test_the_centre_is_sampled_whatever_the_mask_says(tmp_path: Path) -> None:
    save("v5", tmp_path / "x.mat", kspace=FULL)
    save("v5", tmp_path / "x_mask.mat", m=lines(4, centre=False))
    expected = torch.from_numpy(lines(4).T.copy() != 0)
    assert torch.equal(formats.read(tmp_path / "x.mat")[0].mask, expected)
    # Nothing is claimed that the file does not hold.
    save("v5", tmp_path / "x.mat", kspace=FULL * lines(4, centre=False)[:, :, None, None, None])
    assert torch.equal(
        formats.read(tmp_path / "x.mat")[0].mask, torch.from_numpy(lines(4, centre=False).T.copy() != 0)
    )


def test_the_centre_of_points_is_a_block() -> None:
    points = torch.rand(NY, NX, generator=torch.Generator().manual_seed(0)) < 0.2
    centre = cmrxrecon.centre_of(points)
    assert int(centre.sum()) == 16 * 16
    assert centre[NY // 2 - 8 : NY // 2 + 8, NX // 2 - 8 : NX // 2 + 8].all()
    outside = int((points & ~centre).sum())
    assert cmrxrecon.nominal_acceleration(points) == (NY * NX - 256) / outside
    rows = torch.zeros(NY, NX, dtype=torch.bool)
    rows[::3] = True
    assert cmrxrecon.centre_of(rows)[NY // 2 - 8 : NY // 2 + 8].all()
    assert int(cmrxrecon.centre_of(rows).sum()) == 16 * NX


def test_masks_are_found_in_the_folders_of_later_years(tmp_path: Path) -> None:
    under, masks = tmp_path / "UnderSample_Task1" / "P001", tmp_path / "Mask_Task1" / "P001"
    save("v7.3", under / "cine_lax_kus_ktUniform8.mat", kus=FULL)
    assert formats.read(under / "cine_lax_kus_ktUniform8.mat").mask is None
    save("v7.3", masks / "cine_lax_mask_ktUniform8.mat", mask=lines(4, frames=FRAMES))
    scans = formats.read(under / "cine_lax_kus_ktUniform8.mat")
    assert scans.mask == masks / "cine_lax_mask_ktUniform8.mat"
    assert not torch.equal(scans[0].mask, scans[1].mask)
    assert files_of(str(tmp_path / "**" / "*.mat")) == [under / "cine_lax_kus_ktUniform8.mat"]


def test_a_mask_can_be_named(tmp_path: Path) -> None:
    save("v7.3", tmp_path / "x.mat", kspace=FULL)
    save("v5", tmp_path / "other.mat", m=lines(2))
    scan = formats.read(tmp_path / "x.mat", mask_key=str(tmp_path / "other.mat"))[0]
    assert torch.equal(scan.mask, torch.from_numpy(lines(2).T.copy() != 0))


def test_patients_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    deep = tmp_path / "Center005" / "Siemens_30T_Vida" / "P001" / "cine.mat"
    assert cmrxrecon.subject_of(deep) == "Center005-Siemens_30T_Vida-P001"
    assert cmrxrecon.subject_of(tmp_path / "FullSample" / "P001" / "cine.mat") == "P001"
    assert cmrxrecon.subject_of(tmp_path / "scans" / "P002_cine.mat") == "P002_cine"
    for patient in ("P001", "P002"):
        save("v5", tmp_path / patient / "cine.mat", kspace=FULL)
    scans = open_scans(str(tmp_path / "P*" / "cine.mat"))
    assert {scan.subject for scan in scans} == {"P001", "P002"}


def spoilt() -> np.ndarray:
    array = FULL.copy()
    array[3, 3, 1, 1, 2] = np.inf
    return array


BAD: list[tuple[Callable[[Path], object], dict[str, str], str]] = [
    (lambda p: save("v5", p, kspace=spoilt()), {}, "slice 1, frame 2: k-space holds NaN or infinity"),
    (lambda p: save("v7.3", p, kspace=FULL * 0), {}, "slice 0, frame 0: k-space is all zeros"),
    (lambda p: save("v7.3", p, a=FULL, b=FULL), {"axes": "cmrxrecon"}, "say with key which array is k-space"),
    (
        lambda p: save("v5", p, a=FULL),
        {"axes": "cmrxrecon", "key": "b"},
        "say with key which array is k-space",
    ),
    (
        lambda p: save("v5", p, a=FULL[..., None] * np.ones(2)),
        {"axes": "cmrxrecon"},
        "of 2 to 5 axes; it has a",
    ),
    (lambda p: save("v5", p, a=FULL), {"mask_key": "/nowhere.mat"}, "nowhere.mat: not found"),
    (
        lambda p: (save("v5", p, a=FULL), save("v5", p.with_name("x_mask.mat"), m=np.ones((NY, NX)))),
        {},
        r"x_mask.mat: the mask \(36, 40\) does not fit k-space, which is \(40, 36\) with 4 frames",
    ),
    (
        lambda p: (save("v5", p, a=FULL), save("v5", p.with_name("x_mask.mat"), m=np.ones((NX, NY, 3)))),
        {},
        r"x_mask.mat: the mask \(40, 36, 3\) does not fit",
    ),
    (
        lambda p: (save("v5", p, a=FULL), save("v5", p.with_name("x_mask.mat"), a=lines(2), b=lines(2))),
        {},
        "x_mask.mat: 2 arrays could be the mask",
    ),
    (
        lambda p: (save("v5", p, a=FULL), p.with_name("x_mask.mat").write_text("mask")),
        {},
        r"x_mask.mat: damaged or incomplete \(no MATLAB file\)",
    ),
]


@pytest.mark.parametrize(("make", "options", "complaint"), BAD, ids=[complaint for *_, complaint in BAD])
def test_what_cannot_be_read_gets_one_line(
    tmp_path: Path, make: Callable[[Path], object], options: dict[str, str], complaint: str
) -> None:
    make(tmp_path / "x.mat")
    with pytest.raises(NorefError, match=complaint) as caught:
        list(formats.read(tmp_path / "x.mat", **options))
    assert "\n" not in str(caught.value)
