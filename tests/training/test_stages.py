"""Refinement's stages: whose images they learn from, and what happens to one that does harm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from files import tiny
from scans import engine, lines, network, same, targets, weights
from scipy import stats
from synthetic import maps
from torch import Tensor

from noref.api import build_engine
from noref.errors import NorefError
from noref.methods import Method, Refinement, Subset
from noref.networks import Network
from noref.networks.refinedmaps import RefinedMaps
from noref.training import Engine
from noref.training.checkpoint import fingerprint
from noref.training.state import chance_of_no_harm, least_chance
from noref.training.store import Origin, TeacherStore

ORIGIN = Origin(run="0123456789abcdef", stage=1, step=6)
SMALL = ((20, 16),)


def staged(folder: Path, stages: int = 3, update: bool = True, scans: int = 3, **changes: object) -> Engine:
    """Tiny stages of one step each on scans of as many volumes."""
    method = Refinement(Subset(), stages=stages, update=update)
    given = {"epochs": 1, "batch": scans, **changes}
    return engine(folder, method, network(phases=1, features=2), data=targets(scans, SMALL), **given)


def harm(
    monkeypatch: pytest.MonkeyPatch, by: dict[int, float], scans: int = 6
) -> dict[int, dict[str, Tensor]]:
    """Γ of every stage, told instead of measured; gives the weights that each stage was validated with."""
    seen: dict[int, dict[str, Tensor]] = {}

    def scripted(method: Method, net: Network, *_: object) -> tuple[list[float], list[float]]:
        seen[method.stage] = {f"network.{name}": t.clone() for name, t in net.state_dict().items()}
        return [0.5 + 0.01 * scan + by[method.stage] * (1 + 0.1 * scan) for scan in range(scans)], []

    monkeypatch.setattr("noref.training.engine.score_holdout", scripted)
    return seen


# roll-back


@pytest.mark.parametrize("harmful", [1, 2])
def test_a_harmful_stage_is_taken_back_and_refinement_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], harmful: int
) -> None:
    seen = harm(monkeypatch, {0: 0.0, 1: -0.1, 2: -0.2, harmful: 0.1})
    trained = staged(tmp_path, stages=4, scans=6)
    trained.run()
    assert set(seen) == set(range(harmful + 1))
    assert not same(seen[harmful], seen[harmful - 1])
    assert same(weights(trained), seen[harmful - 1])
    progress = trained.progress
    assert (progress.finished, progress.stage, progress.taken) == (True, harmful - 1, harmful + 1)
    assert progress.best == pytest.approx(np.mean(progress.gammas[harmful - 1][0]))
    assert len(progress.gammas) == harmful + 1, "the record of the stage is lost"
    said = capfd.readouterr().err
    assert f"stage {harmful}: Γ is worse than after stage {harmful - 1} (p = 0.016): rolled back" in said
    (line,) = (line for line in lines(trained) if "rolled_back" in line)
    assert line == {"step": harmful + 1, "epoch": 0, "stage": harmful, "rolled_back": True, "p": 1 / 64}
    left = {folder.name for folder in (tmp_path / "teacher").iterdir()}
    assert left == {f"stage-{stage}" for stage in range(1, harmful)}
    assert trained.method.stage == harmful - 1
    again = staged(tmp_path, stages=4, scans=6)
    again.resume()
    again.run()
    assert same(weights(again), seen[harmful - 1])
    assert again.progress == progress


@pytest.mark.parametrize(
    ("by", "scans", "level"),
    [
        ({0: 0.0, 1: 0.1}, 4, 0.05),  # four volumes cannot tell
        ({0: 0.0, 1: 0.1}, 6, 0.0),  # not asked for
        ({0: 0.0, 1: 0.1}, 6, 0.01),  # p is 1/64
        ({0: 0.0, 1: 0.0}, 6, 0.05),
        ({0: 0.0, 1: -0.1}, 6, 0.05),
    ],
)
def test_other_stages_stay(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    by: dict[int, float],
    scans: int,
    level: float,
) -> None:
    seen = harm(monkeypatch, by, scans)
    trained = staged(tmp_path, stages=2, rollback=level, scans=scans)
    trained.run()
    few = "too few volumes" in (said := capfd.readouterr().err)
    assert few == (level > 0 and 2**-scans >= level)
    assert said.count("no stage will be taken back") == few
    assert same(weights(trained), seen[1])
    assert (trained.progress.stage, trained.progress.finished) == (1, True)
    assert not any("rolled_back" in line for line in lines(trained))


@pytest.mark.parametrize("number", [5, 12, 30])
def test_the_test_is_scipys_one_sided_and_paired(number: int) -> None:
    generator = np.random.default_rng(number)
    before = generator.uniform(0.1, 0.5, number)
    after = before + generator.normal(0.02, 0.03, number)
    ids = [f"subject{scan}/scan/0" for scan in range(number)]
    told = chance_of_no_harm(before.tolist(), after.tolist(), ids)
    assert told == pytest.approx(stats.wilcoxon(after, before, alternative="greater").pvalue)
    assert chance_of_no_harm(after.tolist(), before.tolist(), ids) > told
    assert chance_of_no_harm(before.tolist(), before.tolist(), ids) == 1


def test_slices_count_by_volume() -> None:
    """Four subjects of eight slices, whose Γ moves together: chance must not pass for harm."""
    generator = np.random.default_rng(0)
    ids = [f"subject{slice_ // 8}/scan/{slice_ % 8}" for slice_ in range(32)]
    for _ in range(50):
        change = np.repeat(generator.normal(size=4), 8) + 0.3 * generator.normal(size=32)
        told = chance_of_no_harm([0.0] * 32, change.tolist(), ids)
        means = change.reshape(4, 8).mean(1)
        assert told == pytest.approx(stats.wilcoxon(means, alternative="greater").pvalue)
        assert told >= least_chance(ids) == 1 / 16


def test_the_least_that_few_volumes_give() -> None:
    worse = [0.1, 0.2, 0.3, 0.4, 0.5]
    for number in (4, 5):
        ids = [f"subject/scan{scan}/0" for scan in range(number)]
        assert chance_of_no_harm([0.0] * number, worse[:number], ids) == least_chance(ids) == 2**-number


# teachers


def test_each_stage_learns_from_the_one_before(tmp_path: Path) -> None:
    trained = staged(tmp_path, rollback=0)
    trained.run()
    first, second = (TeacherStore(tmp_path / "teacher" / f"stage-{stage}") for stage in (1, 2))
    assert first.keys() == second.keys() == set(targets(3, SMALL).ids)
    assert not any(torch.equal(first[scan], second[scan]) for scan in first)
    for stage, store in ((1, first), (2, second)):
        found = json.loads((store.folder / "manifest.json").read_text())
        assert found == trained.progress.teachers[stage - 1]
        assert (found["stage"], found["step"]) == (stage, stage)
        assert len(found["run"]) == 16


def test_one_teacher_can_serve_all_stages(tmp_path: Path) -> None:
    fixed, updated = staged(tmp_path / "fixed", update=False), staged(tmp_path / "updated")
    fixed.run()
    updated.run()
    assert [folder.name for folder in (tmp_path / "fixed" / "teacher").iterdir()] == ["stage-1"]
    ours, theirs = (TeacherStore(tmp_path / name / "teacher" / "stage-1") for name in ("fixed", "updated"))
    assert all(torch.equal(ours[scan], theirs[scan]) for scan in ours)
    assert isinstance(fixed.method, Refinement)
    assert isinstance(fixed.method.teacher, TeacherStore)
    assert fixed.method.teacher.folder == ours.folder
    assert fixed.method.stage == 2
    assert not same(weights(fixed), weights(updated))


def test_a_fixed_teacher_stays_when_a_later_stage_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = harm(monkeypatch, {0: 0.0, 1: -0.1, 2: 0.1})
    trained = staged(tmp_path, update=False, scans=6)
    trained.run()
    assert same(weights(trained), seen[1])
    assert [folder.name for folder in (tmp_path / "teacher").iterdir()] == ["stage-1"]
    assert [teacher["stage"] for teacher in trained.progress.teachers] == [1]


def test_learned_maps_are_stored_behind_the_image(tmp_path: Path) -> None:
    data = targets(1, SMALL)
    net = RefinedMaps(network(phases=1, features=2), features=2, pools=1)
    trained = engine(tmp_path, Refinement(Subset()), net, data=data, batch=1, epochs=1)
    trained.run()
    stored = TeacherStore(tmp_path / "teacher" / "stage-1")[data[0].id]
    assert stored.shape == (1, 3, 20, 16)
    torch.testing.assert_close(stored[:, 1:].abs().square().sum(1), torch.ones(1, 20, 16), rtol=0, atol=1e-3)


def test_refinement_without_held_out_samples_is_refused(tmp_path: Path) -> None:
    """Nothing would tell whether a stage helped."""
    config = tiny("idr", tmp_path, "data.target.holdout=0")
    with pytest.raises(NorefError, match=r"method refinement: no samples are held out") as error:
        build_engine(config)
    assert "\n" not in str(error.value)
    (tmp_path / "single").mkdir()
    single = tiny("single-stage", tmp_path / "single", "data.target.holdout=0")
    assert build_engine(single).validation is None


# the store


def test_images_come_back_as_they_were(tmp_path: Path) -> None:
    store, seen = TeacherStore(tmp_path / "stage-1"), maps((6, 5), 2)
    store.claim(ORIGIN, new=True)
    store.put("a/b%/0", seen[:, 0])
    store.put("c", seen[:, 0], seen)
    assert list(store) == ["a/b%/0", "c"]
    assert torch.equal(store["a/b%/0"], seen[:, 0])
    assert torch.equal(store["c"], torch.cat((seen[:, :1], seen), 1))
    assert not any(isinstance(value, Tensor | dict) for value in vars(store).values()), "kept in memory"
    store.claim(ORIGIN, new=True)


@pytest.mark.parametrize("change", [{"run": "f" * 16}, {"stage": 2}, {"step": 7}, None])
def test_another_runs_images_are_refused(tmp_path: Path, change: dict[str, object] | None) -> None:
    store = TeacherStore(tmp_path / "stage-1")
    with pytest.raises(NorefError, match="the refined data are gone; copy them back"):
        store.claim(ORIGIN, new=False)
    assert not store.folder.exists()
    store.claim(ORIGIN, new=True)
    store.put("a", torch.zeros(1, 2, 2))
    manifest = store.folder / "manifest.json"
    manifest.unlink() if change is None else manifest.write_text(json.dumps({**ORIGIN, **change}))
    with pytest.raises(NorefError, match="stage-1: refined data from another run") as error:
        store.claim(ORIGIN, new=True)
    assert "\n" not in str(error.value)


def test_a_stage_begun_on_another_runs_images_is_refused(tmp_path: Path) -> None:
    one, other = staged(tmp_path / "one", save_every=0), staged(tmp_path / "other", seed=1)
    one.run()
    other.run()
    manifest = Path("teacher", "stage-2", "manifest.json")
    (one.folder / manifest).write_text((other.folder / manifest).read_text())
    one.progress.finished = False
    with pytest.raises(NorefError, match="stage-2: refined data from another run"):
        one.run()


def test_an_image_of_another_host_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TeacherStore(tmp_path)
    pauses: list[float] = []
    store.listed = frozenset({"late", "lost"})

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        store.put("late", torch.ones(1, 2, 2))

    monkeypatch.setattr("time.sleep", pause)
    assert torch.equal(store["late"], torch.ones(1, 2, 2))
    assert len(pauses) == 1
    monkeypatch.setattr("noref.training.store._LAG", -1.0)
    with pytest.raises(NorefError, match=r"lost\.npy: a teacher image is gone; copy it back") as error:
        store["lost"]
    assert "\n" not in str(error.value)
    with pytest.raises(KeyError):
        store["never made"]
    assert len(pauses) == 1


def test_damaged_images_are_one_line(tmp_path: Path) -> None:
    store = TeacherStore(tmp_path)
    store.put("a", torch.zeros(1, 9, 9))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:150])
    with pytest.raises(NorefError, match=r"a\.npy: a damaged teacher image") as error:
        store["a"]
    assert "\n" not in str(error.value)
    with pytest.raises(KeyError):
        store["b"]


def test_fingerprints_depend_on_every_bit() -> None:
    tensors = {"a": torch.zeros(3), "b": torch.tensor(1.0, dtype=torch.bfloat16)}
    again = fingerprint({name: tensor.clone() for name, tensor in tensors.items()})
    assert fingerprint(tensors) == again
    assert fingerprint({**tensors, "a": torch.tensor([0.0, 0, 1e-45])}) != again
    assert fingerprint({"c": tensors["a"], "b": tensors["b"]}) != again
