"""Headers, limits and calibration scans that contradict the image: one line each, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mrd_files import CALIBRATION, kspace, lines, space, write, xml

from noref import formats
from noref.errors import NorefError

EVERY_SECOND = list(range(0, 32, 2))
PLACE: dict[str, object] = {
    "position": (10.0, 20.0, 30.0),
    "read_dir": (1.0, 0.0, 0.0),
    "phase_dir": (0.0, 1.0, 0.0),
    "slice_dir": (0.0, 0.0, 1.0),
}
VIEW = (64.0, 64.0, 5.0)
HEADER = xml(space((32, 32, 1), view=VIEW, limits=(0, 31, 16), calibration="separate"))


def calibrated(folder: Path, name: str = "a", rows: range = range(9, 23), **calibration: object) -> Path:
    """Every second line, and a calibration scan with another header than the image's."""
    made = [
        *lines(kspace(2, 32, 32), rows=EVERY_SECOND, **PLACE),
        *lines(kspace(2, 32, 32, seed=1), CALIBRATION, rows=list(rows), **{**PLACE, **calibration}),
    ]
    return write(folder / f"{name}.h5", made, HEADER)


@pytest.mark.parametrize(
    ("limits", "rows", "message"),
    [
        ((0, 7, 8), range(8), "limits contradict themselves, lines 0 to 7 and line 8 for their centre"),
        ((5, 15, 4), range(5, 16), "limits contradict themselves, lines 5 to 15 and line 4 for their centre"),
        ((0, 10, 8), range(16), "line 11 lies outside the header's limits, lines 0 to 10"),
        ((4, 15, 8), range(16), "line 0 lies outside the header's limits, lines 4 to 15"),
    ],
)
def test_limits_that_contradict_themselves_or_the_lines_are_refused(
    tmp_path: Path, limits: tuple[int, int, int], rows: range, message: str
) -> None:
    file = write(
        tmp_path / "a.h5", lines(kspace(2, 16, 16), rows=list(rows)), xml(space((16, 16, 1), limits=limits))
    )
    with pytest.raises(NorefError, match=message) as caught:
        formats.read(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_limits_say_nothing_of_read_outs_off_the_grid(tmp_path: Path) -> None:
    header = xml(space((16, 16, 1), limits=(0, 3, 8), trajectory="radial"))
    assert len(formats.read(write(tmp_path / "a.h5", lines(kspace(2, 16, 16)), header))) == 1


@pytest.mark.parametrize(
    ("position", "apart"),
    [((10.0, 20.0, 90.0), "60 mm"), ((10.0, 27.0, 30.0), "7 mm"), ((10.0, 20.0, 33.0), "3 mm")],
    ids=["another slice", "shifted in the plane", "the next slice"],
)
def test_a_calibration_scan_of_another_place_is_refused(
    tmp_path: Path, position: tuple[float, float, float], apart: str
) -> None:
    slices = formats.read(calibrated(tmp_path, position=position))
    with pytest.raises(NorefError, match=f"calibration scan lies {apart} away from the image"):
        slices[0]


def test_a_calibration_scan_of_another_orientation_is_refused(tmp_path: Path) -> None:
    slices = formats.read(calibrated(tmp_path, slice_dir=(0, -1, 0), phase_dir=(0, 0, 1)))
    with pytest.raises(NorefError, match="calibration scan lies in another orientation than the image"):
        slices[0]


def test_a_calibration_scan_of_the_same_place_passes(tmp_path: Path) -> None:
    nearby = {"same": (10.0, 20.0, 30.0), "rounded": (10.5, 19.5, 31.0)}
    found = [formats.read(calibrated(tmp_path, name, position=at))[0] for name, at in nearby.items()]
    # Where a file does not tell how it lies, nothing can be compared.
    found.append(formats.read(calibrated(tmp_path, "untold", read_dir=(0, 0, 0), position=(0, 0, 0)))[0])
    for scan in found:
        assert scan.calibration is not None
        assert torch.equal(scan.calibration, torch.from_numpy(kspace(2, 32, 32, seed=1)[:, 9:23]))


def test_a_calibration_scan_of_another_slice_is_refused(tmp_path: Path) -> None:
    slices = formats.read(calibrated(tmp_path, slice=1))
    with pytest.raises(NorefError, match=r"slice 0 has no calibration lines, .* are of slice 1; give"):
        slices[0]


def test_an_image_with_a_centre_of_its_own_needs_no_calibration_scan(tmp_path: Path) -> None:
    made = [
        *lines(kspace(2, 32, 32), rows=sorted({*EVERY_SECOND, *range(8, 24)})),
        *lines(kspace(2, 32, 32), CALIBRATION, rows=list(range(8, 24)), slice=1),
    ]
    assert formats.read(write(tmp_path / "a.h5", made, HEADER))[0].calibration is None


def test_a_calibration_scan_of_another_matrix_is_refused(tmp_path: Path) -> None:
    slices = formats.read(calibrated(tmp_path, rows=range(12)))
    with pytest.raises(NorefError, match="not hold the centre of its matrix, 32 × 32, but lines 0 to 11"):
        slices[0]
