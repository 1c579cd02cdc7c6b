"""Who a scan is of: the same pseudonym from every format, and no patient's ID in clear."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mrd_files import kspace, lines, space, write, xml

from noref import formats
from noref.data.files import open_scans
from noref.errors import NorefError
from noref.formats import Beside, Reading, fastmri
from noref.formats.base import pseudonym
from noref.scan import Scan

PATIENT = "MRN4711"


def fastmri_of(path: Path, patient: str) -> Path:
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace(2, 8, 12)[None]
        file.attrs["patient_id"] = patient
    return path


def ismrmrd_of(path: Path, patient: str) -> Path:
    told = f"<subjectInformation><patientID>{patient}</patientID></subjectInformation>"
    return write(path, lines(kspace(2, 8, 12)), xml(space((12, 8, 1), limits=(0, 7, 4)), more=told))


def test_no_id_is_told_and_all_scans_of_a_patient_stay_together(tmp_path: Path) -> None:
    first = formats.read(fastmri_of(tmp_path / "first.h5", PATIENT))
    second = formats.read(ismrmrd_of(tmp_path / "second.h5", PATIENT))
    assert first.ids == (f"{pseudonym(PATIENT)}/first/000",)
    assert second.ids == (f"{pseudonym(PATIENT)}/second/000",)
    assert PATIENT not in repr(vars(second))


def test_a_pseudonym_that_was_written_is_read_back(tmp_path: Path) -> None:
    scan = formats.read(ismrmrd_of(tmp_path / "a.h5", PATIENT))[0]
    fastmri.write(tmp_path / "b.h5", [Scan(scan.id, scan.kspace, scan.measured, scan.mask)])
    assert formats.read(tmp_path / "b.h5")[0].subject == scan.subject


def test_files_of_one_patient_are_of_one_subject_whatever_their_names(tmp_path: Path) -> None:
    found = {formats.read(fastmri_of(tmp_path / name, "P1"))[0].subject for name in ("P1.h5", "P1_b.h5")}
    assert found == {pseudonym("P1")}
    assert formats.read(fastmri_of(tmp_path / "one.h5", ""))[0].subject == "one"


def test_simulated_subjects_keep_the_names_that_they_were_given(tmp_path: Path) -> None:
    path = fastmri_of(tmp_path / "a.h5", "brain-0001")
    with h5py.File(path, "a") as file:
        file.attrs["raw"] = False
    assert formats.read(path)[0].subject == "brain-0001"


@pytest.mark.parametrize(
    ("above", "first", "second"),
    [
        (1, "rest/cine/000", "rest/cine/001"),
        (2, "P001/rest.cine/000", "P001/rest.cine/001"),
        (3, "study/P001.rest.cine/000", "study/P001.rest.cine/001"),
    ],
)
def test_a_folder_may_name_the_subject(tmp_path: Path, above: int, first: str, second: str) -> None:
    folder = tmp_path / "study" / "P001" / "rest"
    folder.mkdir(parents=True)
    np.save(folder / "cine.npy", np.stack([kspace(2, 8, 12, seed=s) for s in range(2)]))
    how = {"axes": "slice,coils,ky,kx"}
    plain, named = (formats.read(folder / "cine.npy", subject_folder=n, **how) for n in (0, above))
    assert named.ids == tuple(scan.id for scan in named) == (first, second)
    for mine, theirs in zip(named, plain, strict=True):
        assert torch.equal(mine.kspace, theirs.kspace)
    with pytest.raises(NorefError, match=r"cine\.npy: subject_folder=99, but only \d+ folders lie above"):
        formats.read(folder / "cine.npy", subject_folder=99, **how)


def test_files_of_one_name_are_scans_of_the_folders_they_are_in(tmp_path: Path) -> None:
    for folder in ("P001", "P002"):
        (tmp_path / folder).mkdir()
        ismrmrd_of(tmp_path / folder / "scan.h5", "")
        own = lines(kspace(2, 8, 12, seed=int(folder[-1])), rows=range(2, 7))
        write(tmp_path / folder / "scan_cal.h5", own, xml(space((12, 8, 1), limits=(0, 7, 4))))
    calibration = Beside(path=str(tmp_path / "**" / "*_cal.h5"))
    with pytest.raises(NorefError, match="hold the same scan scan/scan/000; say subject_folder=N"):
        open_scans(str(tmp_path), Reading(calibration=calibration))
    found = open_scans(str(tmp_path), Reading(calibration=calibration, subject_folder=1))
    assert found.ids == ("P001/scan/000", "P002/scan/000")
    for number, scan in enumerate(found):
        own = torch.from_numpy(kspace(2, 8, 12, seed=number + 1)[:, 2:7])
        assert torch.equal(scan.calibration, own)


def test_a_patient_stays_the_subject_of_files_in_all_folders(tmp_path: Path) -> None:
    for visit in ("first", "second"):
        (tmp_path / visit).mkdir()
        ismrmrd_of(tmp_path / visit / "scan.h5", PATIENT)
    found = open_scans(str(tmp_path), Reading(subject_folder=1))
    assert found.ids == tuple(f"{pseudonym(PATIENT)}/{visit}.scan/000" for visit in ("first", "second"))


def test_folders_are_those_of_the_path_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("P001/inside", "P002"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("P001", "P002"):
        ismrmrd_of(tmp_path / folder / "scan.h5", "")
    monkeypatch.chdir(tmp_path / "P001" / "inside")
    found = open_scans(["../scan.h5", "../../P002/scan.h5"], Reading(subject_folder=1))
    assert found.ids == ("P001/scan/000", "P002/scan/000")


@pytest.mark.parametrize(
    ("above", "image", "others", "own"),
    [
        (1, "P2/cine", ["P1/cine_cal", "P1/t1_cal", "P2/t1_cal"], None),
        (1, "P2/cine", ["P1/cine_cal", "P2/calibration"], "P2/calibration"),
        (1, "P2/cine", ["P1/cine_cal"], None),
        (1, "P2/cine", ["P2/noise", "P1/cine_cal"], None),
        (1, "1/2/cine", ["2/1/cine_cal", "1/1/cine_cal"], None),
        (2, "1/1/cine", ["2/1/cine_cal", "1/2/cine_cal"], None),
        (2, "P1/b/cine", ["P1/a/cine_cal", "P1/c/cine_cal"], None),
        (2, "P1/b/cine", ["P1/a/cine_cal", "P1/b/cine_cal", "P1/cine_cal"], "P1/b/cine_cal"),
        (2, "P1/b/cine", ["P1/a/cine_cal", "P1/cine_cal"], "P1/cine_cal"),
        (2, "P1/b/cine", ["mirror/P1/b/cine", "mirror/P1/a/cine"], "mirror/P1/b/cine"),
        (0, "P2/cine", ["P1/cine_cal"], "P1/cine_cal"),
    ],
)
def test_calibration_of_another_subject_is_never_taken(
    tmp_path: Path, above: int, image: str, others: list[str], own: str | None
) -> None:
    numbers = {name: kspace(2, 8, 12, seed=seed) for seed, name in enumerate([image, *others])}
    for name, values in numbers.items():
        path = tmp_path / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, lines(values), xml(space((12, 8, 1), limits=(0, 7, 4))))
    named = [str(tmp_path / f"{name}.h5") for name in others]
    how = Reading(subject_folder=above, calibration=Beside(path=named))
    if own is None:
        with pytest.raises(NorefError, match=f"of {len(others)} calibration scans none can be its own"):
            open_scans(str(tmp_path / f"{image}.h5"), how)
    else:
        (scan,) = open_scans(str(tmp_path / f"{image}.h5"), how)
        assert torch.equal(scan.calibration, torch.from_numpy(numbers[own]))
