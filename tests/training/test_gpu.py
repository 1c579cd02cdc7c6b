"""Training on a GPU: what the CPU computes, replayed as CUDA graphs or not, without waiting for numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from laws.test_methods_teach_networks import TINY
from torch import Tensor
from training.scans import engine, joint, lines, network, proxies, refined, same, stop_at, targets, weights

from noref.losses import Objective
from noref.methods import (
    Cyclic,
    Equivariant,
    Losses,
    Method,
    MultiMask,
    MultiOperator,
    Parallel,
    Refinement,
    Split,
    Subset,
    Views,
    Weighted,
)
from noref.networks import NETWORKS, Network
from noref.networks.demodulated import Demodulated
from noref.networks.refinedmaps import RefinedMaps
from noref.physics import cartesian
from noref.seeding import Key
from noref.training import Engine
from noref.training.graphs import Graphs, Pass, eager

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

# Said once by a thread that has had nothing to do on the GPU yet.
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")

METHODS: dict[str, Callable[[], Method]] = {
    "split": Split,
    "subset": Subset,
    "weighted": Weighted,
    "joint": joint,
    "refined": refined,
    "cyclic": lambda: Cyclic(Split()),
    "multioperator": lambda: MultiOperator(Subset()),
    "equivariant": lambda: Equivariant(Subset()),
    "parallel": lambda: Parallel(Subset()),
    "multimask": lambda: MultiMask(Split(), 2),
    "mixed": lambda: Refinement(Subset(), data_term="mixed"),
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """TF32 is a switch of the whole process, which trainings set."""
    before = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = before


def small(name: str) -> Network:
    torch.manual_seed(0)
    return NETWORKS[name](**TINY[name])


def gradient(training: Engine, step: int = 0) -> Tensor:
    """Of a step's loss, on the CPU."""
    training.step.zero_grad()
    for views in training.steps.step(step):
        eager(
            training.step,
            views.to(training.device),
            Key(0, "", "loss", step),
            torch.ones(()).to(training.device),
        )
    flat = [p.grad.flatten().cpu() for p in training.step.parameters() if p.grad is not None]
    return torch.cat(flat)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_cpus(name: str, tmp_path: Path) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        training = engine(tmp_path / device, Subset(), small(name), device=device, precision="float32")
        found[device] = gradient(training)
    assert float((found["cuda"] - found["cpu"]).norm() / found["cpu"].norm()) < 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_methods_losses_are_the_cpus(name: str, tmp_path: Path) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        others = proxies() if name == "joint" else None
        training = engine(
            tmp_path / device,
            METHODS[name](),
            others=others,
            device=device,
            precision="float32",
            graphs=False,
        )
        training.run()
        found[device] = [row["loss"] for row in lines(training) if "loss" in row]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=2e-2)
    assert found["cuda"][0] == pytest.approx(found["cpu"][0], rel=1e-4)


WRAPPED = {"demodulated": Demodulated, "refined maps": lambda one: RefinedMaps(one, 4, 1)}


@pytest.mark.parametrize("name", [*NETWORKS, *WRAPPED])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_every_network_is_captured_as_it_is(name: str, precision: str, tmp_path: Path) -> None:
    net = WRAPPED[name](small("istanet")) if name in WRAPPED else small(name)
    net.checkpointing = name in ("istanet", "varnet")
    training = engine(tmp_path, Subset(), net, device="cuda", precision=precision)
    graphs, scale = Graphs(training.step), torch.tensor(0.5, device="cuda")
    batches = [training.steps.step(step) for step in range(6)]
    for views_of_step in batches:
        for views in views_of_step:
            expected = taken(training, eager, views.to("cuda"), scale)
            found = taken(training, graphs, views.to("cuda"), scale)
            assert not graphs.refused
            assert float((found - expected).norm() / expected.norm()) < 1e-3
    assert len(graphs.graphs) >= 2, "two matrices"


def taken(training: Engine, take: Pass, views: Views, scale: Tensor) -> Tensor:
    """The gradient of two passes in one step."""
    training.step.zero_grad()
    for _ in range(2):
        take(training.step, views, Key(0, "", "loss", 0), scale)
    return torch.cat([p.grad.flatten().clone() for p in training.step.parameters() if p.grad is not None])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_as_graphs(
    name: str, workers: int, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    found = {}
    for graphs in (False, True):
        others = proxies() if name == "joint" else None
        training = engine(
            tmp_path / str(graphs),
            METHODS[name](),
            others=others,
            device="cuda",
            precision="float32",
            epochs=8,
            graphs=graphs,
            workers=workers,
        )
        training.run()
        assert not graphs or (isinstance(training.take, Graphs) and training.take.graphs)
        found[graphs] = [row["loss"] for row in lines(training) if "loss" in row]
    assert found[True] == pytest.approx(found[False], rel=2e-2)
    assert not [w for w in recwarn if "CUDA graphs" in str(w.message)]


class Asks(Subset):
    """Looks at a number of its loss."""

    def loss(self, network: Network, views: Views, key: Key) -> Losses:
        losses = super().loss(network, views, key)
        assert float(losses["kspace_l1"].detach().sum()) >= 0
        return losses


def test_a_method_that_waits_for_numbers_stays_eager(tmp_path: Path) -> None:
    training = engine(tmp_path, Asks(), device="cuda", epochs=4)
    with pytest.warns(UserWarning, match="training without CUDA graphs: not possible here"):
        training.run()
    assert training.progress.finished


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    first = engine(tmp_path / "a", refined(), device="cuda", epochs=4)
    first.run()
    stopped = engine(tmp_path / "b", refined(), device="cuda", epochs=4)
    stop_at(5, stopped)
    again = engine(tmp_path / "b", refined(), device="cuda", epochs=4)
    again.resume()
    again.run()
    pairs = [[row["loss"] for row in lines(one) if "loss" in row] for one in (first, again)]
    assert pairs[1] == pytest.approx(pairs[0], rel=2e-2)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_conjugate_gradients_do_not_wait(tmp_path: Path) -> None:
    views = engine(tmp_path, Subset(), data=targets(coils=3)).steps.step(0)[0]
    right, found = views.encoding().adjoint(views.kspace), {}
    for device in ("cpu", "cuda"):
        encoding = cartesian(views.kept.to(device), views.maps.to(device), lines=views.lines)
        on_device, damping = right.to(device), torch.tensor(0.05, device=device)
        torch.cuda.set_sync_debug_mode("error" if device == "cuda" else "default")
        try:
            found[device] = encoding.solve(on_device, damping, iterations=30, tolerance=1e-4)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found["cuda"].cpu(), found["cpu"], rtol=1e-3, atol=1e-4)


def test_weights_made_on_a_gpu_are_found_on_a_cpu(tmp_path: Path) -> None:
    training = engine(tmp_path, Subset(), device="cuda", epochs=1)
    training.run()
    other = engine(tmp_path, Subset(), network(seed=3), device="cpu", epochs=1)
    other.resume()
    on_cpu = {name: tensor.cpu() for name, tensor in weights(training).items()}
    assert same(on_cpu, weights(other))
    assert other.progress.finished


def test_objective_on_images_is_captured(tmp_path: Path) -> None:
    method = joint()
    method.minimise(
        Objective(
            kspace={"l1": 2.0, "nmse": 2.0},
            image={"l1": 2.0, "ssim": 2.0, "hfen1": 1.0, "hfen2": 1.0},
            dual=True,
        )
    )
    training = engine(tmp_path, method, others=proxies(), device="cuda", epochs=8, precision="float32")
    training.run()
    assert isinstance(training.take, Graphs)
    assert not training.take.refused
    assert training.take.graphs
