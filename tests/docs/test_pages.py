"""Every page of docs/formats does what it says: its commands run, on real scans, and write what they name."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "noref"
PAGES = sorted((ROOT / "docs" / "formats").glob("*.md"))
TOLD = [ROOT / "docs" / "own-data.md", *PAGES]
"""Pages with a table of messages."""

OUTSIDE = {
    "ismrmrd_generate_cartesian_shepp_logan": "ismrmrd-tools, a package of Debian, are not installed",
}
"""Programs that pages call and noref does not bring."""

WRITTEN = re.compile(r"\s(?:-o|--output|--picture)\s+(\S+)|\boutput=(\S+)")
"""What a command writes."""

NAMED = re.compile(r"`((?:look|report|images|prepared|runs)\b[^`\s=…]*[./][^`\s=…]*)`")
"""Files that a text says are there."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `noref` and `python` of this environment."""
    folder = tmp_path_factory.mktemp("programs")
    address = folder / "socket"
    forked.install(folder, address)
    with subprocess.Popen([sys.executable, "-X", "utf8", forked.__file__, str(address)]) as server:
        try:
            while not address.exists():
                assert server.poll() is None
                time.sleep(0.05)
            yield folder
        finally:
            server.terminate()


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of a page's blocks, in order: what is to be run, and what comes of it (`text`)."""
    found: list[tuple[str, str]] = re.findall(
        r"^```(bash|python|text)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
    )
    return found


def written(script: str) -> set[str]:
    """The files and folders that a block's commands are told to write."""
    commands = re.sub(r"\s#.*", "", script.replace("\\\n", " "))
    return {one or other for one, other in WRITTEN.findall(commands)}


@pytest.mark.real_data
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, real_data: Path, programs: Path, tmp_path: Path) -> None:
    run = blocks(page)
    assert any(language == "bash" for language, _ in run), "nothing on this page is run"
    for program, missing in OUTSIDE.items():
        if any(program in script for _, script in run) and shutil.which(program) is None:
            pytest.skip(missing)
    environment = os.environ | {
        "NOREF_DATA": str(real_data),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    work, said = tmp_path / "work", ""
    work.mkdir()
    for number, (language, script) in enumerate(run):
        if language == "text":
            for line in script.splitlines():
                assert " ".join(line.split()) in said, f"{line!r} was not said:\n{said}"
            continue
        file = tmp_path / f"block{number}"
        file.write_text(script)
        command = ["bash", "-euo", "pipefail"] if language == "bash" else [str(programs / "python")]
        done = subprocess.run(
            [*command, str(file)],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        assert "Traceback" not in done.stdout
        said = " ".join(done.stdout.split())
        for name in written(script) if language == "bash" else ():
            assert (work / name).exists(), f"{name} was not written:\n{done.stdout}"
    for name in NAMED.findall(page.read_text()):
        assert (work / name).exists(), f"{page.name} names {name}, which was not written"


def messages() -> list[str]:
    """Every text in noref's code; what is filled in stands as `…`."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.stem)
def test_messages_are_those_of_noref(page: Path) -> None:
    _, *table = page.read_text().partition("| message | what to do |")[2].splitlines()
    told = [row.split("`")[1] for row in table if row.startswith("| `")]
    assert told
    known = messages()
    for message in told:
        pattern = re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)
        assert any(map(pattern.search, known)), f"noref never says {message!r}"
