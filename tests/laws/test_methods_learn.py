"""Every method learns: on unseen phantoms it beats a weaker one by more than its spread over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from noref import metrics
from noref.api import Model
from noref.classical import CLASSICAL, CGSense, Classical, ZeroFilled, reconstruct
from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.data.shown import magnitude
from noref.data.simulate import simulate_scan
from noref.evaluation.score import by_network
from noref.losses import Objective
from noref.methods import METHODS as REGISTRY
from noref.methods import (
    Cyclic,
    Equivariant,
    Joint,
    Method,
    MultiMask,
    MultiOperator,
    Parallel,
    Refinement,
    Robust,
    Split,
    Subset,
    Supervised,
    Weighted,
)
from noref.networks import ISTANet
from noref.networks.demodulated import Demodulated
from noref.sampling.masks import acquisition_mask
from noref.sampling.partition import Partition
from noref.scan import Role, Scan
from noref.seeding import Key
from noref.training import Engine, Training

SEEDS = (0, 1, 2)
EPOCHS = {"subset": 60}
"""Where 12 are too few: one pass a step, of undersampled scans alone, needs more of them to pass CG-SENSE."""
FEW = 40
"""Epochs of six scans."""
WIDTHS, WIDER = (32, 40), (48, 56)
"""Of the matrices of many coils and of one; narrower ones take two thirds of the time."""
SHARE = Partition(share=(0.1, 0.4))
METHODS = {
    "supervised": lambda: Supervised(),
    "augmented": lambda: Supervised(augment=True),
    "split": lambda: Split(SHARE),
    "multimask": lambda: MultiMask(Split(SHARE), k=2),
    "joint": lambda: Joint(Split(SHARE), Supervised()),
    "subset": lambda: Subset(),
    "refinement": lambda: Refinement(Subset(), stages=2),
    "weighted": lambda: Weighted(SHARE),
    "robust": lambda: Robust(SHARE, sigma=0.2),
    "cyclic": lambda: Cyclic(Split(SHARE)),
    "multioperator": lambda: MultiOperator(Subset()),
    "equivariant": lambda: Equivariant(Subset()),
    "parallel": lambda: Parallel(Subset()),
}
LINEAR: dict[str, Classical] = {"zero-filled": ZeroFilled(), "cg-sense": CGSense(reweighted=False)}
"""The marks: what is linear in the data. So few steps show that a method learns, not how much it can."""
# SSDU alone sees less than it will be given, and with so few steps ends between the two.
WEAKER = {
    "supervised": "cg-sense",
    "split": "zero-filled",
    "multimask": "zero-filled",
    "joint": "cg-sense",
    "subset": "cg-sense",
    "refinement": "cg-sense",
    "weighted": "zero-filled",
    "cyclic": "cg-sense",
    "multioperator": "cg-sense",
    "equivariant": "cg-sense",
    "parallel": "zero-filled",
}


def phantoms(first: int, number: int, noise_db: float = 40, widths: tuple[int, int] = WIDTHS) -> list[Scan]:
    """Brains in turn 48 high with 4 coils in lines at 3×, and 40 high with one coil in points at 3×."""
    made = []
    for subject in range(first, first + number):
        many = subject % 2 == 0
        shape = (48, widths[0]) if many else (40, widths[1])
        name = f"brain-{subject:04d}/scan/000"
        scan = simulate_scan(
            "brain", id=name, matrix=shape, coils=4 if many else 1, noise_db=noise_db, seed=3
        )
        kind, acs = ("lines", 12) if many else ("random2d", 8)
        made.append(replace(scan, mask=acquisition_mask(kind, shape, 3, acs, Key(3, name, "mask"))))
    return made


@pytest.fixture(scope="module")
def scans() -> dict[str, Dataset]:
    """Targets, the same with references for the oracle, proxies of other subjects, and unseen tests."""
    return datasets(WIDTHS)


@pytest.fixture(scope="module")
def wider() -> dict[str, Dataset]:
    """The same of wider matrices, on which subset training differs from CG-SENSE by more than its spread."""
    return datasets(WIDER)


def datasets(widths: tuple[int, int]) -> dict[str, Dataset]:
    how = Preparation(holdout=0.07)
    targets = phantoms(0, 24, widths=widths)
    return {
        "targets": Dataset(targets, how),
        "full": Dataset(targets, how, role=Role.PROXY),
        "proxies": Dataset(phantoms(100, 12, widths=widths), how, role=Role.PROXY),
        "tests": Dataset(phantoms(200, 8, widths=widths), how),
    }


@pytest.fixture(scope="module")
def noisy() -> dict[str, Dataset]:
    """Targets and unseen tests, as above but with noise that shows."""
    how = Preparation(holdout=0.07)
    return {"targets": Dataset(phantoms(0, 24, 8), how), "tests": Dataset(phantoms(200, 8, 8), how)}


@pytest.fixture(scope="module")
def few() -> dict[str, Dataset]:
    """Six full scans and unseen tests."""
    how = Preparation(holdout=0.07)
    return {
        "full": Dataset(phantoms(0, 6), how, role=Role.PROXY),
        "tests": Dataset(phantoms(200, 8), how),
    }


def mean_psnr(made: Callable[[Scan], Tensor], tests: Dataset) -> float:
    """Over the test scans, against references that no training saw."""
    values = []
    for scan in tests:
        assert scan.reference is not None
        reference = magnitude(scan.reference)[None]
        values.append(metrics.psnr(reference, magnitude(made(scan))[None]))
    return float(torch.stack(values).mean())


def trained(
    name: str, seed: int, scans: dict[str, Dataset], folder: Path, loss: str = "l1", epochs: int | None = None
) -> float:
    """PSNR of a network trained by a method; two shapes and two coil counts in every step."""
    method: Method = METHODS[name]()
    method.minimise(Objective(kspace={loss: 1.0}))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inner = ISTANet(phases=3, features=16, start="sense", step=1.0, symmetry=False)
    network = Demodulated(inner)
    supervised = name in ("supervised", "augmented")
    settings = Training(
        epochs=epochs or EPOCHS.get(name, 12),  # in each stage
        batch=2,
        lr=3e-3,
        refined_lr=1.5e-3,
        seed=seed,
        validate_every=100,
        save_every=1e9,
    )
    engine = Engine(
        folder,
        method,
        network,
        settings,
        targets=None if supervised else scans["targets"],
        proxies=scans["full"] if supervised else scans["proxies"] if name == "joint" else None,
    )
    shapes = [{views.kspace.shape[1:3] for views in engine.steps[step]} for step in range(4)]
    assert {(4, 48), (1, 40)} in shapes
    engine.run()
    model = Model(network.eval(), method, None)  # type: ignore[arg-type] # a configuration is not needed
    reconstruction = by_network(model.estimate)
    return mean_psnr(lambda scan: reconstruction(scan).image, scans["tests"])


def by_classical(method: Classical, tests: Dataset) -> float:
    """PSNR with the regularisation that Γ prefers."""
    return mean_psnr(lambda scan: reconstruct(method, scan), tests)


def test_every_method_is_covered() -> None:
    assert {type(m) for make in METHODS.values() for m in make().modules()} >= set(REGISTRY.values())


@pytest.mark.parametrize("name", WEAKER)
def test_beats_a_weaker_one_on_unseen_phantoms(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    scans: dict[str, Dataset] = request.getfixturevalue("wider" if name == "subset" else "scans")
    weaker = by_classical(LINEAR[WEAKER[name]], scans["tests"])
    reached = [trained(name, seed, scans, tmp_path / str(seed)) for seed in SEEDS]
    spread = max(reached) - min(reached)
    assert min(reached) - weaker > spread, f"{name} {reached} dB, {WEAKER[name]} {weaker:.2f} dB"


def test_robust_beats_weighted_on_noisy_phantoms(noisy: dict[str, Dataset], tmp_path: Path) -> None:
    reached = {
        name: [trained(name, seed, noisy, tmp_path / f"{name}-{seed}", "nmse") for seed in SEEDS]
        for name in ("robust", "weighted")
    }
    spread = max(max(values) - min(values) for values in reached.values())
    assert min(reached["robust"]) - max(reached["weighted"]) > spread, f"{reached} dB"


def test_moved_images_teach_more_than_a_few_images_as_they_are(
    few: dict[str, Dataset], tmp_path: Path
) -> None:
    reached = {
        name: [trained(name, seed, few, tmp_path / f"{name}-{seed}", epochs=FEW) for seed in SEEDS]
        for name in ("augmented", "supervised")
    }
    spread = max(max(values) - min(values) for values in reached.values())
    assert min(reached["augmented"]) - max(reached["supervised"]) > spread, f"{reached} dB"


def test_reweighted_cg_sense_beats_cg_sense_which_beats_zero_filling(scans: dict[str, Dataset]) -> None:
    zero_filled, cg_sense, reweighted = (
        by_classical(method, scans["tests"]) for method in (*LINEAR.values(), CLASSICAL["cg-sense"])
    )
    assert cg_sense > zero_filled + 0.3
    assert reweighted > cg_sense + 0.5
