from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noref.errors import NorefError
from noref.evaluation import MethodResult, Report, SubjectScore, write_report

DESCRIPTIVE = "intervals are descriptive and no significance is claimed"
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """The page as a reader meets it: balanced tags, addresses, texts, and the rows of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self.open):
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == name)

    def pictures(self) -> list[Image.Image]:
        sources = [attrs["src"] or "" for tag, attrs in self.tags if tag == "img" and "src" in attrs]
        prefix = "data:image/png;base64,"
        assert all(source.startswith(prefix) for source in sources)
        decoded = [Image.open(io.BytesIO(base64.b64decode(s.removeprefix(prefix)))) for s in sources]
        assert all(picture.format == "PNG" for picture in decoded)
        return decoded


def report(subjects: int, references: bool = True) -> Report:
    """Two methods; PSNR 30, 31, … of the first, two dB more for the second."""
    names = [f"sub-{i}" for i in range(subjects)]
    reference = np.linspace(0, 1, 24 * 20).reshape(24, 20)

    def result(name: str, gain: float, error: float) -> MethodResult:
        quality = (30.0 + gain, 0.8 + gain / 100, 0.02 - gain / 200) if references else (None, None, None)
        scores = []
        for i, subject in enumerate(names):
            psnr, ssim, nmse = (
                None if value is None else value + (j == 0) * i for j, value in enumerate(quality)
            )
            gamma = 0.0502 - gain / 100 + i / 1000
            scores.append(SubjectScore(subject, psnr, ssim, nmse, nmse, nmse, gamma, 1.5))
        return MethodResult(name, scores, dict.fromkeys(names, reference + error))

    rows = [{"step": s, "stage": s // 50, "loss": 1 / (1 + s)} for s in range(100)]
    rows += [{"step": s, "gamma": 1 / (1 + s), "psnr": 20 + s / 10} for s in range(0, 100, 10)]
    return Report(
        title="A report",
        results=[result("plain", 0, 0.1), result("better", 2, 0.02)],
        intro="What the data are.\n\nAnd more.",
        commands=["noref evaluate runs/*"],
        labels=["not raw"],
        ceiling_psnr=38.456,
        baseline="plain",
        references=dict.fromkeys(names, reference) if references else {},
        masks=dict.fromkeys(names, reference > 0.5),
        curves={"better": rows},
        settings={"seed": "17"},
        notes=["A note."],
    )


def written(folder: Path, what: Report) -> tuple[str, Page]:
    write_report(folder / "report.html", what)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_stands_alone(tmp_path: Path) -> None:
    text, page = written(tmp_path, report(8))
    assert not re.search(r"https?:|@import|url\(", text)
    assert page.pictures()
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "embed")
        assert "srcset" not in attrs
        assert (attrs.get("href") or "#").startswith("#")
        assert tag != "script" or not attrs
    anchors = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert anchors == {f"#{attrs['id']}" for tag, attrs in page.tags if tag == "section"}


def test_the_numbers_are_means_over_subjects(tmp_path: Path) -> None:
    _, page = written(tmp_path, report(8))
    sd = np.std(np.arange(8), ddof=1)
    assert page.row("plain")[1:4] == [f"33.50 ± {sd:.2f}", "0.800 ± 0.000", "0.020 ± 0.000"]
    assert page.row("better")[1] == f"35.50 (best) ± {sd:.2f}"
    assert page.row("better")[3:7:3] == ["0.010 (best) ± 0.000", "0.034 (best) ± 0.002"]
    assert page.row("plain")[-1] == "baseline"
    # Eight differences of one sign: p = 2/2⁸, and no second comparison to correct for.
    assert page.row("better")[-1] == "+2.00 +2.00 to +2.00, p = 0.008"
    assert "38.46" in next(row for row in page.rows if row[0].startswith("Ceiling"))[1]
    assert page.row("sub-3") == ["sub-3", "33.00", "35.00"]
    assert "better has the highest PSNR: 35.50 dB, the mean over 8 subjects; 2.00 dB above plain" in page.text
    assert DESCRIPTIVE not in page.text


def test_few_subjects_claim_nothing(tmp_path: Path) -> None:
    _, page = written(tmp_path, report(5))
    assert f"With fewer than 6 subjects, {DESCRIPTIVE}" in page.text
    assert "p = " not in page.text
    assert "bootstrap" not in page.text


def test_scans_of_one_subject_are_not_more_subjects(tmp_path: Path) -> None:
    what = report(8)
    what = replace(
        what,
        results=[
            replace(r, scores=[replace(s, subject=f"sub-{i % 2}/{i}") for i, s in enumerate(r.scores)])
            for r in what.results
        ],
    )
    _, page = written(tmp_path, what)
    assert "the mean over 8 scans of 2 subjects; 2.00 dB above plain" in page.text
    assert "Every dot is a scan" in page.text
    assert f"With fewer than 6 subjects, {DESCRIPTIVE}" in page.text
    assert "p = " not in page.text


def test_methods_are_ranked_by_gamma_too(tmp_path: Path) -> None:
    """Where references can tell what that costs: of two methods no rank is to be had."""
    what = report(8)
    _, page = written(tmp_path, what)
    assert "would have chosen" not in page.text

    def third(gain: float, gamma: float) -> Report:
        scores = [replace(s, psnr=gain + (s.psnr or 0), gamma=gamma) for s in what.results[0].scores]
        return replace(what, results=[*what.results, MethodResult("third", scores)])

    for folder, made, said in (
        (
            "alike",
            third(1, 0.04),
            "Of the 3 methods with both, Γ, which needs no reference, would have chosen better, the best",
        ),
        ("misled", third(-3, 0.01), "would have chosen third, 5.00 dB below the best"),
    ):
        (tmp_path / folder).mkdir()
        _, page = written(tmp_path / folder, made)
        assert said in page.text


def test_one_subject_has_no_spread(tmp_path: Path) -> None:
    _, page = written(tmp_path, report(1))
    assert page.row("plain")[1] == "30.00"
    assert page.row("better")[-1] == "+2.00"
    assert "2.00 dB above plain." in page.text


def test_best_median_and_worst_subject_are_pictured(tmp_path: Path) -> None:
    _, page = written(tmp_path, report(7))
    for name, role in (("sub-6", "best"), ("sub-3", "median"), ("sub-0", "worst")):
        assert f"{name} {role} by PSNR of better" in page.text
    # A reference, a mask, two methods with their errors and a colour bar for each of three subjects.
    assert len(page.pictures()) == 3 * 7
    kinds = [attrs["data-kind"] for tag, attrs in page.tags if tag == "button"]
    assert kinds[:6] == ["image", "mask", "image", "error", "image", "error"]


def test_all_methods_are_shown_in_the_references_window(tmp_path: Path) -> None:
    what = report(1)
    reference = what.references["sub-0"]
    _, page = written(tmp_path, what)
    shown, mask, plain, error, *_ = page.pictures()
    top = np.percentile(reference, 99.5)
    np.testing.assert_allclose(np.asarray(shown), np.clip(255 * reference / top, 0, 255), atol=0.51)
    np.testing.assert_allclose(np.asarray(plain), np.clip(255 * (reference + 0.1) / top, 0, 255), atol=0.51)
    assert (np.asarray(mask) == 255 * (reference > 0.5)).all()
    assert (
        len(np.unique(np.asarray(error.convert("RGB")).reshape(-1, 3), axis=0)) == 1
    )  # the error is 0.1 all over


def test_without_any_reference(tmp_path: Path) -> None:
    _, page = written(tmp_path, replace(report(7, references=False), ceiling_psnr=None))
    assert page.row("better")[1:4] == ["–", "–", "–"]
    assert "No reference exists for these scans: methods are compared by Γ alone." in page.text
    assert "better has the lowest Γ: 0.033, the mean over 7 subjects; 0.020 below plain" in page.text
    assert "sub-0 best by Γ of better" in page.text
    assert len(page.pictures()) == 3 * 3
    assert "error ×5" not in page.text


def test_a_subject_that_one_method_lacks(tmp_path: Path) -> None:
    what = report(8)
    plain, better = what.results
    short = replace(better, scores=better.scores[4:])
    _, page = written(tmp_path, replace(what, results=[plain, short]))
    assert page.row("better")[1].endswith("4 of 8")
    assert "(best)" not in page.text  # means over different subjects do not compare
    assert page.row("better")[-1] == "+2.00 +2.00 to +2.00"
    assert page.row("sub-0") == ["sub-0", "30.00", "–"]


def test_only_scores(tmp_path: Path) -> None:
    scores = [SubjectScore("a", float("inf"), 1.0, 0.0, 0.0, 0.0, None, 0.1)]
    text, page = written(tmp_path, Report("Bare", [MethodResult("same", scores)]))
    assert page.row("same") == ["same", "–", "1.000", "0.00", "0.00", "0.00", "–", "0.10"]
    assert "<svg" not in text
    assert "Training" not in page.text


def test_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> & \"quoted\" 'single'"
    what = report(2)
    plain, better = (
        replace(
            result,
            name=f"{result.name} {evil}",
            scores=[replace(score, subject=f"{score.subject} {evil}") for score in result.scores],
            images={f"{name} {evil}": image for name, image in result.images.items()},
        )
        for result in what.results
    )
    text, page = written(
        tmp_path,
        replace(
            what,
            title=evil,
            results=[plain, better],
            intro=evil,
            commands=[evil],
            labels=[evil],
            baseline=plain.name,
            curves={evil: what.curves["better"]},
            settings={evil: evil},
            notes=[evil],
            references={},
            masks={},
        ),
    )
    assert "<script>alert" not in text
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.text.count(evil) > 15
    assert {attrs["alt"] for tag, attrs in page.tags if tag == "img"} >= {plain.name, better.name}


def test_scores_json_holds_the_numbers(tmp_path: Path) -> None:
    what = report(8)
    write_report(tmp_path / "report.html", what)
    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    plain, better = numbers["methods"]
    assert plain["name"] == "plain"
    assert plain["means"]["psnr"] == {"mean": 33.5, "sd": pytest.approx(np.sqrt(6)), "volumes": 8}
    assert plain["subjects"][3] == {
        "subject": "sub-3",
        "psnr": 33.0,
        "ssim": 0.8,
        "nmse": 0.02,
        "nmae": 0.02,
        "hfen1": 0.02,
        "gamma": pytest.approx(0.0532),
        "seconds": 1.5,
    }
    assert plain["differences"] == {}
    assert better["differences"]["psnr"]["mean"] == pytest.approx(2)
    assert better["differences"]["gamma"]["high"] == pytest.approx(-0.02)
    assert numbers["ceiling_psnr"] == 38.456
    assert not numbers["descriptive"]


def test_infinite_scores_are_valid_json(tmp_path: Path) -> None:
    scores = [SubjectScore("a", float("inf"), float("nan"), None, None, None, 0.1, 1.0)]
    write_report(tmp_path / "report.html", Report("t", [MethodResult("m", scores)]))
    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert numbers["methods"][0]["subjects"][0]["psnr"] is None
    assert numbers["methods"][0]["means"]["ssim"] is None


def test_training_is_drawn_and_gamma_judged(tmp_path: Path) -> None:
    text, page = written(tmp_path, report(3))
    assert "Training loss over the steps of better" in text
    assert "A dashed line marks a step at which a run began its next stage." in page.text
    assert page.row("better")  # of the scores
    judged = next(row for row in page.rows if row[0] == "better" and len(row) == 4)
    assert judged == ["better", "10", "1.00", "0.00"]


def test_the_same_report_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name / "report.html", report(8))
    for file in ("report.html", "report.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(NorefError, match=r"report\.html: cannot be written"):
        write_report(tmp_path / "report.html", report(2))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": []}, "no results"),
        ({"baseline": "other"}, "choose from plain, better"),
        ({"pictured_by": "other"}, "choose from plain, better"),
    ],
)
def test_what_cannot_be_reported(change: dict[str, object], message: str) -> None:
    with pytest.raises(NorefError, match=message):
        replace(report(2), **change)
    doubled = report(2).results[:1] * 2
    with pytest.raises(NorefError, match="two methods of one name"):
        Report("t", doubled)
