"""k-t masks of the frames of a dynamic scan: drawn together, by every command that undersamples."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import mrd_files
import numpy as np
import pytest
import scipy.io
import torch

from noref import api
from noref.config import Source
from noref.data.prepare import Preparation, undersample
from noref.errors import NorefError
from noref.sampling.frames import frame_masks
from noref.sampling.masks import acquisition_mask
from noref.scan import Role, Scan
from noref.seeding import Key

FRAMES, SLICES, COILS, SIZE = 4, 2, 2, 16
AXES = "slice,frame,coils,ky,kx"


def full() -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (SLICES, FRAMES, COILS, SIZE, SIZE)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.fixture
def dynamic(tmp_path: Path) -> str:
    np.save(tmp_path / "a.npy", full())
    return str(tmp_path / "a.npy")


def test_frames_are_slices_in_their_order(dynamic: str) -> None:
    scans = api.slices(Source(path=dynamic, axes=AXES))
    assert scans.ids == tuple(f"a/a/{i:03d}" for i in range(SLICES * FRAMES))
    assert [scan.header.frame for scan in scans] == [
        (f, FRAMES) for _ in range(SLICES) for f in range(FRAMES)
    ]
    for i, scan in enumerate(scans):
        assert torch.equal(scan.kspace, torch.from_numpy(full()[divmod(i, FRAMES)]))


@pytest.mark.parametrize("kind", ["kt-lines", "kt-equispaced"])
def test_frames_of_a_slice_share_out_its_lines(dynamic: str, kind: str) -> None:
    how = Source(path=dynamic, axes=AXES, mask=kind, acceleration=4, acs=0)
    masks = [undersample(scan, how).mask[:, 0] for scan in api.slices(how)]
    drawn = [torch.stack(masks[s * FRAMES : (s + 1) * FRAMES]) for s in range(SLICES)]
    for number, one in enumerate(drawn):
        assert one.sum(0).tolist() == [1] * SIZE
        key = Key(how.seed, f"a/a/{number * FRAMES:03d}", "mask")
        assert torch.equal(one, frame_masks(kind, FRAMES, (SIZE, SIZE), 4, 0, key)[..., 0])
    other = [undersample(scan, how.model_copy(update={"seed": 5})).mask for scan in api.slices(how)]
    assert not torch.equal(torch.stack(other)[..., 0], torch.stack(masks))


@pytest.mark.parametrize("kind", ["lines", "gaussian1d", "pseudo-radial"])
def test_other_masks_are_drawn_anew_for_each_frame(dynamic: str, kind: str) -> None:
    how = Source(path=dynamic, axes=AXES, mask=kind, acceleration=2, acs=2)
    masks = [undersample(scan, how).mask for scan in api.slices(how)]
    keys = [Key(how.seed, f"a/a/{number:03d}", "mask") for number in range(SLICES * FRAMES)]
    for mask, key in zip(masks, keys, strict=True):
        assert torch.equal(mask, acquisition_mask(kind, (SIZE, SIZE), 2, 2, key))
    assert len({mask.numpy().tobytes() for mask in masks}) == len(masks)


def test_cmrxrecons_frames_are_such_frames(tmp_path: Path) -> None:
    folder = tmp_path / "P001"
    folder.mkdir()
    scipy.io.savemat(folder / "cine_sax.mat", {"kspace_full": full().transpose(4, 3, 2, 0, 1)})
    how = Source(path=str(folder / "cine_sax.mat"), axes="cmrxrecon", mask="kt-lines", acceleration=4, acs=0)
    scans = api.dataset(how.model_copy(update={"maps": "acs"}), Role.PROXY)
    lines = [undersample(scan, how).mask[:, 0] for scan in scans.slices]
    assert torch.stack(lines[:FRAMES]).sum(0).tolist() == [1] * SIZE


@pytest.mark.parametrize("counter", ["phase", "repetition"])
@pytest.mark.parametrize("subject_folder", [0, 1])
def test_so_are_phases_or_repetitions_of_measurements(
    tmp_path: Path, counter: str, subject_folder: int
) -> None:
    """Of two slices and contrasts; what was acquired when is another order than that of the frames."""
    numbers = itertools.product(reversed(range(SLICES)), (0, 1), reversed(range(FRAMES)))
    made = [
        one
        for slice_, contrast, frame in numbers
        for one in mrd_files.lines(full()[slice_, frame], slice=slice_, contrast=contrast, **{counter: frame})
    ]
    space = mrd_files.space((SIZE, SIZE, 1), limits=(0, SIZE - 1, SIZE // 2))
    # Named like a frame.
    path = mrd_files.write(tmp_path / f"cine.{counter}1.h5", made, mrd_files.xml(space))
    how = Source(path=str(path), mask="kt-lines", acceleration=4, acs=0, subject_folder=subject_folder)
    drawn: dict[str, list[Scan]] = {}
    for scan in api.slices(how):
        place = re.sub(rf"(.*)\.{counter}\d", r"\1", scan.id)
        assert scan.header.frame == (getattr(scan.header, counter), FRAMES)
        drawn.setdefault(place, []).append(undersample(scan, how))
    assert len(drawn) == SLICES * 2
    for place, scans in drawn.items():
        masks = torch.stack([scan.mask[:, 0] for scan in scans])
        assert masks.sum(0).tolist() == [1] * SIZE
        expected = frame_masks("kt-lines", FRAMES, (SIZE, SIZE), 4, 0, Key(how.seed, place, "mask"))
        order = [scan.header.frame[0] for scan in scans if scan.header.frame]
        assert torch.equal(masks, expected[order][..., 0])


def test_what_has_no_frames_is_one_line(dynamic: str) -> None:
    scan = api.slices(Source(path=dynamic, axes=AXES))[0]
    how = Preparation(mask="kt-lines", acceleration=4, acs=0)
    with pytest.raises(NorefError, match="mask kt-lines is for frames of a dynamic scan, and none are told"):
        undersample(replace(scan, header=replace(scan.header, frame=None)), how)
    with pytest.raises(NorefError, match="mask kt-lines: is not for partial Fourier"):
        undersample(scan, how.model_copy(update={"partial_fourier": 0.75}))
