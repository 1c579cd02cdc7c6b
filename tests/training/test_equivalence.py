"""Micro-batches and processes change how a step is computed, never what it computes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from ranks import as_rank, both
from scans import apart, engine, joint, log, network, proxies, refined, same, stop_at, targets, weights
from synthetic import scan, undersampled

from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import Joint, Method, MultiMask, Parallel, Subset, Supervised
from noref.networks.refinedmaps import RefinedMaps
from noref.scan import Role
from noref.training import Engine, distributed
from noref.training.checkpoint import load_checkpoint
from noref.training.distributed import barrier, process_group
from noref.training.steps import Steps
from noref.training.store import Origin, TeacherStore
from noref.training.validate import score_holdout

OWN = ("maps", "twins", "twins of maps", "joint twins")
UNEVEN = ((20, 16), (20, 16), (20, 16), (20, 16), (16, 18))


def doubled(data: Dataset) -> Dataset:
    """The same scans in double precision."""
    slices = [
        replace(scan, kspace=scan.kspace.to(torch.complex128), maps=scan.maps.to(torch.complex128))
        for scan in data.slices
        if scan.maps is not None
    ]
    return Dataset(slices, data.how, data.role)


def graded_images(penalty: float = 0.01) -> Method:
    """Proxies have a term that targets do not: ranks see terms of different names."""
    method = joint()
    method.minimise(Objective(image={"l1": 0.3}, penalty=penalty))
    return method


def one_step(folder: Path, double: bool = False, method: Method | None = None, **changes: object) -> Engine:
    """A step of 5 targets of two matrices and 3 proxies, each role with a share of its own."""
    data, others, net = targets(5, UNEVEN), proxies(3, UNEVEN), network()
    if double:
        # The network's penalty is summed in float32, whatever its weights are.
        method = graded_images(penalty=0)
        data, others, net = doubled(data), doubled(others), net.double()
    given = {"epochs": 1, "batch": 8, "mixing": 3 / 8, "warmup": 0, "schedule": "constant", **changes}
    trained = engine(folder, method or graded_images(), net, data=data, others=others, **given)
    trained.run()
    assert trained.progress.taken == 1
    return trained


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
@pytest.mark.parametrize(("double", "close"), [(False, 1e-5), (True, 1e-10)])
def test_accumulated_gradients_are_the_large_batchs(
    tmp_path: Path, micro_batch: int, double: bool, close: float
) -> None:
    large = one_step(tmp_path / "large", double)
    small = one_step(tmp_path / "small", double, micro_batch=micro_batch)
    assert len(small.steps[0]) > len(large.steps[0])
    first = network().double() if double else network()
    moved = apart(weights(large), {f"network.{k}": v for k, v in first.state_dict().items()})
    assert moved > 100 * close, "the step is too small to tell"
    assert apart(weights(small), weights(large)) < close


def test_shares_of_the_roles_count(tmp_path: Path) -> None:
    """One role's loss alone would give other weights: the test above sees both."""
    assert apart(weights(one_step(tmp_path / "1")), weights(one_step(tmp_path / "2", method=Subset()))) > 1e-4


def test_loss_is_the_mean_over_the_step(tmp_path: Path) -> None:
    trained = one_step(tmp_path, micro_batch=2)
    line = json.loads(log(tmp_path)[0])
    fresh = graded_images()
    net, total, share = network(), torch.zeros(()), torch.zeros(())
    sets = trained.steps.sets
    for views in Steps(fresh, sets[Role.TARGET], sets[Role.PROXY], batch=8, mixing=3 / 8)[0]:
        losses = fresh.loss(net, views, None)
        total += (views.share * torch.stack(list(losses.values())).sum(0)).sum().detach()
        share += views.share.sum()
    assert line["loss"] == pytest.approx(float(total / share), rel=1e-5)
    parts = {k: v for k, v in line.items() if k.startswith(("kspace", "image", "penalty"))}
    assert sum(parts.values()) == pytest.approx(line["loss"], rel=1e-6)
    assert {"kspace_l1", "image_l1", "penalty"} <= parts.keys()


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("micro_batch", [None, 1, 2])
def test_ranks_share_out_the_one_process_plan(world: int, micro_batch: int | None) -> None:
    data, others = targets(7, UNEVEN), proxies(3)

    def steps(rank: int, of: int) -> Steps:
        return Steps(joint(), data, others, batch=7, micro_batch=micro_batch, rank=rank, world=of)

    for step in range(3):
        whole = Counter(visit for chunk in steps(0, 1).plan(step) for visit in chunk)
        plans = [steps(rank, world).plan(step) for rank in range(world)]
        assert all(plan == plans[0] for plan in plans)
        assert Counter(visit for chunk in plans[0] for visit in chunk) == whole
        alone = steps(0, 1)[step]
        shared = [steps(rank, world)[step] for rank in range(world)]
        assert len({len(views) for views in shared}) == 1, "a rank would wait for the others for ever"

        def counted(all_views: list) -> Counter:
            return Counter(
                (id_, float(share), tuple(map(float, (kspace.abs().sum(), weight.sum()))))
                for views in all_views
                for id_, share, kspace, weight in zip(
                    views.ids, views.share, views.kspace, views.weight, strict=True
                )
                if share > 0
            )

        assert counted([views for mine in shared for views in mine]) == counted(alone)
        assert sum(len(views) for views in shared) > 0


def test_views_of_several_partitions_weigh_as_one() -> None:
    views = Steps(MultiMask(Subset(), 4), targets(4), None, batch=4)[0]
    assert sum(float(one.share.sum()) for one in views) == pytest.approx(4)


def lists(folder: Path, run: str) -> list[str]:
    """The images that a store lists of a run, or why it does not."""
    store = TeacherStore(folder)
    try:
        store.claim(Origin(run=run, stage=1, step=6), new=True)
    except NorefError as error:
        return [str(error)]
    return sorted(store.listed)


def with_own_weights(folder: Path, name: str) -> Engine:
    """Three steps of a training that has weights beside its network's, on scans of one coil and of two.

    Args:
        folder: of the run.
        name: `maps`, which one coil's scans give no gradient, `twins`, `twins of maps`, or `joint twins`, of
            whose networks proxies teach one.
    """
    slices = [
        undersampled(scan((20, 16), coils, seed=i, noise=0.01), "random2d", 2, 4)
        for i, coils in enumerate((2, 2, 2, 1, 1))
    ]
    method: Method = Parallel(Subset()) if "twins" in name else Subset()
    others = None
    if "joint" in name:
        method, others = Joint(method, Supervised()), proxies(2, ((20, 16),))
    inner = network(phases=1, features=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = RefinedMaps(inner, features=2, pools=1) if "maps" in name else inner
    data = Dataset(slices, targets(1).how, Role.TARGET)
    return engine(folder, method, net, data=data, others=others, batch=5, schedule="constant")


def stopped_and_resumed(folder: Path, name: str) -> Engine:
    """The same, stopped after two steps and gone on with by a new engine."""
    stop_at(2, with_own_weights(folder, name))
    barrier()  # the first process writes the checkpoint
    again = with_own_weights(folder, name)
    again.resume()
    assert again.progress.taken == 2
    again.run()
    return again


def train_on_rank(rank: int, port: int, folder: Path) -> None:
    """What `torchrun` starts: a joint step with uneven ranks, then two stages of refinement, and Γ."""
    as_rank(rank, 2, port)
    with process_group(torch.device("cpu")):
        stepped = one_step(folder / "step", micro_batch=2)
        padded = len(stepped.steps[0]), sum(float(v.share.sum()) == 0 for v in stepped.steps[0])
        staged = engine(folder / "stages", refined(), data=targets(5, UNEVEN), epochs=1, batch=5)
        staged.run()
        gamma, _ = score_holdout(Subset(), network(9), targets(5, UNEVEN), 4, torch.device("cpu"))
        own = {name: weights(stopped_and_resumed(folder / name, name)) for name in OWN}
        # As with CUDA graphs, whose passes exchange nothing.
        with mock.patch.object(distributed, "wrap", lambda module, _: module):
            averaged = one_step(folder / "averaged", micro_batch=2)
            maps_too = with_own_weights(folder / "averaged maps", "maps")
            maps_too.run()
        # A folder of its own for each: what the first writes is not there yet for the other.
        seen = TeacherStore(folder / f"seen-by-{rank}")
        listed = [lists(seen.folder, "ours")]
        if rank == 0:
            seen.put("a", torch.zeros(1, 2, 2))
        listed += [lists(seen.folder, "ours"), lists(seen.folder, "theirs")]
    found = {
        "averaged": weights(averaged),
        "averaged maps": weights(maps_too),
        "step": weights(stepped),
        "padded": padded,
        "stages": weights(staged),
        "gamma": gamma,
    }
    torch.save({**found, "own": own, "listed": listed}, folder / f"rank-{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """The results of two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    both(train_on_rank, folder)
    return folder, [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_give_one_processs_weights(ranks: tuple[Path, list[dict]], tmp_path: Path) -> None:
    folder, results = ranks
    alone = one_step(tmp_path)
    assert any(idle for _, idle in (result["padded"] for result in results)), "no rank was padded"
    assert results[0]["padded"][0] == results[1]["padded"][0]
    assert same(results[0]["step"], results[1]["step"])
    assert apart(results[0]["step"], weights(alone)) < 1e-5
    for ours, theirs in zip(log(tmp_path), log(folder / "step"), strict=True):
        assert json.loads(theirs) == pytest.approx(json.loads(ours), rel=1e-4)


def test_gradients_averaged_after_the_passes_are_those_averaged_in_them(
    ranks: tuple[Path, list[dict]], tmp_path: Path
) -> None:
    folder, results = ranks
    alone = one_step(tmp_path)
    assert same(results[0]["averaged"], results[1]["averaged"])
    assert apart(results[0]["averaged"], weights(alone)) < 1e-5
    for ours, theirs in zip(log(tmp_path), log(folder / "averaged"), strict=True):
        assert json.loads(theirs) == pytest.approx(json.loads(ours), rel=1e-4)
    # Scans of one coil give the maps' network no gradient.
    maps_too = with_own_weights(tmp_path / "maps", "maps")
    maps_too.run()
    assert same(results[0]["averaged maps"], results[1]["averaged maps"])
    assert apart(results[0]["averaged maps"], weights(maps_too)) < 1e-4


def test_two_processes_refine_together(ranks: tuple[Path, list[dict]], tmp_path: Path) -> None:
    folder, results = ranks
    assert same(results[0]["stages"], results[1]["stages"])
    assert len(list((folder / "stages" / "teacher" / "stage-1").glob("*.npy"))) == 5
    alone = engine(tmp_path, refined(), data=targets(5, UNEVEN), epochs=1, batch=5)
    alone.run()
    assert apart(results[0]["stages"], weights(alone)) < 1e-4


@pytest.mark.parametrize("name", OWN)
def test_two_processes_train_and_resume_what_is_not_the_networks(
    ranks: tuple[Path, list[dict]], tmp_path: Path, name: str
) -> None:
    folder, results = ranks
    alone = with_own_weights(tmp_path, name)
    before = weights(alone)
    alone.run()
    ours = [of for of in before if of.startswith(("method.twin", "method.target.twin", "network.unet"))]
    assert ours
    for of in ours:
        assert apart({of: before[of]}, weights(alone)) > 1e-3, "too little was learned to tell"
    assert same(results[0]["own"][name], results[1]["own"][name])
    assert apart(results[0]["own"][name], weights(alone)) < 1e-4
    places = [weight.data_ptr() for weight in alone.step.state_dict().values()]
    assert len(places) == len(set(places)), "a weight is saved twice"
    for run in (tmp_path, folder / name):
        groups, _ = load_checkpoint(run / "checkpoint.safetensors")
        saved = {f"{group}.{of}" for group in ("network", "method") for of in groups.get(group, {})}
        assert saved == before.keys()


def test_the_first_process_says_what_a_store_holds(ranks: tuple[Path, list[dict]]) -> None:
    folder, results = ranks
    refused = f"{folder}/seen-by-0: refined data from another run; copy this run's own there, or train anew"
    assert [result["listed"] for result in results] == 2 * [[[], ["a"], [refused]]]
    assert not (folder / "seen-by-1").exists()


def test_gamma_is_the_same_shared_out(ranks: tuple[Path, list[dict]]) -> None:
    _, results = ranks
    alone, _ = score_holdout(Subset(), network(9), targets(5, UNEVEN), 4, torch.device("cpu"))
    assert len(set(alone)) == 4
    assert results[0]["gamma"] == results[1]["gamma"] == alone
