"""What a user calls from Python: `noref.train`, `noref.load(model).reconstruct(scan)`."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from noref.config import Config, Source, build_method, build_network, check_config, load_config, save_config
from noref.config.roles import check_apart, check_roles, learns_references
from noref.data.alike import sampled_as
from noref.data.dataset import Dataset
from noref.data.files import Scans, open_scans
from noref.data.part import with_something_hidden
from noref.data.prepare import fully_sampled
from noref.data.store import PreparedDataset, is_store, open_store
from noref.errors import NorefError
from noref.files import whole
from noref.formats import pseudonym
from noref.methods import Method
from noref.networks import Estimate, Network
from noref.scan import Role, Scan, ScanBatch
from noref.training import Engine
from noref.training.checkpoint import load_weights, save_tensors
from noref.training.distributed import barrier, decided, pick_device, place, process_group, rank, speaks
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


def dataset(source: Source, name: Role, cache_gb: float = 4.0) -> Dataset:
    """The prepared scans of a source.

    Args:
        source: files and what to do with them.
        name: the role that the source's place in the configuration gives it.
        cache_gb: GiB of prepared scans kept in memory.
    """
    if is_store(source.path):
        store = open_store(source.path, source.subjects, source.chosen)
        given = source.given()
        if given:
            raise NorefError(f"{store.path}: its scans are prepared; leave out {', '.join(given)}")
        return PreparedDataset(store, source, source.role or name)
    return Dataset(slices(source), source, source.role or name, cache_gb)


def slices(source: Source) -> Scans:
    """The slices of a source's files, as they are in these."""
    return open_scans(
        source.path, source, subjects=source.subjects, skip_bad=source.skip_bad, split=source.chosen
    )


def train(config: Config, *, resume: bool = False) -> Path:
    """Trains as the configuration says, into its run folder.

    Args:
        config: from `load_config`.
        resume: go on from the folder's checkpoint; starts anew if there is none yet.

    Returns:
        the model folder, `output/model`.

    Raises:
        NorefError: for bad input, or if the folder holds another run.
        Interrupted: on Ctrl-C or SIGTERM, after saving.
    """
    folder = Path(config.output)
    with process_group(pick_device(config.training.device)):
        check_folder(folder, config, resume)
        # Read now: nobody knows what has become of that model when the training ends.
        before = seen_before(config)
        engine = build_engine(config)
        going_on = resume and decided(engine.checkpoint.exists)
        # All have looked at the folder, and the input is good: only now is it this run's.
        barrier()
        if rank() == 0 and not (folder / "config.yaml").exists():
            save_config(config, folder / "config.yaml")
        if going_on:
            engine.resume()
        try:
            engine.run()
        except BaseException:
            if rank() == 0 and not engine.checkpoint.exists():
                discard(folder)
            raise
        weights = engine.weights()
        if rank() == 0:
            save_model(folder / "model", engine, weights, config, before)
        barrier()
    return folder / "model"


def build_engine(config: Config) -> Engine:
    """Data sets, method, network with its first weights, and engine of a configuration.

    Raises:
        NorefError: if there is nothing to train or validate on, all target scans share one mask, a proxy is a
            target too, or there is no such model to start from.
    """
    given = config.data
    method, network = build_method(config), build_network(config)
    sets: dict[Role, Dataset] = {}
    sources: dict[Role, Source] = {}
    for name, source in ((Role.TARGET, given.target), (Role.PROXY, given.proxy)):
        if source is not None:
            one = dataset(source, name, given.cache_gb)
            if one.role in sets:
                raise NorefError(f"data.target and data.proxy both have the role {one.role}; change one")
            sets[one.role], sources[one.role] = one, source
    if len(sets) == len(Role):
        accelerated = with_something_hidden(sets[Role.TARGET])
        sets[Role.PROXY] = undersampled_alike(
            sets[Role.PROXY], sources[Role.PROXY], accelerated, given.cache_gb
        )
    check_roles(method, sets)
    targets = sets.get(Role.TARGET)
    if targets is not None and not learns_references(method):
        given_targets, targets = targets, with_something_hidden(targets)
        left_out = len(given_targets) - len(targets)
        if left_out and speaks():
            warnings.warn(
                f"data.target: {left_out} of {len(given_targets)} slices are full and left out, as nothing "
                "of them is hidden; give them as data.proxy, or undersample them, as by mask=lines",
                stacklevel=2,
            )
        sets[Role.TARGET] = targets
    if targets is not None:
        # References show what lies between the samples.
        targets.check_masks(given.force or learns_references(method))
    validation = targets if targets is not None and targets.how.holdout > 0 else None
    if given.validation is not None:
        validation = dataset(given.validation, Role.TARGET, given.cache_gb)
        if validation.role is not Role.TARGET or given.validation.holdout == 0:
            raise NorefError("data.validation: only targets with holdout above 0 can validate")
    scored = {"target": targets, "validation": validation}
    if Role.PROXY in sets:
        check_apart(sets[Role.PROXY].volumes, "data.proxy", scored)
    check_apart(seen_before(config)[0], "init", scored)
    if given.validation is not None and validation is not None:
        warn_of_shared(validation, [one for one in sets.values() if one is not validation])
    if method.stages > 1 and validation is None:
        raise NorefError(
            "method refinement: no samples are held out, so nothing tells whether a stage helped; set "
            "data.target.holdout above 0, or give data.validation.path"
        )
    if config.init is not None:
        # Before the method meets the network, of whose weights it may make others.
        begin_with(network, config.init)
    return Engine(
        Path(config.output),
        method,
        network,
        config.training,
        targets=targets,
        proxies=sets.get(Role.PROXY),
        validation=validation,
    )


def warn_of_shared(validation: Dataset, trained: Sequence[Dataset]) -> None:
    """Says that subjects are in training and validation both."""
    mine = validation.subjects
    both = sorted(mine & {subject for one in trained for subject in one.subjects})
    if both and speaks():
        warnings.warn(
            f"data.validation: {len(both)} of {len(mine)} subjects are trained on as well (the first: "
            f"{both[0]}), and scores of those say little of others; give split=train and split=validation",
            stacklevel=2,
        )


def undersampled_alike(proxies: Dataset, source: Source, targets: Dataset, cache_gb: float) -> Dataset:
    """The proxies; full ones of which nobody said how to undersample them, as the targets are."""
    # One tells of all, whom `check_references` looks at later: each look reads every file.
    first = proxies.slices[0]
    off_grid = first.trajectory is not None
    if source.mask != "acquired" or is_store(source.path) or off_grid or not fully_sampled(first):
        return proxies
    sampling = sampled_as(targets)
    told = " ".join(f"{name}={value}" for name, value in sampling.items())
    if speaks():
        warnings.warn(f"data.proxy: full scans, undersampled as the targets are: {told}", stacklevel=2)
    return Dataset(proxies.slices, source.model_copy(update=sampling), proxies.role, cache_gb)


def check_folder(folder: Path, config: Config, resume: bool) -> None:
    """Refuses a run folder that holds another run, or anything else.

    Raises:
        NorefError: naming the first setting that differs, if a run is resumed with other settings.
    """
    saved = folder / "config.yaml"
    if saved.exists():
        if not resume:
            raise NorefError(f"{folder}: already holds a run; go on with --resume, or give another output=")
        changed = difference(read_config(saved), config)
        if changed:
            raise NorefError(f"{saved}: the run was started with {changed}; resume it as it was")
    elif folder.is_file() or (folder.exists() and any(folder.iterdir())):
        raise NorefError(f"{folder}: holds other files; give another output=")


def discard(folder: Path) -> None:
    """Removes a run that failed before its first checkpoint: its folder is free for the next attempt."""
    for name in ("config.yaml", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "teacher", ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def read_config(path: Path) -> Config:
    """The configuration that a run or model folder holds."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise NorefError(f"{path}: cannot be read ({reason}); is this a run or model folder?") from None
    return check_config(content, str(path))


def difference(before: Config, after: Config) -> str:
    """The first setting in which two configurations differ, as `key=value`; empty if none.

    But for `output`, and `training.shard` and `training.graphs`, which change where and how weights are
    computed and not what they are.
    """

    def flat(values: object, where: str = "") -> dict[str, object]:
        if not isinstance(values, dict):
            return {where: values}
        return {
            k: v
            for key, value in values.items()
            for k, v in flat(value, f"{where}.{key}".lstrip(".")).items()
        }

    free: Any = {"output": True, "training": {"shard", "graphs"}}
    old, new = (flat(config.model_dump(mode="json", exclude=free)) for config in (before, after))
    changed = [key for key in [*old, *new] if old.get(key) != new.get(key)]
    return f"{changed[0]}={old.get(changed[0])}, not {new.get(changed[0])}" if changed else ""


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


__all__ = ["Model", "build_engine", "dataset", "load", "load_config", "train"]
