"""The harness that measures speed: at tiny sizes, whose figures mean nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.speed import page, worker
from benchmarks.speed.guard import slowdown, slower
from benchmarks.speed.limit import recorded, replayed
from benchmarks.speed.measure import Measured, Result, measure, three
from benchmarks.speed.profile import profiled
from benchmarks.speed.results import FOLDER, Results
from benchmarks.speed.row import Row, Setting, Side, Work, relative
from benchmarks.speed.rows import ROWS
from benchmarks.speed.rows.maps import aligned

DOCS = Path(__file__).parents[2] / "docs"


def result(ours: float, limit: float, peer: float) -> Result:
    """A row in which noref and others took so long."""

    def side(time: float) -> Measured:
        ratio = time / ours
        return Measured(cpu=(time,) * 3, wall=(time,) * 3, peak=1.0, versus="noref", ratio=(ratio,) * 3)

    first = replace(side(ours), versus="", ratio=None)
    sides = {"noref": first, "peer": side(peer), "convolutions alone": side(limit)}
    return Result("2026-01-01 00:00", (0.0, 0.0), 3, sides)


def test_a_row_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    ssim = ROWS["ssim"]
    # The row's process knows no such side, and ends.
    absent = Side("absent", ssim.sides[0].build)
    row = replace(ssim, sides=(*ssim.sides[:2], absent))
    measured = measure(row, device="cpu", small=True, seconds=1, rounds=2, threads=1)
    ours, gradient, skipped = measured.sides.values()
    assert measured.rounds == 2
    assert ours.cpu is not None
    assert min(ours.cpu) > 0
    assert gradient.agrees
    assert gradient.ratio is not None
    assert skipped.skipped.startswith("ended: ")
    results = Results("cpu", rows={row.name: measured})
    results.save(tmp_path / "cpu.json")
    again = Results.load(tmp_path / "cpu.json", "cpu")
    assert again.rows[row.name].sides["noref"].cpu == pytest.approx(ours.cpu, rel=1e-4)
    assert "absent skipped" in page.render(again)


@pytest.mark.parametrize("name", ["istanet", "vsharp", "load", "cg-sense", "supervision"])
def test_work_of_noref_runs(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    side = ROWS[name].sides[0]
    work = side.build(Setting(tmp_path, small=True))
    work.run()
    if work.output is not None:
        assert np.isfinite(work.output()).all()


def test_a_side_says_what_is_missing() -> None:
    side = Side("peer", lambda setting: pytest.fail(str(setting)), ("json", "no_such_peer"))
    assert side.missing() == "no_such_peer cannot be imported: No module named 'no_such_peer'"
    assert not Side("noref", side.build).missing()


def test_a_gpu_is_timed_by_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            done.append("event")

        def elapsed_time(self, end: Event) -> float:
            assert end is not self
            return 6.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("wait"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20)
    work = Work(lambda: done.append("work"))
    assert worker.timed(work, "cuda", 2)["wall"] == 3.0
    assert done == ["wait", "event", "work", "work", "event", "wait"]
    assert worker.memory(work, "cuda", imported=100.0) == {"peak": 3.0}


def test_a_pass_is_profiled(tmp_path: Path) -> None:
    operators = profiled(ROWS["vsharp-paper"], Setting(tmp_path, small=True))
    assert any("conv" in name and calls > 0 and time > 0 for name, calls, time in operators)


def test_convolutions_are_counted_once_with_checkpoints() -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1)
    image = torch.randn(1, 2, 8, 8)
    plain = recorded(lambda: layer(image).sum().backward())
    saving = recorded(
        lambda: torch.utils.checkpoint.checkpoint(layer, image, use_reentrant=False).sum().backward()
    )
    assert plain == saving
    (one,) = plain
    assert (one.input, one.weight, one.output) == ((1, 2, 8, 8), (3, 2, 3, 3), (1, 3, 8, 8))
    assert one.wanted == (False, True, True)
    again = recorded(replayed(plain, "cpu"))
    assert again == plain


def test_a_slowdown_is_told_beside_the_convolutions_alone() -> None:
    before, now = result(100, 80, 150), result(130, 80, 150)
    assert slowdown(before, now, "noref") == pytest.approx(1.3)
    # A slower machine slows all.
    assert slowdown(before, result(200, 160, 300), "noref") == pytest.approx(1)
    row = replace(ROWS["unet"], sides=(replace(ROWS["unet"].sides[0], name="noref"),))
    assert slower([row], {"unet": before}, lambda _: now) == {"unet": pytest.approx(1.3)}
    assert slower([row], {"unet": before}, lambda _: before) == {}
    assert slower([row], {}, lambda _: now) == {}


def test_a_slowdown_must_be_seen_twice() -> None:
    before, seen = result(100, 80, 150), [result(130, 80, 150), result(101, 80, 150)]
    row = ROWS["unet"]
    assert slower([row], {"unet": before}, lambda _: seen.pop(0)) == {}
    assert not seen


def test_figures() -> None:
    assert three([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 3.0, 4.0)
    assert three([2.0]) == (2.0, 2.0, 2.0)
    assert relative(np.array([1.0, -2.0]), np.array([1.0, -1.0])) == 0.5
    assert [page.number(value) for value in (123.4, 12.34, 1.234)] == ["123", "12.3", "1.23"]


def test_maps_differ_by_more_than_their_phases() -> None:
    rng = np.random.default_rng(0)
    maps, error = rng.standard_normal((2, 4, 6, 5)) + 1j * rng.standard_normal((2, 4, 6, 5))
    maps[:, 0] = 0
    turned = maps * np.exp(1j * rng.uniform(-np.pi, np.pi, (6, 5)))
    assert aligned(maps, turned) < 1e-12
    assert aligned(maps, 1.5 * turned) == pytest.approx(0.5)
    # Linear in the error, so that float32 resolves it.
    small, large = (aligned(maps, (turned + size * error).astype(np.complex64)) for size in (1e-4, 1e-2))
    assert small == pytest.approx(large / 100, rel=0.02)


def test_one_turn_has_no_quartiles_and_tolerances_are_told() -> None:
    measured = result(100, 80, 150)
    peer = replace(measured.sides["peer"], difference=2e-5, agrees=True)
    sides = {"noref": measured.sides["noref"], "fastMRI": peer}
    found = Results("cpu", rows={"unet": replace(measured, rounds=1, sides=sides)})
    told = page.render(found)
    assert "one turn, load average" in told
    assert "| fastMRI | 150 [one turn] | 150 [one turn] | 1.00 | 1.50× | 2.0e-05 (≤ 1e-04) |" in told
    found.rows["unet"] = replace(measured, sides={**sides, "fastMRI": replace(peer, agrees=False)})
    told = page.render(found)
    assert "| fastMRI | 150 [150–150] |" in told
    assert "1.50× [1.50–1.50] | **2.0e-05 (≤ 1e-04), too much** |" in told


def test_every_row_has_sides_to_compare_and_names_of_its_own() -> None:
    for row in ROWS.values():
        names = [side.name for side in row.sides]
        assert names[0].startswith("noref")
        assert len(set(names)) == len(names)
        assert {side.versus for side in row.sides} <= {"", *names}
    assert isinstance(ROWS["unet"], Row)


def test_the_page_is_written_from_the_results() -> None:
    found = {device: Results.load(FOLDER / f"{device}.json", device) for device in ("cpu", "cuda")}
    assert (DOCS / "speed.md").read_text() == page.render(found["cpu"], found["cuda"])
