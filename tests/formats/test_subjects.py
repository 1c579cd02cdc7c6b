"""Who a scan is of: the same pseudonym from every format, and no patient's ID in clear."""

from __future__ import annotations

from pathlib import Path

import h5py
from mrd_files import kspace, lines, space, write, xml

from noref import formats
from noref.formats import fastmri
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
