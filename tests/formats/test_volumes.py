"""3-D scans come as the planes of their phase encodings, each where it lay, and none else."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd2_files import converted
from mrd_files import (
    CALIBRATION,
    CALIBRATION_AND_IMAGING,
    NAVIGATOR,
    NOISE,
    REVERSE,
    ismrmrd,
    kspace,
    readout,
    space,
    write,
    xml,
)

from noref import formats
from noref.coils.calibration import calibration
from noref.data.shown import cropped
from noref.errors import NorefError
from noref.formats import mrd_volumes
from noref.physics import ifft2c
from noref.scan import Scan

KZ, KY, KX = 6, 8, 12
LIMITS = {"limits": (0, KY - 1, KY // 2), "partitions": (0, KZ - 1, KZ // 2)}
PLAIN = xml(space((KX, KY, KZ), **LIMITS))


def read(path: Path, averages: formats.Averages = "mean") -> list[Scan]:
    return list(formats.read(path, averages=averages))


def volume(
    values: np.ndarray, *flags: int, places: np.ndarray | None = None, **head: object
) -> list[ismrmrd.Acquisition]:
    """The read-outs of k-space `(coils, kz, ky, kx)`, or those of some places, bool `(kz, ky)`."""
    chosen = np.argwhere(np.ones(values.shape[1:3], bool) if places is None else places)
    return [
        readout(values[:, z, y], *flags, kspace_encode_step_1=int(y), kspace_encode_step_2=int(z), **head)
        for z, y in chosen
    ]


def image_of(values: np.ndarray) -> np.ndarray:
    """The image `(coils, z, y, x)` of full k-space, by NumPy's transform of all three axes."""
    axes = (-3, -2, -1)
    shifted = np.fft.ifftshift(values, axes=axes)
    return np.fft.fftshift(np.fft.ifftn(shifted, axes=axes, norm="ortho"), axes=axes)


def stacked(scans: list[Scan]) -> np.ndarray:
    """The images `(coils, z, y, x)` of planes."""
    planes = [cropped(ifft2c(scan.kspace), scan) for scan in scans]
    return torch.stack(planes).permute(1, 3, 2, 0).numpy()


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize(("kz", "ky", "kx"), [(6, 8, 12), (5, 8, 12), (6, 7, 12), (6, 8, 11), (2, 9, 13)])
def test_planes_make_up_the_volume(tmp_path: Path, coils: int, kz: int, ky: int, kx: int) -> None:
    values = kspace(coils, kz, ky, kx)
    header = xml(space((kx, ky, kz), limits=(0, ky - 1, ky // 2), partitions=(0, kz - 1, kz // 2)))
    slices = formats.read(write(tmp_path / "a.h5", volume(values)[::-1], header))
    assert slices.ids == tuple(f"a/a/{x:03d}" for x in range(kx))
    scans = list(pickle.loads(pickle.dumps(slices)))
    for scan in scans:
        assert scan.kspace.shape == (coils, ky, kz)
        assert scan.measured.all()
        assert (scan.padding, scan.calibration, scan.noise_cov, scan.trajectory) == (None,) * 4
    np.testing.assert_allclose(stacked(scans), image_of(values), atol=1e-5)


def test_the_read_outs_oversampling_is_cut_off_and_that_of_the_phases_is_not(tmp_path: Path) -> None:
    values = kspace(2, KZ, KY, KX)
    views = {"view": (48.0, 32.0, 18.0), "recon_view": (24.0, 24.0, 12.0)}
    path = write(tmp_path / "a.h5", volume(values), xml(space((KX, KY, KZ), (6, 6, 4), **LIMITS, **views)))
    scans = read(path)
    assert len(scans) == KX // 2
    assert {(scan.shape, scan.header.crop) for scan in scans} == {((KY, KZ), (6, 4))}
    expected = image_of(values)[:, 1:5, 1:7, 3:9]
    np.testing.assert_allclose(stacked(scans), expected, atol=1e-5)


def test_points_of_both_phase_encodes_are_the_mask(tmp_path: Path) -> None:
    values = kspace(2, KZ, KY, KX)
    places = np.random.default_rng(0).random((KZ, KY)) < 0.4
    places[2:5, 3:6] = True
    scans = read(write(tmp_path / "a.h5", volume(values, places=places), PLAIN))
    for scan in scans:
        assert torch.equal(scan.measured, torch.from_numpy(places.T))
        assert torch.equal(scan.kspace != 0, scan.measured.expand(2, KY, KZ))
        # The block of the centre is what maps are made of.
        assert calibration(scan).shape[-2] >= 3
        assert calibration(scan).shape[-1] >= 3
    whole = image_of(values * places[..., None])
    np.testing.assert_allclose(stacked(scans), whole, atol=1e-5)


def test_partial_fourier_and_known_zeros_of_both_phase_encodes(tmp_path: Path) -> None:
    # Of 8 lines the last 6, of 10 partitions in the matrix the middle 5 are in the limits.
    values = kspace(1, 5, 6, KX)
    header = xml(space((KX, 8, 10), limits=(0, 5, 2), partitions=(0, 4, 2)))
    scan = read(write(tmp_path / "a.h5", volume(values), header))[4]
    assert scan.shape == (8, 10)
    assert torch.equal(scan.measured.any(1).nonzero().flatten(), torch.arange(2, 8))
    assert torch.equal(scan.measured.any(0).nonzero().flatten(), torch.arange(3, 8))
    assert scan.padding is not None
    # Lines that have a measured mirror image are missing, partitions on both sides are zero.
    assert torch.equal(scan.padding.all(0).nonzero().flatten(), torch.tensor([0, 1, 2, 8, 9]))
    assert not scan.padding[:, 3:8].any()


def test_embedded_and_separate_calibration_blocks(tmp_path: Path) -> None:
    values, other = kspace(2, KZ, KY, KX), kspace(2, KZ, KY, KX, seed=5)
    block = np.zeros((KZ, KY), bool)
    block[2:5, 2:7] = True
    every = np.zeros((KZ, KY), bool)
    every[::2, ::2] = True
    embedded = [
        *volume(values, places=every & ~block),
        *volume(values, CALIBRATION, places=block & ~every),
        *volume(values, CALIBRATION_AND_IMAGING, places=block & every),
    ]
    for scan in read(write(tmp_path / "a.h5", embedded, PLAIN)):
        assert scan.calibration is None
        assert torch.equal(scan.mask, torch.from_numpy((block | every).T))
    separate = [*volume(other, CALIBRATION, places=block), *volume(values, places=every)]
    header = xml(space((KX, KY, KZ), **LIMITS, calibration="separate"))
    scans = read(write(tmp_path / "b.h5", separate, header))
    along_x = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(other, axes=-1), norm="ortho"), axes=-1)
    for x, scan in enumerate(scans):
        assert torch.equal(scan.mask, torch.from_numpy(every.T))
        assert scan.calibration is not None
        expected = along_x[:, 2:5, 2:7, x].transpose(0, 2, 1)
        np.testing.assert_allclose(scan.calibration.numpy(), expected, atol=1e-5)


def test_a_coarser_calibration_scan_gives_planes_in_the_same_places(tmp_path: Path) -> None:
    # One plane alone is bright, the fourth of twelve; calibrated with six pixels along x.
    bright = np.zeros(KX, np.complex64)
    bright[3] = 1
    along = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(bright), norm="ortho"))
    values = kspace(2, KZ, KY, 1) * along + 0.01 * kspace(2, KZ, KY, KX, seed=1)
    block = np.zeros((KZ, KY), bool)
    block[2:5, 3:6] = True
    fewer = values[..., 3:9]
    made = [*volume(fewer, CALIBRATION, places=block, encoding_space_ref=1), *volume(values)]
    views = {"view": (48.0, 32.0, 18.0)}
    header = xml(
        space((KX, KY, KZ), **LIMITS, **views, calibration="separate"),
        space((6, KY, KZ), **LIMITS, **views),
    )
    scans = read(write(tmp_path / "a.h5", made, header))
    energy = [float(scan.calibration.abs().square().sum()) for scan in scans if scan.calibration is not None]
    assert int(np.argmax(energy)) == 3
    wrong = header.replace("<x>48.0</x>", "<x>60.0</x>", 1)
    path = write(tmp_path / "b.h5", made, wrong)
    with pytest.raises(
        NorefError, match=r"calibration scan has a field of view of 48 and not 60 mm"
    ) as caught:
        formats.read(path)[0]
    assert str(caught.value).startswith(str(path))


def test_a_calibration_scan_of_another_place_is_refused(tmp_path: Path) -> None:
    place = {"read_dir": (1.0, 0.0, 0.0), "phase_dir": (0.0, 1.0, 0.0), "slice_dir": (0.0, 0.0, 1.0)}
    block = np.zeros((KZ, KY), bool)
    block[2:5, 2:7] = True
    header = xml(space((KX, KY, KZ), **LIMITS, view=(48.0, 32.0, 18.0), calibration="separate"))

    def scan(away: float) -> Scan:
        calibrating = volume(kspace(2, KZ, KY, KX), CALIBRATION, places=block, position=(0, 0, away), **place)
        made = [*calibrating, *volume(kspace(2, KZ, KY, KX), position=(0.0, 0.0, 0.0), **place)]
        return formats.read(write(tmp_path / f"{away}.h5", made, header))[0]

    assert scan(1.0).calibration is not None
    with pytest.raises(NorefError, match="its calibration scan lies 18 mm away from the image"):
        scan(18.0)


def test_averages_noise_and_partial_echoes(tmp_path: Path) -> None:
    one, two, noise = kspace(2, KZ, KY, KX, seed=1), kspace(2, KZ, KY, KX, seed=2), kspace(2, 400)
    path = write(tmp_path / "a.h5", [readout(noise, NOISE), *volume(one), *volume(two, average=1)], PLAIN)
    mean, apart = read(path), read(path, "apart")
    assert len(apart) == 2 * len(mean) == 2 * KX
    assert apart[KX].id == "a/a.average1/000"
    np.testing.assert_allclose(stacked(mean), image_of((one + two) / 2), atol=1e-5)
    np.testing.assert_allclose(stacked(apart[KX:]), image_of(two), atol=1e-5)
    covariance = noise @ noise.conj().T / noise.shape[1]
    for scan, share in ((mean[0], 0.5), (apart[0], 1.0)):
        assert scan.noise_cov is not None
        np.testing.assert_allclose(scan.noise_cov.numpy(), share * covariance, rtol=1e-4, atol=1e-6)
    # Of 12 columns 9 were sampled: a plane has the noise of these.
    short = [readout(noise, NOISE), *volume(one[..., 3:], center_sample=3)]
    partial = read(write(tmp_path / "b.h5", short, PLAIN))
    whole = one.copy()
    whole[..., :3] = 0
    np.testing.assert_allclose(stacked(partial), image_of(whole), atol=1e-5)
    assert partial[0].noise_cov is not None
    np.testing.assert_allclose(partial[0].noise_cov.numpy(), 0.75 * covariance, rtol=1e-4, atol=1e-6)


def test_contrasts_and_slabs_are_volumes_of_their_own_of_one_subject(tmp_path: Path) -> None:
    values = {(c, s): kspace(1, KZ, KY, KX, seed=10 * c + s) for c in range(2) for s in range(2)}
    made = [one for (c, s), scan in values.items() for one in volume(scan, contrast=c, slice=s)]
    slices = formats.read(write(tmp_path / "a.h5", made, PLAIN))
    names = [f"a/a.contrast{c}.slab{s}" for c, s in values]
    assert slices.ids == tuple(f"{name}/{x:03d}" for name in names for x in range(KX))
    for number, scan in enumerate(values.values()):
        own = [slices[i] for i in range(number * KX, (number + 1) * KX)]
        np.testing.assert_allclose(stacked(own), image_of(scan), atol=1e-5)


def test_volumes_larger_than_what_is_held_are_read_in_slabs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = kspace(2, KZ, KY, KX)
    made = [*volume(values), *volume(2 * values, CALIBRATION, places=np.ones((KZ, KY), bool))]
    header = xml(space((KX, KY, KZ), **LIMITS, calibration="separate"))
    path = write(tmp_path / "a.h5", made, header)
    whole = read(path)
    reads = list[int]()
    true = mrd_volumes.slab_of

    def counted(*given: object) -> object:
        reads.append(given[-1])  # type: ignore[arg-type]
        return true(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("noref.formats.mrd_scans.slab_of", counted)
    monkeypatch.setattr(mrd_volumes, "HELD", 5 * 8 * 2 * KY * KZ + 1)
    monkeypatch.setattr(mrd_volumes, "BLOCK", 7)
    slices = formats.read(path)
    for index in (0, 1, 4, 11, 10, 5, 9):
        torch.testing.assert_close(slices[index].kspace, whole[index].kspace)
        torch.testing.assert_close(slices[index].calibration, whole[index].calibration)
    # Five planes at a time.
    assert reads == [0, 11, 5]


@pytest.mark.parametrize(("vendor", "sign"), [("", 1), ("SIEMENS", -1)])
def test_planes_lie_where_the_volume_lay(tmp_path: Path, vendor: str, sign: int) -> None:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    x, y, z = sign * turn.T
    position = np.array([10.0, -20.0, 30.0])
    head = {"position": position, "read_dir": turn[:, 0], "phase_dir": turn[:, 1], "slice_dir": turn[:, 2]}
    views = {"view": (48.0, 24.0, 9.0), "recon_view": (24.0, 24.0, 9.0)}
    more = (
        f"<acquisitionSystemInformation><systemVendor>{vendor}</systemVendor></acquisitionSystemInformation>"
    )
    header = xml(space((KX, KY, KZ), **LIMITS, **views), more=more)
    scans = read(write(tmp_path / "a.h5", volume(kspace(1, KZ, KY, KX), **head), header))
    headers = [scan.header for scan in scans]
    assert headers[0].spacing == (3, 1.5, 4)
    # Where the centres of voxels lay, around the position.
    i, j, k = np.meshgrid(*(np.arange(n) for n in (6, KY, KZ)), indexing="ij")
    lay = (
        position
        + 4 * (i - 2.5)[..., None] * x
        + 3 * (j - (KY - 1) / 2)[..., None] * y
        + 1.5 * (k - (KZ - 1) / 2)[..., None] * z
    )
    images = np.stack([cropped(ifft2c(scan.kspace), scan)[0].abs().numpy() for scan in scans])
    formats.write(tmp_path / "a.nii.gz", images, headers)
    file = nibabel.load(tmp_path / "a.nii.gz")
    # Axes of NIfTI files are columns, rows and slices: z, y and x of the volume.
    written = nibabel.affines.apply_affine(file.affine, np.stack([k, j, i], axis=-1)) * [-1, -1, 1]
    np.testing.assert_allclose(written, lay, atol=1e-3)
    np.testing.assert_allclose(file.get_fdata()[k, j, i], images[i, j, k], rtol=1e-6)
    formats.write(tmp_path / "a.dcm", images, headers)
    for plane, name in enumerate(sorted((tmp_path / "a.dcm").iterdir())):
        one = pydicom.dcmread(name)
        along_columns, along_rows = np.array(one.ImageOrientationPatient).reshape(2, 3)
        row_step, column_step = one.PixelSpacing
        corner = np.array(one.ImagePositionPatient)
        np.testing.assert_allclose(corner, lay[plane, 0, 0], atol=1e-3)
        np.testing.assert_allclose(corner + column_step * along_columns, lay[plane, 0, 1], atol=1e-3)
        np.testing.assert_allclose(corner + row_step * along_rows, lay[plane, 1, 0], atol=1e-3)


@pytest.mark.parametrize("block", [1, 7, 512])
def test_3d_epi_is_corrected_shot_by_shot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(mrd_volumes, "BLOCK", block)
    values, made = kspace(2, KZ, KY, KX), []
    x = np.arange(KX)
    for z in range(KZ):
        fault = np.exp(1j * (0.3 * z + (0.2 - 0.05 * z) * x))
        smooth = np.exp(-(((x - 6) / 2.0) ** 2)) * np.ones((2, 1))
        navigators = [(smooth * (fault if n % 2 else 1), n % 2, KY // 2, NAVIGATOR) for n in range(3)]
        lines = [(None, y % 2, y, 0) for y in range(KY)]
        for image, reverse, y, flag in (*navigators, *lines):
            if image is None:
                image = to_x(values[:, z, y]) * (fault if reverse else 1)
            line = from_x(image)[:, :: -1 if reverse else 1].astype(np.complex64)
            flags = [REVERSE] * reverse + [flag] * bool(flag)
            made.append(readout(line, *flags, kspace_encode_step_1=y, kspace_encode_step_2=z))
    header = xml(space((KX, KY, KZ), **LIMITS, trajectory="epi"))
    np.testing.assert_allclose(
        stacked(read(write(tmp_path / "a.h5", made, header))), image_of(values), atol=1e-4
    )


def to_x(line: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(line, axes=-1), norm="ortho"), axes=-1)


def from_x(line: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(np.fft.fft(np.fft.ifftshift(line, axes=-1), norm="ortho"), axes=-1)


def test_mrd_2_holds_the_same_volume(tmp_path: Path) -> None:
    values = kspace(2, KZ, KY, KX)
    views = {"view": (48.0, 24.0, 9.0), "recon_view": (24.0, 24.0, 9.0)}
    header = xml(space((KX, KY, KZ), (6, KY, KZ), **LIMITS, **views))
    path = write(tmp_path / "a.h5", volume(values), header)
    theirs, mine = read(path), read(converted(path, tmp_path / "a.mrd"))
    assert [scan.id for scan in mine] == [scan.id for scan in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert torch.equal(one.kspace, other.kspace)
        assert one.header.spacing == other.header.spacing


@pytest.mark.parametrize("matrix", [(KX, KY, KZ), (KX, KY, 1), (0, 0, 0)])
def test_headers_that_tell_nothing_of_partitions(tmp_path: Path, matrix: tuple[int, int, int]) -> None:
    values = kspace(1, KZ, KY, KX)
    scans = read(write(tmp_path / "a.h5", volume(values), xml(space(matrix))))
    np.testing.assert_allclose(stacked(scans), image_of(values), atol=1e-5)


SIZES = st.tuples(*[st.sampled_from([0, 1, 6, 8, 12, 300])] * 3)
VIEWS = st.tuples(*[st.sampled_from([0.0, 1e-9, 100.0, 200.0, 1e12])] * 3)


@settings(max_examples=60, deadline=None)
@given(sizes=st.tuples(*[SIZES] * 4), views=st.tuples(*[VIEWS] * 2), trajectory=st.sampled_from(["", "epi"]))
def test_whatever_the_header_says_it_is_planes_or_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: tuple[tuple[int, int, int], ...],
    views: tuple[tuple[float, float, float], ...],
    trajectory: str,
) -> None:
    header = xml(
        space(
            sizes[0],
            sizes[1],
            view=views[0],
            recon_view=views[1],
            limits=sizes[2],
            partitions=sizes[3],
            trajectory=trajectory,
        )
    )
    path = tmp_path_factory.mktemp("volume") / "a.h5"
    write(path, volume(kspace(2, KZ, KY, KX)), header)
    with suppress(NorefError):
        slices = formats.read(path)
        for index in {0, len(slices) // 2, len(slices) - 1}:
            scan = slices[index]
            assert scan.measured.sum() == KZ * KY
            assert torch.isfinite(torch.view_as_real(scan.kspace)).all()


PARALLEL = (
    "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>"
    "<kspace_encoding_step_2>3</kspace_encoding_step_2></accelerationFactor>"
    "<calibrationMode>embedded</calibrationMode></parallelImaging>"
)


@pytest.mark.parametrize("version", [1, 2])
def test_volumes_that_were_filled_in_are_told(tmp_path: Path, version: int) -> None:
    values = kspace(1, KZ, KY, KX)
    header = PLAIN.replace("</encoding>", f"{PARALLEL}</encoding>")
    path = write(tmp_path / "a.h5", volume(values), header)
    path = converted(path, tmp_path / "a.mrd") if version == 2 else path
    with pytest.warns(
        UserWarning, match="the header tells R = 6, and yet no place of k-space is empty"
    ) as caught:
        scan = formats.read(path)[0]
    assert str(caught[0].message).startswith(str(path))
    assert scan.header.acceleration == 6
    assert formats.read(path, acquired="all")[0].measured.all()
    places = np.ones((KZ, KY), bool)
    places[0, 1] = False
    path = write(tmp_path / "b.h5", volume(values, places=places), header)
    assert not formats.read(path)[0].measured.all()


BAD = [
    (
        lambda: volume(kspace(1, 7, KY, KX)),
        PLAIN,
        "partition 6 lies outside the header's limits, partitions 0 to 5; correct encodingLimits",
    ),
    (
        lambda: volume(kspace(1, KZ, KY, KX)),
        xml(space((KX, KY, 90000), **LIMITS)),
        "an encoded matrix of 8 × 90000 cannot be",
    ),
    (
        lambda: volume(kspace(1, KZ, KY, KX)),
        xml(space((KX, KY, KZ), **LIMITS, trajectory="radial")),
        "a radial scan of 6 partitions, and noref reads 3-D scans on the Cartesian grid alone",
    ),
    (lambda: volume(0 * kspace(1, KZ, KY, KX)), PLAIN, "k-space is all zeros"),
    (lambda: volume(np.nan * kspace(1, KZ, KY, KX)), PLAIN, "k-space holds NaN"),
    (
        lambda: [*volume(kspace(1, KZ, KY, KX)), *volume(kspace(2, 1, KY, KX))],
        PLAIN,
        "read-outs of 1 and 2 channels in one scan",
    ),
]


@pytest.mark.parametrize(("make", "header", "complaint"), BAD, ids=[complaint for *_, complaint in BAD])
def test_bad_volumes_get_one_line(
    tmp_path: Path, make: Callable[[], list[ismrmrd.Acquisition]], header: str, complaint: str
) -> None:
    path = write(tmp_path / "a.h5", make(), header)
    with pytest.raises(NorefError, match=complaint) as caught:
        formats.read(path)[0]
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
