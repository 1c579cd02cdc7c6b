"""`noref demo`, with everything small."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest
from command import done, noref, refused

from noref import api
from noref.config import Config
from noref.training import Interrupted

demo = sys.modules["noref.cli.demo"]  # the package's own `demo` is the command
ROWS = ["zero-filled", "cg-sense", "wavelet", "ssdu", "default", "supervised"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller scans, fewer of them; the recipes stay, their networks shrink with the demo's."""
    monkeypatch.setattr(demo, "simulate", partial(demo.simulate, matrix=64, coils=3))
    for part in ("VALIDATION_SUBJECTS", "TEST_SUBJECTS"):
        monkeypatch.setattr(demo, part, 2)

    def tiny(name: str, overrides: list[str]) -> Config:
        smaller = ["network.phases=2", "network.features=4"] if name == "demo" else []
        return api.load_config(name, [*overrides, *smaller])

    monkeypatch.setattr(demo, "load_config", tiny)


@pytest.mark.usefixtures("small")
def test_the_demo_simulates_trains_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "a demo"
    options = ["-o", output, "--subjects", "2", "--epochs", "1"]

    # Stopped in its second training.
    train = api.train

    def stop_at_default(config: Config, *, resume: bool) -> Path:
        if Path(config.output).name == "default":
            raise Interrupted
        return train(config, resume=resume)

    monkeypatch.setattr(api, "train", stop_at_default)
    stopped = noref("demo", *options)
    assert stopped.code == 130
    again = f"noref demo --output '{output}' --subjects 2 --epochs 1 --resume"
    assert stopped.err.splitlines()[-1] == f"noref: stopped and saved; go on with: {again}"
    monkeypatch.setattr(api, "train", train)
    assert refused("demo", *options).endswith(
        "already holds files; go on with --resume, or give another --output"
    )
    assert refused("demo", "-o", output, "--subjects", "3", "--resume").endswith(
        "holds 2 subjects, not 3; give another --output"
    )

    told = done("demo", *options, "--resume")
    assert told.out == f"{output / 'report.html'}\n"
    table = told.err[told.err.index("PSNR") :].splitlines()
    assert [line.split()[0] for line in table[1:7]] == ROWS
    parts = ("test", "train", "validation")
    assert [path.name for path in sorted((output / "data").iterdir())] == list(parts)
    subjects = [path.name for part in parts for path in (output / "data" / part).iterdir()]
    assert len(set(subjects)) == 3 * 2  # nobody is in two parts
    scores = json.loads((output / "report.json").read_text())
    assert [row["name"] for row in scores["methods"]] == ROWS
    assert scores["baseline"] == "wavelet"
    assert all(row["means"]["psnr"]["mean"] > 10 for row in scores["methods"])
    # Every command that the page shows is one.
    assert [command.split()[1] for command in scores["commands"]] == [
        *("simulate", "simulate", "simulate", "train", "train", "train", "evaluate")
    ]


def test_the_demo_keeps_off_a_file(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    assert "already holds files" in refused("demo", "-o", tmp_path / "demo")
    assert (tmp_path / "demo").read_text() == "mine"
