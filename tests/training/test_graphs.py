"""How passes that are replayed add up, with graphs that a CPU can replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from scans import engine, joint, lines, network, proxies, refined, targets, weights
from torch import Tensor, nn

from noref.methods import Losses, Method, MultiMask, Parallel, Split, Subset, Views
from noref.networks import Network
from noref.networks.refinedmaps import RefinedMaps
from noref.seeding import Key
from noref.training import Engine, graphs
from noref.training.graphs import Graphs, eager, kind_of

PASSES: list[tuple[tuple[Any, ...], tuple[Tensor, dict[str, Tensor]]]] = []


class Tape:
    """Stands for a graph: computes what was captured anew, from and into the tensors of the capture."""

    replay: Callable[[], None]


@contextmanager
def captured(tape: Tape, pool: object, capture_error_mode: str) -> Iterator[None]:
    assert capture_error_mode == "thread_local"
    del pool
    PASSES.clear()
    yield
    ((given, (loss, terms)),) = PASSES
    module: nn.Module = given[0]
    parameters = list(module.parameters())
    gradients = [parameter.grad for parameter in parameters]

    def replay() -> None:
        now = [parameter.grad for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        again, terms_again = eager(*given)
        loss.copy_(again)
        for name, term in terms_again.items():
            terms[name].copy_(term)
        for parameter, gradient in zip(parameters, now, strict=True):
            parameter.grad = gradient

    tape.replay = replay


def noted(*given: Any) -> tuple[Tensor, dict[str, Tensor]]:
    found = eager(*given)
    PASSES.append((given, found))
    return found


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs on a CPU, for every training that asks for them."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", captured)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(graphs, "eager", noted)
    monkeypatch.setattr(Engine, "_replays", property(lambda self: self.settings.graphs))


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("micro_batch", [None, 1])
@pytest.mark.parametrize(
    "make", [Subset, joint, refined, lambda: Parallel(Subset()), lambda: MultiMask(Split(), 2)]
)
def test_a_training_of_replayed_passes_is_the_eager_one(
    make: Callable[[], Method], micro_batch: int | None, tmp_path: Path
) -> None:
    trained = {}
    for replays in (False, True):
        one = engine(
            tmp_path / str(replays),
            make(),
            others=proxies() if make is joint else None,
            epochs=6,
            micro_batch=micro_batch,
            graphs=replays,
        )
        one.run()
        trained[replays] = weights(one), lines(one)
    assert isinstance(one.take, Graphs)
    assert len(one.take.graphs) >= 2, "two matrices"
    for name, weight in trained[True][0].items():
        torch.testing.assert_close(weight, trained[False][0][name], rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(trained[True][1], trained[False][1], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def views_of(training: Engine) -> list[Views]:
    """Of two matrices."""
    found: dict[object, Views] = {}
    for step in range(4):
        for views in training.steps.step(step):
            found.setdefault(kind_of(views), views)
    return list(found.values())[:2]


@pytest.mark.usefixtures("taped")
def test_passes_of_a_step_add_up_whatever_was_replayed(tmp_path: Path) -> None:
    training = engine(tmp_path, Subset(), network(), data=targets(4))
    step, (first, second) = training.step, views_of(training)
    key, scale = Key(0, "", "loss", 0), torch.tensor(0.5)

    def gradient(passes: list[Views], takes: list[Any]) -> Tensor:
        step.zero_grad()
        for views, take in zip(passes, takes, strict=True):
            take(step, views, key, scale)
        return torch.cat([p.grad.flatten().clone() for p in step.parameters() if p.grad is not None])

    mine = Graphs(step)
    for passes in ([first] * 4, [first, first, second], [second] * 4, [second, first, second], [first]):
        for _ in range(2):
            expected = gradient(passes, [eager] * len(passes))
            torch.testing.assert_close(gradient(passes, [mine] * len(passes)), expected)
            mixed = [eager if number % 2 else mine for number in range(len(passes))]
            torch.testing.assert_close(gradient(passes, mixed), expected)
    assert len(mine.graphs) == 2


@pytest.mark.usefixtures("taped")
def test_a_parameter_without_gradient_has_none_when_replayed(tmp_path: Path) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))

        def forward(self, views: Views, key: Key) -> tuple[Tensor, dict[str, Tensor]]:
            del key
            loss = (self.used * views.share.sum()).sum()
            return loss, {"loss": loss.detach()}

    module, views = Idle(), views_of(engine(tmp_path, Subset()))[0]
    mine = Graphs(module)
    for _ in range(5):
        module.zero_grad()
        loss, _ = mine(module, views, Key(0, "", "loss", 0), torch.tensor(2.0))
        assert float(loss) == pytest.approx(2 * float(views.share.sum()))
        assert module.idle.grad is None
        assert module.used.grad is not None
        torch.testing.assert_close(module.used.grad, 2 * views.share.sum().expand(2))
    assert len(mine.graphs) == 1


class Erratic(Subset):
    """Another loss every time."""

    calls = 0

    def loss(self, network: Network, views: Views, key: Key) -> Losses:
        self.calls += 1
        return {name: self.calls * term for name, term in super().loss(network, views, key).items()}


@pytest.mark.usefixtures("taped")
def test_what_does_not_agree_stays_eager(tmp_path: Path) -> None:
    training = engine(tmp_path, Erratic(), epochs=4, data=targets(4, ((20, 16),)))
    with pytest.warns(UserWarning, match="training without a CUDA graph, whose gradients differ by"):
        training.run()
    assert isinstance(training.take, Graphs)
    assert not training.take.graphs
    assert len(training.take.refused) == 1
    assert training.progress.finished


@pytest.mark.usefixtures("taped")
def test_what_cannot_be_captured_stays_eager_and_loses_no_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def refusing(*_: object, **__: object) -> Iterator[None]:
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refusing)
    trained = []
    for replays in (False, True):
        one = engine(tmp_path / str(replays), epochs=4, micro_batch=1, graphs=replays)
        if replays:
            with pytest.warns(UserWarning, match="training without CUDA graphs: not possible here"):
                one.run()
        else:
            one.run()
        trained.append(weights(one))
    for name, weight in trained[0].items():
        torch.testing.assert_close(weight, trained[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("taped")
def test_maps_that_one_coil_does_not_teach(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = RefinedMaps(network(), features=2, pools=1)
    training = engine(tmp_path, Subset(), net, data=targets(4, coils=1), epochs=4)
    training.run()
    assert isinstance(training.take, Graphs)
    assert training.take.graphs
