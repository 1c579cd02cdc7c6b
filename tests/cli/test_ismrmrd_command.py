"""ISMRMRD files by command: looked at, prepared, reconstructed, trained on, refused."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import mrd
import nibabel
import numpy as np
import pytest
import torch
from command import TINY, done, refused, tree
from mrd2_files import converted
from mrd_files import readout, space, write, xml

from noref import formats
from noref.data.store import Store
from noref.formats import mrd_writing
from noref.physics import fft2c, ifft2c, pad_centre
from noref.sampling.spokes import radial
from noref.scan import Header, Scan

with warnings.catch_warnings():
    import ismrmrd


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, undersampled: Path) -> Path:
    """The simulated subjects as a scanner leaves them: read-outs sampled twice as dense, with noise scans."""
    folder = tmp_path_factory.mktemp("ismrmrd") / "scans"
    for path in sorted(undersampled.glob("*.h5")):
        mrd_writing.write(folder / f"{path.stem}.h5", [dense(scan) for scan in formats.read(path)])
    return folder


def dense(scan: Scan) -> Scan:
    ky, kx = scan.shape
    lines = scan.measured[:, :1]
    wide = lines.expand(ky, 2 * kx)
    kspace = torch.where(wide, fft2c(pad_centre(ifft2c(scan.kspace), (ky, 2 * kx))), 0)
    noise = 4 * torch.eye(scan.coils) + 1j * torch.eye(scan.coils).roll(1, 0)
    power = float(scan.kspace.abs().max() ** 2) * 1e-6
    return Scan(
        scan.id,
        kspace,
        wide,
        wide,
        noise_cov=power * (noise @ noise.mH).to(torch.complex64),
        header=Header(crop=(ky, kx), spacing=(2.0, 2.0, 5.0), protocol="T2"),
    )


def partial_echo(scan: Scan, missing: int) -> torch.Tensor:
    mask = torch.ones_like(scan.mask)
    mask[:, :missing] = False
    return mask


def test_inspect_tells_what_is_in_it(scans: Path, tmp_path: Path) -> None:
    (first, *_) = sorted(scans.iterdir())
    told = done("inspect", first, "--picture", tmp_path / "look.png").out
    for text in (
        "format: ISMRMRD HDF5",
        "matrix: 48 × 96",
        "coils: 4",
        "calibration: no scan of its own",
        "a coil sample, from the noise scans; bright tissue",
        "crop 48 × 48, spacing 2 × 2 × 5 mm, protocol T2",
    ):
        assert text in told
    assert (tmp_path / "look.png").stat().st_size > 0


def test_prepare_whitens_compresses_and_cuts(scans: Path, tmp_path: Path) -> None:
    how = ("whiten=true", "coils=3", "oversampling=remove", "seed=3")
    done("prepare", scans, *how, "-o", tmp_path / "store")
    store = Store(tmp_path / "store")
    assert len(store) == 6
    for seen, scan in zip(store.survey, store, strict=True):
        assert seen.bucket == (1, 3, 48, 48)
        assert scan.kspace.shape == (3, 48, 48)
        assert scan.maps is not None
        assert scan.maps.shape == (1, 3, 48, 48)
        assert scan.noise_cov is not None
        power = scan.noise_cov * abs(scan.scale) ** 2
        torch.testing.assert_close(power, torch.eye(3) + 0j, atol=1e-4, rtol=0)
    settings = [f"data.target.{text}" for text in how]
    weights = []
    for path in (scans, tmp_path / "store"):
        run = tmp_path / f"run-{path.name}"
        done("train", "default", f"data.target.path={path}", *settings, f"output={run}", *TINY)
        weights.append((run / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1], "a store is what training prepares itself"
    # The model prepares as its training did.
    (first, *_) = sorted(scans.iterdir())
    done("reconstruct", tmp_path / "run-store", first, "-o", tmp_path / "image.npy")
    assert np.load(tmp_path / "image.npy").shape == (2, 48, 48)
    # What is not said is as the store was prepared, in the model too.
    short = ["train", "default", f"data.target.path={tmp_path / 'store'}", f"output={tmp_path / 'x'}", *TINY]
    assert "prepared with coils=3; " in refused(*short, "data.target.coils=2")
    for again in ([], ["--resume"]):
        done(*short, *again)
        assert (tmp_path / "x" / "model" / "model.safetensors").read_bytes() == weights[0]
    done("reconstruct", tmp_path / "x", first, "-o", tmp_path / "other.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "other.npy"), np.load(tmp_path / "image.npy"))


def test_whole_and_partial_echoes_share_a_store(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    first, *others = sorted(scans.iterdir())
    for path in others:
        shutil.copy(path, tmp_path / "mixed")
    echo = tmp_path / "mixed" / first.name
    mrd_writing.write(echo, [one.undersampled(partial_echo(one, 24)) for one in formats.read(first)])
    assert "lines, 72 of 96 samples of the read-out" in done("inspect", echo).out
    how = ("oversampling=remove", "whiten=true", "coils=3")
    told = done("prepare", tmp_path / "mixed", *how, "-o", tmp_path / "store").err
    assert "recognised: partial echo in 1 of 3 volumes looked at" in told
    done("prepare", scans, *how, "-o", tmp_path / "whole")
    cut = 0
    for scan, whole in zip(Store(tmp_path / "store"), Store(tmp_path / "whole"), strict=True):
        assert scan.id == whole.id
        if torch.equal(scan.mask, whole.mask):
            assert torch.equal(scan.kspace, whole.kspace)
            continue
        cut += 1
        assert scan.shape == whole.shape == (48, 48)
        assert torch.equal(scan.mask.any(1), whole.mask.any(1))
        samples = scan.mask.any(0).nonzero().flatten().tolist()
        assert samples == list(range(samples[0], samples[-1] + 1))
        assert samples[0] in range(12, 20)
        assert samples[-1] >= 43
        assert scan.holdout is not None
        assert torch.equal(scan.holdout, scan.holdout.any(1, keepdim=True) & scan.mask)
    assert cut == 2
    done(
        "train",
        "default",
        f"data.target.path={tmp_path / 'store'}",
        *(f"data.target.{text}" for text in how),
        f"output={tmp_path / 'run'}",
        *TINY,
    )
    done("reconstruct", tmp_path / "run", echo, "-o", tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").shape == (2, 48, 48)
    done("reconstruct", "zero-filled", first, "oversampling=remove", "-o", tmp_path / "whole.npy")
    done("reconstruct", "zero-filled", echo, "oversampling=remove", "-o", tmp_path / "part.npy")
    whole, part = (np.load(tmp_path / f"{name}.npy") for name in ("whole", "part"))
    assert np.linalg.norm(abs(part) - abs(whole)) < 0.15 * np.linalg.norm(whole)


@pytest.mark.parametrize(
    "how", [[], ["oversampling=remove"], ["whiten=true", "coils=3", "compression=geometric"]]
)
def test_reconstruct_writes_images_of_the_format(scans: Path, tmp_path: Path, how: list[str]) -> None:
    (first, *_) = sorted(scans.iterdir())
    for name in ("a.mrd", "a.npy"):
        done("reconstruct", "zero-filled", first, *how, "-o", tmp_path / name)
    images = np.load(tmp_path / "a.npy")
    assert images.shape == (2, 48, 48)
    with ismrmrd.Dataset(str(tmp_path / "a.mrd"), mode="r") as file:
        for i, image in enumerate(images):
            read = file.read_image("image_0", i)
            np.testing.assert_array_equal(read.data[0, 0], image)
            np.testing.assert_allclose(read.field_of_view[:], (96, 96, 5))
    done("reconstruct", "zero-filled", scans, *how, "-o", tmp_path / "all", "--suffix", ".mrd.h5")
    assert len(tree(tmp_path / "all")) == 3


def test_averages_apart_are_two_measurements_of_one_slice(scans: Path, tmp_path: Path) -> None:
    (first, *_) = sorted(scans.iterdir())
    scan = formats.read(first)[0]
    other = replace(scan, kspace=torch.where(scan.measured, scan.kspace * 1.5, 0))
    mrd_writing.write(tmp_path / "two.h5", [scan, replace(other, id=f"{scan.subject}/again/000")])
    with ismrmrd.Dataset(str(tmp_path / "two.h5"), mode="a") as file:
        for number in range(file.number_of_acquisitions()):
            one = file.read_acquisition(number)
            one.idx.average, one.idx.repetition = one.idx.repetition, 0
            file.write_acquisition(one, number)
    for averages, count in (("mean", 1), ("apart", 2)):
        store = tmp_path / averages
        done("prepare", tmp_path / "two.h5", f"averages={averages}", "-o", store)
        assert len(Store(store)) == count
    done("reconstruct", "zero-filled", tmp_path / "two.h5", "averages=apart", "-o", tmp_path / "halves.npy")
    one, two = np.load(tmp_path / "halves.npy")
    done("reconstruct", "zero-filled", tmp_path / "two.h5", "-o", tmp_path / "mean.npy")
    (mean,) = np.load(tmp_path / "mean.npy")
    np.testing.assert_allclose((one + two) / 2, mean, rtol=1e-2, atol=1e-3 * np.abs(mean).max())
    line = refused(
        "train", "default", f"data.target.path={tmp_path / 'mean'}", "data.target.averages=apart", *TINY
    )
    assert line.endswith("its scans are prepared; leave out averages")


def test_bad_input_is_one_line_and_leaves_nothing(scans: Path, tmp_path: Path) -> None:
    (first, *_) = sorted(scans.iterdir())
    store = tmp_path / "store"
    scan = formats.read(first)[0]
    short = tmp_path / "short.h5"
    short.write_bytes(first.read_bytes()[:-5000])
    assert "damaged or incomplete" in refused("inspect", short)
    assert "damaged or incomplete" in refused("prepare", short, "-o", store)
    assert "damaged or incomplete" in refused("reconstruct", "zero-filled", short, "-o", tmp_path / "x.mrd")
    assert "averages: input should be 'mean' or 'apart'" in refused(
        "prepare", first, "averages=summed", "-o", store
    )
    mrd_writing.write(tmp_path / "echo.h5", [scan.undersampled(partial_echo(scan, 47))])
    line = refused(
        "reconstruct", "zero-filled", tmp_path / "echo.h5", "oversampling=remove", "-o", store / "x.npy"
    )
    assert "too little of the echo was measured" in line
    assert "set oversampling=keep" in line
    singular = replace(scan, noise_cov=torch.ones(4, 4) + 0j)
    mrd_writing.write(tmp_path / "dead.h5", [singular])
    line = refused("reconstruct", "zero-filled", tmp_path / "dead.h5", "whiten=true", "-o", store / "x.npy")
    assert "the noise covariance is singular" in line
    assert not store.exists()
    assert not (tmp_path / "x.mrd").exists()


def test_spokes_are_inspected(scans: Path, tmp_path: Path) -> None:
    (first, *_) = sorted(scans.iterdir())
    scan = formats.read(first)[0]
    spokes = replace(scan.header, matrix=(32, 32), crop=None)
    made = replace(scan, trajectory=radial(*scan.shape), header=spokes)
    mrd_writing.write(tmp_path / "radial.h5", [made])
    assert "off the Cartesian grid" not in done("inspect", first).out
    picture = tmp_path / "x.png"
    assert "off the Cartesian grid" in done("inspect", tmp_path / "radial.h5", "--picture", picture).out
    assert picture.exists()


def test_streams_of_version_2_are_read_and_written(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "streams").mkdir()
    for path in sorted(scans.iterdir()):
        converted(path, tmp_path / "streams" / f"{path.stem}.mrd")
    (first, *_) = sorted((tmp_path / "streams").iterdir())
    told = done("inspect", first).out
    assert "format: MRD 2 stream" in told
    assert "crop 48 × 48, spacing 2 × 2 × 5 mm, protocol T2" in told
    options = ["oversampling=remove", "whiten=true"]
    for name, folder in (("one", scans), ("two", tmp_path / "streams")):
        done("prepare", folder, "-o", tmp_path / name, *options)
    for a, b in zip(Store(tmp_path / "one"), Store(tmp_path / "two"), strict=True):
        assert a.id == b.id
        assert torch.equal(a.kspace, b.kspace)
    done("reconstruct", "zero-filled", first, "-o", tmp_path / "a.mrd2", *options)
    done("reconstruct", "zero-filled", first, "-o", tmp_path / "a.npy", *options)
    with (tmp_path / "a.mrd2").open("rb") as file, mrd.BinaryMrdReader(file) as reader:
        reader.read_header()
        images = [item.value.data[0, 0] for item in reader.read_data()]
    np.testing.assert_array_equal(np.stack(images), np.load(tmp_path / "a.npy"))
    first.write_bytes(first.read_bytes()[:-100])
    before = tree(tmp_path)
    assert "damaged or incomplete" in refused("inspect", first)
    assert "damaged or incomplete" in refused("prepare", first, "-o", tmp_path / "three")
    assert "damaged or incomplete" in refused("reconstruct", "zero-filled", first, "-o", tmp_path / "b.npy")
    assert tree(tmp_path) == before


def test_a_3d_scan_is_reconstructed_plane_by_plane(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kz, ky, kx = 8, 16, 24
    z, y, x = np.ogrid[-4:4, -8:8, -12:12]
    image = ((z / 3) ** 2 + (y / 6) ** 2 + (x / 5) ** 2 < 1) * (1 + 0.1 * x)
    axes = (0, 1, 2)
    values = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(image), norm="ortho"), axes=axes)
    values = values + 1e-3 * rng.normal(size=values.shape)
    shape, view = (kx, ky, kz), (48.0, 24.0, 16.0)
    header = xml(
        space(
            shape,
            (kx // 2, ky, kz),
            view=view,
            recon_view=(24.0, 24.0, 16.0),
            limits=(0, ky - 1, ky // 2),
            partitions=(0, kz - 1, kz // 2),
        )
    )
    place = {"read_dir": (1, 0, 0), "phase_dir": (0, 1, 0), "slice_dir": (0, 0, 1)}
    made = [
        readout(
            values[k, j][None].astype(np.complex64), kspace_encode_step_1=j, kspace_encode_step_2=k, **place
        )
        for k in range(kz)
        for j in range(ky)
    ]
    path = write(tmp_path / "head.h5", made, header)
    assert "slices: 12" in done("inspect", path).out
    done("reconstruct", "zero-filled", path, "-o", tmp_path / "head.nii.gz")
    file = nibabel.load(tmp_path / "head.nii.gz")
    assert file.header.get_zooms() == (2, 1.5, 2)
    # Columns are partitions, rows lines, and slices pixels along the read-out.
    np.testing.assert_allclose(file.get_fdata(), np.abs(image[..., 6:18]), atol=0.01)
