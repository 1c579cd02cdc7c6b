"""`noref benchmark`, on phantoms in the place of the scans."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from command import done, noref, refused

from noref import api
from noref.config import Config
from noref.data.phantoms import phantom
from noref.experiments import EXPERIMENTS
from noref.experiments.experiment import Pooled
from noref.seeding import Key
from noref.training import Interrupted

ROWS = ("ssdu", "default", "supervised")
SMALL = ["--phases", "1", "--features", "3", "--matrix", "48", "--steps", "20", "--threads", "1"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as that of the real scans, with six short scans of phantoms."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "brain_siat").mkdir()
    for scan in range(1, 7):
        head = np.kron(phantom("brain", (135, 128), Key(scan, "head", "phantom")).numpy(), np.ones((2, 2)))
        slices = np.stack([np.roll(head, shift, axis=1) for shift in (0, 16)])
        np.save(folder / "brain_siat" / f"siat_scan{scan}_test.npy", slices.astype(np.complex64))
    return folder


def command(scans: Path, output: Path, *rows_wanted: str) -> list[str]:
    rows = [word for row in rows_wanted or ROWS for word in ("--row", row)]
    return ["benchmark", "brain", "--data", str(scans), "-o", str(output), "--condition", "8x", *rows, *SMALL]


def test_an_experiment_is_trained_scored_and_reported(
    tmp_path: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, trained = api.train, list[str]()

    def stop_at_supervised(config: Config, *, resume: bool) -> Path:
        trained.append(Path(config.output).name)
        if Path(config.output).name == "supervised" and "supervised" not in trained[:-1]:
            raise Interrupted
        return train(config, resume=resume)

    monkeypatch.setattr(api, "train", stop_at_supervised)
    words = [*command(scans, tmp_path / "out"), "--seed", "0", "--seed", "1"]
    stopped = noref(*words)
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == f"noref: stopped and saved; go on with: noref {' '.join(words)}"
    listed = done(*words, "--list").out.splitlines()
    assert [line.split()[1:4] for line in listed[:-1]] == [
        [row, "seed", seed] for seed in "01" for row in ("ssdu", "default", "supervised")
    ]
    assert listed[-1] == "4 of 6 runs are to be trained"

    assert done(*words, "--train").out == ""
    assert not list((tmp_path / "out").rglob("report.html"))
    result = done(*words, "--results", tmp_path / "numbers")
    assert trained == ["ssdu", "default", "supervised", "supervised", "ssdu", "default", "supervised"]
    page = Path(result.out.strip())
    assert page == tmp_path / "out" / "brain" / "8x" / "report.html"
    text = page.read_text()
    for said in ("not raw", "2-D masks", "PSNR against Γ, every checkpoint", "Rank correlation of Γ"):
        assert said in text
    numbers = json.loads((tmp_path / "numbers" / "brain-8x.json").read_text())
    assert [method["name"] for method in numbers["methods"]] == [*EXPERIMENTS["brain"].classical, *ROWS]
    assert len(numbers["methods"][-1]["subjects"]) == 2
    assert numbers["descriptive"]
    assert numbers["commands"] == ["noref " + " ".join([*words, "--results", str(tmp_path / "numbers")])]
    columns = {column["name"]: column["cells"] for column in numbers["columns"]}
    assert set(columns["PSNR by seed"]) == set(columns["Training"]) == set(ROWS)
    # Every row that is no end of the distance.
    assert set(columns["Distance closed"]) == {*EXPERIMENTS["brain"].classical, "default"}

    trained.clear()
    assert done(*words, "--score").out == result.out
    assert trained == []
    # A table holds all that was trained of it, whatever part of it was asked for.
    part = [*command(scans, tmp_path / "out", "default"), "--seed", "0", "--results", str(tmp_path / "part")]
    assert done(*part).out == result.out
    again = json.loads((tmp_path / "part" / "brain-8x.json").read_text())
    assert [method["means"]["psnr"] for method in again["methods"]] == [
        method["means"]["psnr"] for method in numbers["methods"]
    ]
    assert refused(*words, "--features", "4").endswith(
        "brain: begun with features 3; give the same, or another --output"
    )


def test_a_table_grows_where_its_runs_are_no_more(tmp_path: Path, scans: Path) -> None:
    numbers = tmp_path / "numbers"

    def table(output: str, *rows: str) -> dict[str, Any]:
        done(*command(scans, tmp_path / output, *rows), "--seed", "0", "--results", numbers)
        found: dict[str, Any] = json.loads((numbers / "brain-8x.json").read_text())
        return found

    def means(of: dict[str, Any]) -> dict[str, float]:
        return {method["name"]: method["means"]["psnr"]["mean"] for method in of["methods"]}

    first = table("one", "ssdu", "supervised")
    shutil.rmtree(tmp_path / "one")
    listed = done(*command(scans, tmp_path / "other"), "--seed", "0", "--results", numbers, "--list").out
    assert [line.split("seed 0")[1].split(" h")[-1].strip() for line in listed.splitlines()[:-1]] == [
        ", scores kept",
        "to do",
        ", scores kept",
    ]
    second = table("other", *ROWS)
    assert not (tmp_path / "other" / "brain" / "8x" / "seed-0" / "ssdu").exists()
    assert list(means(second)) == [*EXPERIMENTS["brain"].classical, *ROWS]  # in the experiment's order
    assert {name: means(second)[name] for name in means(first)} == pytest.approx(means(first), abs=1e-3)
    assert len(second["commands"]) == 2
    columns = {column["name"]: column["cells"] for column in second["columns"]}
    assert set(columns["Training"]) == set(ROWS)
    assert "default" in columns["Distance closed"]
    page = (tmp_path / "other" / "brain" / "8x" / "report.html").read_text()
    assert page.count('<svg viewBox="0 0 24 4"') == len(ROWS)  # the curves of all
    # A seed more of a row that is kept: the row's pictures are of the one that is here.
    done(*command(scans, tmp_path / "third", "ssdu"), "--seed", "1", "--results", numbers)
    third = json.loads((numbers / "brain-8x.json").read_text())
    spread = {column["name"]: column["cells"] for column in third["columns"]}["PSNR by seed"]
    assert set(spread) == {"ssdu"}
    assert spread["ssdu"].endswith("(2)")
    lines = [json.loads(line) for line in (numbers / "brain-8x.jsonl").read_text().splitlines()]
    assert [(line["row"], line["seed"]) for line in lines] == [
        ("ssdu", 0),
        ("ssdu", 1),
        ("default", 0),
        ("supervised", 0),
    ]
    page = (tmp_path / "third" / "brain" / "8x" / "report.html").read_text()
    assert page.count("<b>ssdu</b>") == 2  # the best slice and the worst
    assert "<b>supervised</b>" not in page
    assert means(third)["ssdu"] == pytest.approx(
        fmean(fmean(of["psnr"] for of in line["scores"].values()) for line in lines[:2]), rel=1e-4
    )
    new = command(scans, tmp_path / "fourth")
    assert "brain-8x.jsonl: line 1 is of another size, matrix 48, phases 1, features 3" in refused(
        *new, "--features", "4", "--results", str(numbers)
    )
    assert not (tmp_path / "fourth").exists()


def test_scans_of_several_tables_are_pooled(
    tmp_path: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled = replace(
        EXPERIMENTS["brain"], pooled={"two": Pooled(("8x", "8x-fold1"), "Both test.", "reasons")}
    )
    monkeypatch.setitem(EXPERIMENTS, "brain", pooled)
    words = [*command(scans, tmp_path / "out", "ssdu"), "--results", str(tmp_path / "numbers")]
    home = tmp_path / "out" / "brain"
    assert done(*words, "--seed", "0").out.split() == [str(home / "8x" / "report.html")]
    # The other table is not scored again.
    words[words.index("8x")] = "8x-fold1"
    pages = [str(home / name / "report.html") for name in ("8x-fold1", "two")]
    assert done(*words).out.split() == pages
    numbers = json.loads((tmp_path / "numbers" / "brain-two.json").read_text())
    names = [[of["subject"].split("/")[0] for of in method["subjects"]] for method in numbers["methods"]]
    assert names == [["siat6", "siat6", "siat1", "siat1"]] * len(names)
    assert [method["name"] for method in numbers["methods"]] == [*EXPERIMENTS["brain"].classical, "ssdu"]


def test_bad_input_is_one_line(tmp_path: Path, scans: Path) -> None:
    assert refused("benchmark", "brian").endswith("brian: no such experiment; did you mean 'brain'?")
    given = command(scans, tmp_path / "out")
    assert refused(*given, "--condition", "9x").endswith("--condition: '9x' is unknown; did you mean '8x'?")
    assert refused(*given, "--network", "vsharb").endswith("'vsharb' is unknown; did you mean 'vsharp'?")
    assert refused(*given, "--row", "idl").endswith("--row: 'idl' is unknown; did you mean 'idr'?")
    assert "no run is of that" in refused(*given, "--seed", "7")
    assert "--train and --score: that leaves nothing to do" in refused(*given, "--train", "--score")
    odd = command(scans, tmp_path / "odd")
    assert "21 steps are not whole epochs of 2" in refused(*odd, "--steps", "21")
    missing = ["benchmark", "brain", "--data", str(tmp_path / "nowhere"), "-o", str(tmp_path / "new")]
    assert refused(*missing).endswith(
        "brain_siat: there must be one siat_scan1_*.npy; give --data the folder that holds the scans of the "
        "standing experiments"
    )
    assert not (tmp_path / "new" / "brain" / "data").exists()
