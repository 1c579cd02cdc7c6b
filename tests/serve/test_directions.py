"""Images of a scan, by `reconstruct`, a server and others, lie at one place, whoever made the scanner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mrd_files import lines, space, write, xml
from scipy import ndimage
from served import serving

from noref import formats
from noref.acceptance.vendor import agreement, counterpart, read_vendor
from noref.formats.mrd_images import image, write_series
from noref.physics import fft2c, ifft2c
from noref.serve import received

POSITION = (10.0, -20.0, 30.0)
READ, PHASE, NORMAL = (0.0, 0.8, 0.6), (1.0, 0.0, 0.0), (0.0, 0.6, -0.8)
FIELDS = ("position", "read_dir", "phase_dir", "slice_dir", "field_of_view", "slice")


def shown() -> np.ndarray:
    """Blurred noise, which looks like itself from no other side."""
    noise = np.random.default_rng(0).random((48, 64))
    return np.asarray(ndimage.gaussian_filter(noise, 2) ** 4 * 1e3, np.complex64)


@pytest.fixture(params=["SIEMENS", "GE MEDICAL SYSTEMS", ""])
def measured(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    vendor = f"<systemVendor>{request.param}</systemVendor>"
    system = f"<acquisitionSystemInformation>{vendor}</acquisitionSystemInformation>"
    kspace = fft2c(torch.from_numpy(shown())[None]).numpy()
    place = {"position": POSITION, "read_dir": READ, "phase_dir": PHASE, "slice_dir": NORMAL}
    header = xml(space((64, 48, 1), view=(128.0, 96.0, 5.0), limits=(0, 47, 24)), more=system)
    return write(tmp_path / "scan.h5", lines(kspace, **place), header)


def test_all_say_the_same_of_the_same_pixels(measured: Path, tmp_path: Path) -> None:
    (scan,) = formats.read(measured)
    values = ifft2c(scan.kspace)[0]
    formats.write(tmp_path / "written.mrd", values, scan.header, made="zero-filled")
    with serving() as served:
        answer = received(measured, host="127.0.0.1", port=served.server.port)
    answer.write(tmp_path / "sent.mrd")
    with h5py.File(tmp_path / "written.mrd") as one, h5py.File(tmp_path / "sent.mrd") as other:
        mine, theirs = (file["dataset/image_0"] for file in (one, other))
        np.testing.assert_allclose(mine["data"][()].view("<c8"), theirs["data"][()].view("<c8"), atol=1e-3)
        for name in FIELDS:
            np.testing.assert_array_equal(mine["header"][name], theirs["header"][name])
        assert mine["attributes"][0] == theirs["attributes"][0]
    formats.write(tmp_path / "written.nii", values, scan.header)
    formats.write(tmp_path / "written.dcm", values, scan.header)
    for name in ("written.mrd", "sent.mrd", "written.nii", "written.dcm"):
        (found,) = read_vendor(tmp_path / name)
        for mine, theirs in zip(found.header.directions, scan.header.directions, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-6)
        same = counterpart([found], (0, 1), scan)
        assert agreement(values.abs().numpy(), same, scan.id).correlation > 0.9999
    _, (header,), made = answer.slices(measured)
    np.testing.assert_allclose(header.directions, scan.header.directions, atol=1e-6)
    assert made == "zero-filled"


def test_copies_of_the_read_outs_directions_are_understood(measured: Path, tmp_path: Path) -> None:
    """As Gadgetron makes images by the inverse transform, without attributes that tell their directions."""
    (scan,) = formats.read(measured)
    values = ifft2c(scan.kspace)[0]
    copied = image(values.numpy(), (128.0, 96.0, 5.0))
    for name, vector in zip(FIELDS, (POSITION, READ, PHASE, NORMAL), strict=False):
        copied.head[name] = vector
    with h5py.File(measured) as file:
        write_series(tmp_path / "copied.mrd", {0: [copied]}, file["dataset/xml"][0])
    same = counterpart(read_vendor(tmp_path / "copied.mrd"), (0, 1), scan)
    assert agreement(values.abs().numpy(), same, scan.id).correlation > 0.9999


def test_attributes_outweigh_the_header(measured: Path, tmp_path: Path) -> None:
    """An image that was turned to how it is looked at still has the read-outs' directions in its header."""
    (scan,) = formats.read(measured)
    values = ifft2c(scan.kspace)[0]
    along_x, along_y, normal = scan.header.directions or ()
    turned = replace(
        scan.header, directions=(tuple(-a for a in along_y), along_x, normal), spacing=(2.0, 2.0, 5.0)
    )
    formats.write(tmp_path / "turned.mrd", torch.rot90(values, -1), turned)
    with h5py.File(tmp_path / "turned.mrd", "a") as file:
        heads = file["dataset/image_0/header"][()]
        heads["read_dir"], heads["phase_dir"] = READ, PHASE
        file["dataset/image_0/header"][...] = heads
    same = counterpart(read_vendor(tmp_path / "turned.mrd"), (0, 1), scan)
    assert agreement(values.abs().numpy(), same, scan.id).correlation > 0.9999
