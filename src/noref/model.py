"""Trained models on disk: a folder of weights, configuration and a card for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from noref.config import Config, build_method, build_network, read_config, save_config
from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.files import whole
from noref.formats import pseudonym
from noref.methods import Method
from noref.networks import Estimate, Network
from noref.scan import Role, Scan, ScanBatch
from noref.training import Engine
from noref.training.checkpoint import load_weights, save_tensors
from noref.training.distributed import pick_device, place
from noref.training.step import allow_tf32
from noref.version import __version__


@dataclass(frozen=True)
class Model:
    """A trained network with the method that knows how to apply it.

    Attributes:
        network: with its trained weights, in evaluation mode.
        method: it was trained by.
        config: of the training.
        proxies: `subject/scan` of all that it was trained on with references.
        subjects: all that it was trained on, by pseudonyms, see `formats.pseudonym`.
    """

    network: Network
    method: Method
    config: Config
    proxies: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()

    def prepare(self, scan: Scan) -> Scan:
        """A scan as it was read, with the maps and the scale that the model's training gave its own."""
        how = self.config.data.target or self.config.data.proxy
        if how is None:
            raise NorefError("the model's configuration names no data; it was not written by noref train")
        how = how.model_copy(update={"mask": "acquired", "holdout": 0.0})
        return Dataset([scan], how, scan.role).prepared(0)

    def reconstruct(self, scan: Scan) -> Tensor:
        """The image of all samples in the scan's Ω, complex64 `(sets, y, x)`, in the scan's scaled units.

        Arguments and errors as `estimate`.
        """
        return self.estimate(scan).image[0]

    @torch.no_grad()
    def estimate(self, scan: Scan) -> Estimate:
        """The image with the maps that it was made with, `encoding.maps`, which may be learned.

        Args:
            scan: prepared: with maps, divided by its scale.

        Returns:
            a batch of one, on the CPU.

        Raises:
            NorefError: if the scan is as it was read.
        """
        if scan.scale == 1:
            raise NorefError(
                f"{scan.id}: not prepared for this model; give what its prepare() makes of the scan"
            )
        device = next(self.network.parameters()).device
        batch = ScanBatch.of([scan.undersampled(scan.mask)]).to(device)
        made = self.method.reconstruct(self.network, batch)
        return Estimate(made.image.cpu(), made.encoding.to("cpu"))


def load(path: Path | str, device: str = "auto") -> Model:
    """The model in a model folder, or in a run folder's `model`.

    Raises:
        NorefError: if there is none, or its weights are another network's.
    """
    file = model_file(Path(path))
    config = read_config(file.parent / "config.yaml")
    method, network = build_method(config), build_network(config)
    weights, proxies, subjects = read_weights(file)
    method.meet(network)
    for name, module in (("network", network), ("method", method)):
        load_weights(module, weights[name], file)
    chosen = pick_device(device)
    allow_tf32(config.training.precision)
    for module in (network, method):
        place(module, chosen)
    return Model(network.eval(), method.eval(), config, proxies, subjects)


def save_model(
    folder: Path,
    engine: Engine,
    weights: dict[str, Tensor],
    config: Config,
    before: tuple[frozenset[str], frozenset[str]],
) -> None:
    """Writes `config.yaml`, `README.md` and, last, `model.safetensors`: a folder that has it is complete.

    Args:
        folder: of the model.
        engine: that has trained it.
        weights: of network and method.
        config: of the training.
        before: of the model it started from, see `seen_before`.
    """
    save_config(config, folder / "config.yaml")
    with whole(folder / "README.md") as temporary:
        temporary.write_text(model_card(engine, config), encoding="utf-8")
    proxies = engine.steps.sets.get(Role.PROXY)
    volumes, subjects = before
    volumes |= proxies.volumes if proxies is not None else set()
    # File names may be those of people.
    subjects |= {pseudonym(subject) for scans in engine.steps.sets.values() for subject in scans.subjects}
    seen = {"proxies": sorted(volumes), "subjects": sorted(subjects)}
    # One entry: the order of several differs from file to file.
    metadata = {"seen": json.dumps(seen)}
    save_tensors(folder / "model.safetensors", weights, metadata)


def model_card(engine: Engine, config: Config) -> str:
    """What the model was trained on, how, and how it scored."""
    lines = ["# A reconstruction network trained by noref", ""]
    for role, scans in engine.steps.sets.items():
        shapes = sorted({f"{b[1]} coils, {b[2]}×{b[3]}" for b in scans.buckets})
        unused = "; they carry references, which training did not see" * bool(scans.references)
        told = "".join(f"; {label}" for label in scans.labels) + unused * (role is Role.TARGET)
        lines += [f"- {role}: {len(scans)} slices ({'; '.join(shapes)}){told}"]
    lines += [
        f"- method: `{config.method}`",
        f"- network: `{config.network}`, {sum(p.numel() for p in engine.network.parameters()):,} parameters",
        f"- optimiser steps: {engine.progress.taken}, noref {__version__}",
    ]
    if engine.progress.best is not None:
        lines.append(f"- Γ (error on held-out samples, as a share of the signal): {engine.progress.best:.5f}")
    return "\n".join([*lines, "", "Use it with `noref reconstruct` and this folder.", ""])


def begin_with(network: Network, path: str) -> None:
    """Puts the weights of a trained network of the same kind into a new one.

    Raises:
        NorefError: if there is no such model, or its network is another.
    """
    file = model_file(Path(path).expanduser())
    load_weights(network, read_weights(file)[0]["network"], file)


def seen_before(config: Config) -> tuple[frozenset[str], frozenset[str]]:
    """What the model in `init` was trained on: `subject/scan` of its proxies, and all subjects."""
    if config.init is None:
        return frozenset(), frozenset()
    _, proxies, subjects = read_weights(model_file(Path(config.init).expanduser()))
    return proxies, subjects


def model_file(folder: Path) -> Path:
    """The weights in a model folder, or in a run folder's `model`."""
    for file in (folder / "model" / "model.safetensors", folder / "model.safetensors"):
        if file.exists():
            return file
    raise NorefError(f"{folder}: no model there; give a model folder, or a run that has finished")


def read_weights(file: Path) -> tuple[dict[str, dict[str, Tensor]], frozenset[str], frozenset[str]]:
    """Weights of a file's `network` and `method`, the volumes of their proxies, and all of their subjects."""
    weights: dict[str, dict[str, Tensor]] = {"network": {}, "method": {}}
    try:
        with safe_open(file, framework="pt") as opened:
            told = opened.metadata() or {}
            # Before subjects were kept, the proxies were an entry of their own.
            seen = json.loads(told.get("seen", "{}")) or {"proxies": json.loads(told.get("proxies", "[]"))}
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                module, weight = name.split(".", 1)
                weights[module][weight] = opened.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise NorefError(f"{file}: damaged ({error}); copy it again") from None
    return weights, frozenset(seen["proxies"]), frozenset(seen.get("subjects", ()))
