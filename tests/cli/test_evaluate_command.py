"""`noref evaluate`: every row, the right numbers, and a report where no reference exists."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from command import TINY, done, refused, simulated, tree
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import noref
from noref.data.prepare import Preparation, prepare
from noref.data.simulate import acquire
from noref.formats import fastmri
from noref.sampling.masks import acquisition_mask
from noref.scan import Header
from noref.seeding import Key

CLASSICAL = ["zero-filled", "cg-sense", "tv", "wavelet"]
SAMPLING = ["mask=lines", "acceleration=2", "acs=12", "seed=3"]


def scores(page: Path) -> dict[str, dict[str, Any]]:
    """The rows of a report, by name."""
    return {row["name"]: row for row in json.loads(page.with_suffix(".json").read_text())["methods"]}


def reference(file: Path) -> NDArray[np.float32]:
    """`|Σ_c S_c* Fᴴ y_c|` of the noiseless k-space, `(slices, y, x)`, maps from the undersampled scan."""
    how = Preparation(mask="lines", acceleration=2, acs=12, seed=3, holdout=0)
    maps = np.stack([prepare(scan, how).maps[0].numpy() for scan in noref.read(file)])
    with h5py.File(file) as content:
        kspace = content["kspace_clean"][()].swapaxes(-1, -2)
    axes = (-2, -1)
    coils = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes), norm="ortho"), axes)
    return np.abs((maps.conj() * coils).sum(1))


def by_scikit_image(truth: NDArray[np.float32], image: NDArray[np.float32]) -> dict[str, float]:
    """fastMRI's definitions, of a volume."""
    peak = float(truth.max())
    similar = [
        structural_similarity(t, i, win_size=7, data_range=peak) for t, i in zip(truth, image, strict=True)
    ]
    return {
        "psnr": peak_signal_noise_ratio(truth, image, data_range=peak),
        "ssim": float(np.mean(similar)),
        "nmse": float(((truth - image) ** 2).sum() / (truth**2).sum()),
    }


@pytest.fixture(scope="module")
def one_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three fully sampled subjects of a slice each: every classical method chooses for all of them."""
    return simulated(tmp_path_factory.mktemp("simulated") / "full", slices=1)


@pytest.fixture(scope="module")
def one_each_undersampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same subjects, of whom no more than every second line was ever measured."""
    return simulated(tmp_path_factory.mktemp("simulated") / "undersampled", "--acceleration", "2", slices=1)


@pytest.fixture(scope="module")
def page(one_each: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run and the classical methods, on full scans undersampled retrospectively."""
    page = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    told = done("evaluate", run, f"path={one_each}", *SAMPLING, "--baseline", "wavelet", "-o", page)
    assert told.out == f"{page}\n"
    return page


def test_the_report_has_every_row_and_needs_nothing_else(page: Path) -> None:
    assert tree(page.parent) == ["report.html", "report.json"]
    assert list(scores(page)) == [*CLASSICAL, "tiny"]
    html = page.read_text()
    for name in (*CLASSICAL, "tiny", "not raw", "brain-0001", "R = 2.00"):
        assert name in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html


def test_scores_are_those_of_scikit_image(page: Path, one_each: Path, run: Path, tmp_path: Path) -> None:
    rows = scores(page)
    for name, model in (("zero-filled", "zero-filled"), ("tiny", run)):
        expected = []
        for file in sorted(one_each.iterdir()):
            output = tmp_path / f"{name}-{file.stem}.npy"
            done("reconstruct", model, file, *SAMPLING, "-o", output)
            expected.append(by_scikit_image(reference(file), np.abs(np.load(output))))
        given = rows[name]["subjects"]
        assert [subject["subject"] for subject in given] == ["brain-0001", "brain-0002", "brain-0003"]
        for metric in ("psnr", "ssim", "nmse"):
            values = [subject[metric] for subject in expected]
            np.testing.assert_allclose([subject[metric] for subject in given], values, rtol=2e-4)
            mean = rows[name]["means"][metric]
            assert mean["mean"] == pytest.approx(np.mean(values), rel=2e-4)
            assert mean["sd"] == pytest.approx(np.std(values, ddof=1), rel=5e-3, abs=1e-6)


def test_differences_are_to_the_baseline(page: Path) -> None:
    rows = scores(page)
    psnr = {name: np.array([s["psnr"] for s in row["subjects"]]) for name, row in rows.items()}
    assert "psnr" not in rows["wavelet"]["differences"]
    for name in ("zero-filled", "tiny"):
        told = rows[name]["differences"]["psnr"]
        assert told["mean"] == pytest.approx((psnr[name] - psnr["wavelet"]).mean(), abs=1e-5)
        assert told["p"] is None  # three subjects say nothing of others
    assert json.loads(page.with_suffix(".json").read_text())["descriptive"]


def test_without_references_gamma_says_how_good_it_is(
    page: Path, one_each_undersampled: Path, run: Path, tmp_path: Path
) -> None:
    told, some = tmp_path / "report.html", ["zero-filled", "wavelet"]
    titled = ["--classical", ",".join(some), "--title", "Nothing to compare with"]
    done("evaluate", run, f"path={one_each_undersampled}", "-o", told, *titled)
    rows, with_references = scores(told), scores(page)
    assert list(rows) == [*some, "tiny"]
    for name, row in rows.items():
        assert row["means"]["psnr"] is row["means"]["ssim"] is row["means"]["nmse"] is None
        for subject, other in zip(row["subjects"], with_references[name]["subjects"], strict=True):
            # The same lines of the same scans: what was never measured changes nothing.
            assert subject["gamma"] == pytest.approx(other["gamma"], rel=1e-4)
            assert math.isfinite(subject["gamma"])
    assert rows["wavelet"]["means"]["gamma"]["mean"] < rows["zero-filled"]["means"]["gamma"]["mean"] < 1.5
    assert "<h1>Nothing to compare with</h1>" in told.read_text()


def test_scans_are_read_as_in_training_unless_told_otherwise(
    undersampled: Path, run: Path, tmp_path: Path
) -> None:
    """The run held out a share of 0.07 by the seed 3; another seed holds out other lines."""
    gammas = []
    for settings in ([], ["seed=3", "holdout=0.07"], ["seed=4"]):
        page = tmp_path / "report.html"
        done("evaluate", run, f"path={undersampled}", *settings, "--classical", "zero-filled", "-o", page)
        gammas.append(scores(page)["zero-filled"]["means"]["gamma"]["mean"])
    assert gammas[0] == gammas[1] != gammas[2]


def test_a_model_folder_goes_by_the_name_of_its_run(undersampled: Path, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    page = tmp_path / "report.html"
    done("evaluate", run / "model", other, f"path={undersampled}", "--classical", "", "-o", page)
    rows = scores(page)
    assert list(rows) == ["tiny", "other"]
    assert rows["tiny"]["means"]["gamma"] == rows["other"]["means"]["gamma"]


def test_classical_methods_can_be_scored_alone(undersampled: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done("evaluate", f"path={undersampled}", "--classical", "cg-sense", "-o", page)
    assert list(scores(page)) == ["cg-sense"]


def test_reports_that_cannot_be_are_refused_before_any_work(
    run: Path, undersampled: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "twin" / "tiny"
    path = f"path={undersampled}"
    for arguments, complaint in (
        ([run], "no scans to score; give path=FOLDER"),
        ([run, twin, path], "tiny: two rows of this name"),
        ([run, path, "--classical", "wavelets"], "--classical: 'wavelets' is unknown; there are zero-filled"),
        ([run, path, "--baseline", "best"], "--baseline: 'best' is no row; there are zero-filled"),
        ([run, path, "-o", tmp_path], f"{tmp_path}: is a folder; name the page to write"),
        ([run, path, "-o", tmp_path / "x.json"], "the numbers lie beside the page; name that"),
        ([run, path, "accelaration=4"], "accelaration is unknown; did you mean 'acceleration'?"),
        ([run, path, "holdout=2"], "holdout: input should be less than 1"),
        ([run, f"path={tmp_path / 'nowhere'}"], f"{tmp_path / 'nowhere'}: not found"),
        ([tmp_path, path], f"{tmp_path}: no model there"),
    ):
        output = [] if "-o" in arguments else ["-o", tmp_path / "report.html"]
        assert complaint in refused("evaluate", *arguments, *output)
    assert tree(tmp_path) == []


@pytest.mark.real_data
def test_a_scan_of_which_no_more_exists_goes_all_the_way(real_data: Path, tmp_path: Path) -> None:
    """Undersampled in the scanner: trained on, chosen by Γ, reconstructed and scored, as any other."""
    scan = real_data / "multicoil" / "bart_picsbrain_8ch_poisson_undersampled.cfl"
    run, page = tmp_path / "run", tmp_path / "report.html"
    done("train", "default", f"data.target.path={scan}", f"output={run}", *TINY)
    done("reconstruct", run, scan, "-o", tmp_path / "image.npy")
    image = np.load(tmp_path / "image.npy")
    assert image.shape == (1, 180, 230)
    assert np.isfinite(image).all()
    done("evaluate", run, f"path={scan}", "--classical", "zero-filled", "-o", page)
    rows = scores(page)
    assert list(rows) == ["zero-filled", "run"]
    assert all(0 < row["means"]["gamma"]["mean"] < 1.5 for row in rows.values())
    assert all(row["means"]["psnr"] is None for row in rows.values())
    assert "not raw" not in page.read_text()


def labels(page: Path) -> list[str]:
    """Of a report."""
    told: list[str] = json.loads(page.with_suffix(".json").read_text())["labels"]
    return told


def test_labels_say_what_to_know_before_believing_a_number(
    page: Path, full: Path, run: Path, tmp_path: Path
) -> None:
    """Where maps are from, masks that no 2-D scan could have, references that a scanner filled in."""
    estimated, given = "maps from the calibration region of Ω", "maps from the file"
    assert labels(page) == ["not raw", estimated]
    (one,) = noref.read(full / "brain-0001.h5")[:1]
    points, filled = (
        "2-D masks: for comparison with the papers",
        "references filled in by parallel imaging",
    )
    # Acquired in lines whose first columns are zero.
    lines = acquisition_mask("lines", one.shape, 2, 16, Key(0, "", "mask"))
    lines[:, :4] = False
    maps = torch.ones(1, *one.kspace.shape, dtype=torch.complex64) / one.coils**0.5
    sampling = ["acceleration=2", "acs=16"]
    for name, scan, settings, expected in (
        ("lines", replace(one.undersampled(lines), clean=None), ["mask=acquired"], ["not raw", estimated]),
        ("points", one, ["mask=random2d", *sampling], ["not raw", points, estimated]),
        ("maps", replace(one, maps=maps), ["mask=lines", *sampling], ["not raw", given]),
        (
            "filled",
            replace(one, header=replace(one.header, acceleration=2.0)),
            ["mask=lines", "acquired=all", *sampling],
            ["not raw", filled, estimated],
        ),
    ):
        fastmri.write(tmp_path / f"{name}.h5", [scan])
        report = tmp_path / f"{name}.html"
        done(
            "evaluate",
            run,
            f"path={tmp_path / f'{name}.h5'}",
            *settings,
            "--classical",
            "zero-filled",
            "-o",
            report,
        )
        assert labels(report) == expected, name


def test_full_scans_beside_accelerated_ones_are_scored_without_gamma(
    full: Path, undersampled: Path, run: Path, tmp_path: Path
) -> None:
    both, page = tmp_path / "both", tmp_path / "report.html"
    both.mkdir()
    shutil.copy(full / "brain-0001.h5", both)
    shutil.copy(undersampled / "brain-0002.h5", both)
    done("evaluate", run, f"path={both}", "--classical", "zero-filled,cg-sense", "-o", page)
    for row in scores(page).values():
        whole, part = row["subjects"]
        assert whole["gamma"] is part["psnr"] is None
        assert whole["psnr"] > 20
        assert 0 < part["gamma"] < 1.5


def test_settings_say_how_a_model_was_not_trained_as_the_others(full: Path, tmp_path: Path) -> None:
    target = [
        f"data.target.path={full}",
        "data.target.mask=lines",
        "data.target.acs=16",
        "data.target.acceleration=2",
        "data.target.redraw=true",
    ]
    done("train", "supervised", *target, f"output={tmp_path / 'redrawn'}", *TINY)
    scored = [
        f"path={full / 'brain-0001.h5'}",
        "mask=lines",
        "acs=16",
        "acceleration=2",
        "role=target",
        "redraw=false",
    ]
    page = tmp_path / "report.html"
    told = refused("evaluate", tmp_path / "redrawn", *scored, "--classical", "zero-filled", "-o", page)
    assert "was trained on this scan with its reference" in told
    done(
        "simulate",
        tmp_path / "new",
        "--scans",
        "1",
        "--slices",
        "1",
        "--coils",
        "4",
        "--matrix",
        "48",
        "--first",
        "9",
    )
    scored[0] = f"path={tmp_path / 'new'}"
    done("evaluate", tmp_path / "redrawn", *scored, "--classical", "zero-filled", "-o", page)
    (said,) = json.loads(page.with_suffix(".json").read_text())["settings"].values()
    assert "masks drawn anew each epoch: not the oracle with one mask each" in said


def test_scores_are_of_the_clinical_field_of_view(tmp_path: Path) -> None:
    matrix, field = (48, 96), (48, 48)
    image = torch.zeros(matrix, dtype=torch.complex64)
    image[8:40, 30:66] = 1
    one = torch.ones(1, *matrix, dtype=torch.complex64)
    wide = acquire(image, one, id="a/b/000", matrix=matrix, noise_db=None, key=Key(0, "a", "noise"))
    fastmri.write(tmp_path / "b.h5", [replace(wide, clean=None, header=Header(crop=field))])
    settings = ["mask=lines", "acceleration=3", "acs=8", "holdout=0.1", "--classical", "zero-filled"]
    done("evaluate", f"path={tmp_path / 'b.h5'}", *settings, "-o", tmp_path / "report.html")
    told = scores(tmp_path / "report.html")["zero-filled"]
    done("reconstruct", "zero-filled", tmp_path / "b.h5", *settings[:3], "-o", tmp_path / "image.npy")
    written = np.abs(np.load(tmp_path / "image.npy"))
    assert written.shape == (1, *field)
    truth = np.abs(image[:, 24:72].numpy())[None]
    expected = by_scikit_image(truth, written)
    assert told["means"]["psnr"]["mean"] == pytest.approx(expected["psnr"], abs=0.01)
