"""`noref accept` and `noref unblind`: from scans that nobody has in full to a page, and readers' scores."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from command import done, refused, tree
from mrd_files import lines, space, write, xml

import noref
from noref.acceptance import Thresholds, Verdict
from noref.formats import fastmri
from noref.scan import Header, Scan

QUICK = ["--slices", "2", "--lesions", "2"]


def noisier(folder: Path, scans: Path, noise: float) -> Path:
    """The same scans as they would be with more noise, drawn anew."""
    for file in sorted(scans.glob("*.h5")):
        slices = []
        for index, one in enumerate(noref.read(file)):
            draws = torch.Generator().manual_seed(index)
            size = noise * float(one.kspace.abs().max())
            added = size * torch.randn(one.kspace.shape, dtype=torch.complex64, generator=draws)
            slices.append(replace(one, kspace=torch.where(one.mask, one.kspace + added, 0)))
        fastmri.write(folder / file.name, slices)
    return folder


@pytest.fixture(scope="module")
def accepted(run: Path, undersampled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it: a second measurement, the scanner's images, two readers."""
    folder = tmp_path_factory.mktemp("accepted")
    again = noisier(folder / "again", undersampled, 1e-4)
    images = []
    for file in sorted(undersampled.glob("*.h5")):
        images += ["--vendor", folder / "vendor" / f"{file.stem}.dcm"]
        done("reconstruct", "cg-sense", file, "-o", images[-1])
    output = folder / "out"
    told = done(
        *("accept", run, undersampled, "-o", output, *QUICK, "--again", again, *images),
        *("--readers", "2", "--seed", "5", "--most-floor", "500"),
    )
    assert told.out == f"{output / 'acceptance.html'}\n"
    return output


def numbers(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "acceptance.json").read_text())
    return told


def test_everything_is_written_and_measured(accepted: Path) -> None:
    files = tree(accepted)
    assert [name for name in files if "/" not in name] == [
        "acceptance.html",
        "acceptance.json",
        "readers",
        "readers-key.json",
    ]
    told = numbers(accepted)
    assert told["model"] == "tiny"
    assert (len(told["slices"]), told["given"]) == (2, 6)
    assert told["thresholds"]["floor"] == 500
    names = ["zero-filled", "cg-sense", "wavelet", "tiny"]
    for one in told["slices"]:
        assert list(one["gamma"]) == names
        assert all(0 < value < 1.5 for value in one["gamma"].values())
        assert one["floor"]["value"] > 0
        assert list(one["added"]) == ["zero-filled", "wavelet", "tiny"]
        assert 0 < one["added"]["tiny"]["unacquired"] <= 1
        assert len(one["lesions"]) == 2
        assert [lesion["contrast"] for lesion in one["lesions"]] == [0.5, -0.5]
        for lesion in one["lesions"]:
            assert all(0 < given["contrast"] < 1.5 for given in lesion["recovered"].values())
        assert list(one["repeats"]) == names
        assert one["vendor"]["correlation"]["cg-sense"] > 0.99
        assert one["vendor"]["correlation"]["cg-sense"] > one["vendor"]["correlation"]["zero-filled"]
    verdicts = {line["name"]: line["verdict"] for line in told["criteria"]}
    assert len(verdicts) == 6
    assert "not tested" not in verdicts.values()
    found = [word for word in ("not accepted", "not decidable", "accepted") if word in verdicts.values()]
    assert told["verdict"]["verdict"] == found[0]


def test_the_page_says_it_all_and_asks_no_server(accepted: Path) -> None:
    page = (accepted / "acceptance.html").read_text()
    for text in (
        "Acceptance of tiny",
        "thresholds are conventions",
        "Not a reference",
        "Γ / floor",
        "Measured twice",
        "at unacquired samples",
        "inserted",
        "noref unblind",
        "nobody knows what lies between the samples",
        numbers(accepted)["seal"][:16],
    ):
        assert text in page, text
    assert "://" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", page)
    assert "<script" not in page
    assert "@page { size: A4" in page


def test_readers_scores_come_back(accepted: Path, tmp_path: Path) -> None:
    key = accepted / "readers-key.json"
    named = json.loads(key.read_text())["cases"]
    assert {method for case in named.values() for method in case["pictures"].values()} == {
        "tiny",
        "wavelet",
        "vendor",
    }
    sheets = []
    for reader in (1, 2):
        with (accepted / "readers" / f"sheet-{reader}.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        for row in rows:
            case, picture = row[0].removesuffix(".png").rsplit("-", 1)
            row[1] = "4" if named[case]["pictures"][picture] == "tiny" else "2"
        sheets.append(tmp_path / f"sheet-{reader}.csv")
        with sheets[-1].open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    told = done("unblind", key, *sheets, "-o", tmp_path / "scores.json")
    scores = {one["method"]: one for one in json.loads((tmp_path / "scores.json").read_text())}
    assert scores["tiny"]["mean"] == 4
    assert scores["tiny"]["scores"] == 4
    assert scores["tiny"]["difference"]["mean"] == 2
    assert scores["wavelet"]["difference"] is None
    assert re.search(r"^quality +tiny +4\.00  of 4  \+2\.00", told.out, re.MULTILINE)
    for again in (sheets[0], sheets[0].parent / ".." / sheets[0].parent.name / sheets[0].name):
        told = refused("unblind", key, *sheets, again)
        assert told == f"noref: {again}: is named twice; name each reader's sheet once"
    assert "--baseline: 'grappa' has no scores" in refused("unblind", key, *sheets, "--baseline", "grappa")


def test_the_same_is_measured_again(run: Path, undersampled: Path, tmp_path: Path) -> None:
    scan = undersampled / "brain-0002.h5"
    made = noref.accept(run, scan, tmp_path / "a", slices=1, lesions=1)
    done("accept", run / "model", scan, "-o", tmp_path / "b", "--slices", "1", "--lesions", "1")
    assert (tmp_path / "a" / "acceptance.json").read_bytes() == (
        tmp_path / "b" / "acceptance.json"
    ).read_bytes()
    assert made.verdict.verdict in set(Verdict)
    strict = noref.accept(
        run, [scan], tmp_path / "c", slices=1, lesions=1, thresholds=Thresholds(contrast=1.0, gamma=0.0)
    )
    assert strict.verdict.verdict is Verdict.REFUSED
    assert "Γ against wavelets" in strict.verdict.measured


def test_a_classical_method_can_be_judged_too(undersampled: Path, tmp_path: Path) -> None:
    done("accept", "wavelet", undersampled / "brain-0001.h5", "-o", tmp_path / "out", "--slices", "1")
    told = numbers(tmp_path / "out")
    assert told["model"] == "wavelet (judged)"
    assert told["criteria"][0]["measured"] == "1.000 times theirs; not above in 1 of 1 slices"
    assert tree(tmp_path / "out") == ["acceptance.html", "acceptance.json"]


def test_other_coils_and_another_matrix_are_no_obstacle(run: Path, tmp_path: Path) -> None:
    """The model was trained on four coils of 48 by 48."""
    done(
        *("simulate", tmp_path / "one", "--scans", "1", "--slices", "1", "--coils", "1"),
        *("--matrix", "40", "--acceleration", "2"),
    )
    done("accept", run, tmp_path / "one", "-o", tmp_path / "out", *QUICK)
    told = numbers(tmp_path / "out")
    assert told["acquired"] == "zero-filled"
    assert list(told["slices"][0]["gamma"]) == ["zero-filled", "wavelet", "tiny"]


def test_averages_of_one_file_are_held_against_each_other(
    run: Path, undersampled: Path, tmp_path: Path
) -> None:
    """As an ISMRMRD file has them when they are kept apart: scans that differ in `averageN` alone."""
    one = noref.read(undersampled / "brain-0001.h5")[0]
    draws = torch.Generator().manual_seed(0)
    noise = (
        1e-4
        * float(one.kspace.abs().max())
        * torch.randn(one.kspace.shape, dtype=torch.complex64, generator=draws)
    )
    other = replace(one, kspace=torch.where(one.mask, one.kspace + noise, 0))
    averages(tmp_path / "two.h5", [one, other])
    apart = noref.read(tmp_path / "two.h5", averages="apart")
    assert [scan.id.split("/")[1] for scan in apart] == ["two.average0", "two.average1"]
    done("accept", run, tmp_path / "two.h5", "averages=apart", "-o", tmp_path / "out", "--lesions", "0")
    told = numbers(tmp_path / "out")
    assert [one["id"] for one in told["slices"]] == [apart[0].id]
    assert set(told["slices"][0]["repeats"]) == {"zero-filled", "cg-sense", "wavelet", "tiny"}


def averages(path: Path, scans: list[Scan]) -> None:
    """An ISMRMRD file of one slice, measured several times."""
    ky, kx = scans[0].shape
    rows = torch.nonzero(scans[0].mask.any(-1)).flatten().tolist()
    readouts = []
    for number, one in enumerate(scans):
        readouts += lines(one.kspace.numpy(), rows=rows, average=number)
    write(path, readouts, xml(space((kx, ky, 1), limits=(0, ky - 1, ky // 2))))


def test_nothing_is_begun_that_cannot_be_done(
    run: Path, undersampled: Path, full: Path, tmp_path: Path
) -> None:
    one, out = undersampled / "brain-0001.h5", tmp_path / "out"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    stranger = tmp_path / "stranger.nii"
    noref.write(stranger, np.random.default_rng(0).random((2, 48, 48)), Header())
    shifted = noref.read(one)[0].header
    assert shifted.position is not None
    away = replace(shifted, position=(0.0, 0.0, 300.0))
    noref.write(tmp_path / "away.nii", np.ones((1, 48, 48)), away)
    noref.write(tmp_path / "small.nii", np.ones((2, 32, 32)), Header())
    for arguments, complaint in (
        ([run, "mask=acquired"], "no scans to judge by; name undersampled raw files"),
        ([tmp_path / "none", one], "neither a folder nor one of zero-filled"),
        ([tmp_path, one], "no model there"),
        ([run, tmp_path / "none.h5"], "none.h5: not found"),
        ([run, one, "acceleraton=2"], "acceleraton is unknown; did you mean 'acceleration'?"),
        ([run, one, "holdout=0"], "set holdout above 0"),
        ([run, full / "brain-0001.h5"], "no samples outside the calibration region, so nothing can be held"),
        ([run, one, "--again", undersampled], "--again: 6 slices for 2"),
        ([run, one, "--again", one], "holds the same samples as"),
        ([run, one, "--again", undersampled / "brain-0002.h5"], "must be sampled alike"),
        ([run, one, "--vendor", stranger], "does not show the same slice"),
        ([run, one, "--vendor", tmp_path / "away.nii"], "lies 3"),
        ([run, one, "--vendor", tmp_path / "small.nii"], "an image of 32×32 for"),
        ([run, one, "--vendor", one], "no image of a scanner; give DICOM, NIfTI or MRD images"),
        ([run, one, "--slices", "0"], "see noref accept --help"),
    ):
        assert complaint in refused("accept", *arguments, "-o", out, "--lesions", "0"), complaint
        assert not out.exists()
    told = refused("accept", run, one, "-o", tmp_path / "taken")
    assert f"{tmp_path / 'taken'}: already holds files" in told


def test_a_model_is_not_judged_by_scans_whose_references_it_knew(full: Path, tmp_path: Path) -> None:
    sampling = ["mask=lines", "acceleration=2", "acs=12"]
    done(
        *("train", "supervised", f"data.target.path={full}", *(f"data.target.{text}" for text in sampling)),
        *(f"output={tmp_path / 'run'}", "network.phases=1", "network.features=2", "training.epochs=1"),
    )
    told = refused("accept", tmp_path / "run", full, *sampling, "-o", tmp_path / "out")
    assert "run was trained on this scan with its reference" in told


@pytest.mark.real_data
def test_a_scan_as_the_scanner_undersampled_it(run: Path, real_data: Path, tmp_path: Path) -> None:
    scan = real_data / "multicoil" / "bart_picsbrain_8ch_poisson_undersampled.cfl"
    done("accept", run, scan, "-o", tmp_path / "out", "--lesions", "2")
    (one,) = numbers(tmp_path / "out")["slices"]
    assert one["raw"]
    assert one["gamma"]["wavelet"] / one["floor"]["value"] < 2
    # A network of a second's training on phantoms is found out by a real scan.
    assert numbers(tmp_path / "out")["verdict"]["verdict"] == "not accepted"
    assert "not raw" not in (tmp_path / "out" / "acceptance.html").read_text()
    for lesion in one["lesions"]:
        assert lesion["recovered"]["cg-sense"]["contrast"] > 0.85


def test_mrd_images_of_the_scanner_are_read(run: Path, undersampled: Path, tmp_path: Path) -> None:
    one = undersampled / "brain-0001.h5"
    done("reconstruct", "zero-filled", one, "-o", tmp_path / "scanner.mrd")
    with h5py.File(tmp_path / "scanner.mrd") as file:
        assert list(file["dataset"]) == ["image_0", "xml"]
    done(
        *("accept", run, one, "-o", tmp_path / "out", "--vendor", tmp_path / "scanner.mrd"),
        *("--slices", "1", "--lesions", "0"),
    )
    (told,) = numbers(tmp_path / "out")["slices"]
    assert told["vendor"]["correlation"]["zero-filled"] == pytest.approx(1, abs=1e-3)
    assert told["vendor"]["ssim"]["zero-filled"] == pytest.approx(1, abs=1e-3)
    assert told["vendor"]["correlation"]["wavelet"] < 0.999
