"""Arrays with named axes: every container gives the same scans, and wrong axes or names are refused."""

from __future__ import annotations

import pickle
from itertools import permutations
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from numpy.typing import NDArray

from noref import formats
from noref.errors import NorefError
from noref.physics import ifft2c

COILS, KY, KX, SLICES = 2, 6, 5, 3


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def matlab73(path: Path, **arrays: NDArray) -> Path:
    """Writes as MATLAB does: a 512-byte user block, axes reversed, compounds of real and imag."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            stored = np.ascontiguousarray(array.T)
            if np.iscomplexobj(stored):
                pairs = np.empty(stored.shape, [("real", "f8"), ("imag", "f8")])
                pairs["real"], pairs["imag"] = stored.real, stored.imag
                stored = pairs
            file[name] = stored
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return path


def stored(container: str, folder: Path, **arrays: NDArray) -> Path:
    """One of the ways in which people keep arrays; the suffix says nothing, the content must."""
    path = folder / "scan.data"
    if container == "npz":
        with path.open("wb") as file:
            np.savez(file, **arrays)
    elif container == "mat5":
        with path.open("wb") as file:
            scipy.io.savemat(file, arrays)
    elif container == "mat73":
        matlab73(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays)
    return path


CONTAINERS = ("npz", "mat5", "mat73", "hdf5")


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_scans(tmp_path: Path, container: str) -> None:
    kspace = noise(SLICES, COILS, KX, KY)
    path = stored(container, tmp_path, raw=kspace, other=np.eye(3))
    slices = formats.read(path, axes="slice,coils,kx,ky", key="raw")
    assert slices.ids == tuple(f"scan/scan/{i:03d}" for i in range(SLICES))
    for i, scan in enumerate(slices):
        assert torch.equal(scan.kspace, torch.from_numpy(kspace[i].transpose(0, 2, 1).copy()))
        assert scan.mask.all()
        assert scan.raw
    again = pickle.loads(pickle.dumps(slices))
    assert len(pickle.dumps(slices)) < kspace.nbytes * 2
    assert torch.equal(again[2].kspace, slices[2].kspace)


@pytest.mark.parametrize("order", list(permutations(("coils", "ky", "kx", "-"))))
def test_axes_may_come_in_any_order(tmp_path: Path, order: tuple[str, ...]) -> None:
    sizes = {"coils": COILS, "ky": KY, "kx": KX, "-": 1}
    array = noise(*(sizes[name] for name in order))
    np.save(tmp_path / "x.npy", array)
    scan = formats.read(tmp_path / "x.npy", axes=", ".join(order))[0]
    expected = array.squeeze(order.index("-"))
    kept = [name for name in order if name != "-"]
    expected = expected.transpose([kept.index(name) for name in ("coils", "ky", "kx")])
    assert torch.equal(scan.kspace, torch.from_numpy(expected.copy()))


def test_images_become_kspace_that_is_not_raw(tmp_path: Path) -> None:
    images = noise(SLICES, 7, 6)
    np.save(tmp_path / "x.npy", images)
    scan = formats.read(tmp_path / "x.npy", axes="slice,y,x", domain="image")[1]
    torch.testing.assert_close(ifft2c(scan.kspace)[0], torch.from_numpy(images[1]))
    assert not scan.raw


def test_sets_are_scans_of_their_own(tmp_path: Path) -> None:
    array = noise(KY, KX, SLICES, 2)
    np.save(tmp_path / "x.npy", array)
    slices = formats.read(tmp_path / "x.npy", axes="ky,kx,slice,set")
    assert slices.ids[:4] == ("x/x.0/000", "x/x.0/001", "x/x.0/002", "x/x.1/000")
    assert torch.equal(slices[4].kspace[0], torch.from_numpy(array[:, :, 1, 1].copy()))


def test_the_only_matrix_needs_neither_key_nor_axes(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"k": noise(KY, KX), "tr": 3.0, "te": np.arange(4.0)})
    assert formats.read(tmp_path / "x.mat")[0].shape == (KY, KX)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("shape", ["plane", "line", "all"])
def test_masks_fit_by_their_shape(tmp_path: Path, container: str, shape: str) -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((SLICES, KX, KY)) < 0.5
    masks[1, 0] = True
    mask = {"plane": masks[0], "line": masks[0, :1], "all": masks}[shape].astype(np.uint8)
    path = stored(container, tmp_path, k=noise(SLICES, COILS, KX, KY), m=mask)
    scan = formats.read(path, axes="slice,coils,kx,ky", key="k", mask_key="m")[1]
    expected = {
        "plane": masks[0],
        "line": np.broadcast_to(masks[0, :1], (KX, KY)),
        "all": masks[1],
    }[shape]
    assert torch.equal(scan.mask, torch.from_numpy(expected.T.copy()))
    assert scan.measured.all()  # k-space outside the mask is there: a retrospective target


def test_a_mask_says_that_zeros_inside_it_were_measured(tmp_path: Path) -> None:
    mask = np.zeros((KY, KX))
    mask[::2] = 1
    kspace = noise(COILS, KY, KX) * mask
    kspace[:, 0, :3] = 0
    np.savez(tmp_path / "x.npz", k=kspace, m=mask)
    scan = formats.read(tmp_path / "x.npz", axes="coils,ky,kx", key="k", mask_key="m")[0]
    assert torch.equal(scan.mask, torch.from_numpy(mask) != 0)
    assert torch.equal(scan.measured, scan.mask)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"axes": "coils,ky,kx", "key": "nothing"}, r"holds no nothing; it has k \(2, 6, 5\), m \(4, 4\)"),
        ({"axes": "coils,ky,kx"}, "say with key which array to read: k .*, m "),
        ({"axes": "ky,kx", "key": "k"}, r"axes 'ky,kx' are 2, but k is \(2, 6, 5\)"),
        ({"key": "k"}, r"k is \(2, 6, 5\); say with axes"),
        ({"axes": "coil,ky,kx", "key": "k"}, "no axis is called coil; use -, coils, frame, kx, ky"),
        ({"axes": "coils,y,x", "key": "k"}, "no axis is called x, y"),
        ({"axes": "coils,ky,ky", "key": "k"}, "must name ky and kx, and nothing twice"),
        ({"axes": "coils,ky,kx", "key": "k", "mask_key": "m"}, r"the mask m of \(4, 4\) fits no axes of k"),
        ({"axes": "coils,ky,kx", "key": "k", "mask_key": "n"}, "holds no n"),
    ],
)
@pytest.mark.parametrize("container", CONTAINERS)
def test_what_does_not_fit_is_named(
    tmp_path: Path, container: str, options: dict[str, str], complaint: str
) -> None:
    path = stored(container, tmp_path, k=noise(COILS, KY, KX), m=np.ones((4, 4)))
    with pytest.raises(NorefError, match=complaint) as caught:
        formats.read(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("multicoil/mchiew_brain_16ch_full_96.mat", {"axes": "kx,ky,-,coils", "key": "raw"}, (16, 96, 96)),
        ("multicoil/loraks_mprage_4ch_full.mat", {"axes": "ky,kx,coils", "key": "kData"}, (4, 256, 256)),
        ("brain_singlecoil/larson_se_t1_sag_data.mat", {}, (1, 256, 256)),
        ("brain_singlecoil/umich_brain_1coil_v73.mat", {}, (1, 200, 200)),
        ("brain_siat/siat_scan1_lsq1-30.npy", {"axes": "slice,y,x", "domain": "image"}, (1, 270, 256)),
    ],
)
def test_real_scans_are_centred_heads(
    real_data: Path, name: str, options: dict[str, str], shape: tuple[int, int, int]
) -> None:
    scan = formats.read(real_data / name, **options)[0]
    assert tuple(scan.kspace.shape) == shape
    assert scan.acceleration == 1
    peak = np.unravel_index(int(scan.kspace.abs().sum(0).argmax()), scan.shape)
    assert np.abs(np.array(peak) - np.array(scan.shape) // 2).max() <= 2
    # A head fills the middle of the image and leaves the corners dark; swapped axes would not change that,
    # but half a field of view or a missing shift would.
    image = ifft2c(scan.kspace).abs().square().sum(0).sqrt()
    height, width = (size // 8 for size in scan.shape)
    middle = image[3 * height : 5 * height, 3 * width : 5 * width].mean()
    corner = image[:height, :width].mean()
    assert middle > 5 * corner


@pytest.mark.real_data
def test_loraks_masks_are_seven_fold(real_data: Path) -> None:
    path = real_data / "multicoil/loraks_mprage_4ch_full.mat"
    scan = formats.read(path, axes="ky,kx,coils", key="kData", mask_key="kMaskRandACS7")[0]
    assert scan.acceleration == pytest.approx(7, rel=0.01)
    assert scan.measured.all()


@pytest.mark.real_data
def test_two_averages_show_the_same_slice(real_data: Path) -> None:
    path = real_data / "brain_lowfield/Supplementary_Figure_3A/0.055T_FLAIR_RF_cage_installed_2D_kspace.mat"
    slices = formats.read(path, axes="ky,kx,slice,set")
    images = [ifft2c(slices[i].kspace)[0].abs().flatten() for i in (1, 5, 6)]
    same, other = (torch.corrcoef(torch.stack([images[0], image]))[0, 1] for image in images[1:])
    assert same > other
