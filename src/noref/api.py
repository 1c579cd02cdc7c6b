"""What a user calls from Python: `noref.train`, `noref.load(model).reconstruct(scan)`."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noref.config import Config, Source, build_method, build_network, load_config, read_config, save_config
from noref.config.roles import check_apart, check_roles, learns_references
from noref.data.alike import sampled_as
from noref.data.dataset import Dataset
from noref.data.files import Scans, open_scans
from noref.data.part import with_something_hidden
from noref.data.prepare import fully_sampled
from noref.data.store import PreparedDataset, as_prepared, is_store, open_store
from noref.errors import NorefError
from noref.files import check_writable
from noref.formats import pseudonym
from noref.model import Model, begin_with, load, save_model, seen_before
from noref.scan import Role
from noref.training import Engine
from noref.training.distributed import barrier, decided, pick_device, process_group, rank, speaks


def dataset(source: Source, name: Role, cache_gb: float = 4.0, *, of: type[Dataset] = Dataset) -> Dataset:
    """The prepared scans of a source.

    Args:
        source: files and what to do with them.
        name: the role that the source's place in the configuration gives it.
        cache_gb: GiB of prepared scans kept in memory.
        of: what files become; a store says itself how it was prepared.
    """
    if is_store(source.path):
        store = open_store(source.path, source.subjects, source.chosen)
        given = source.given()
        if given:
            raise NorefError(f"{store.path}: its scans are prepared; leave out {', '.join(given)}")
        return PreparedDataset(store, source, source.role or name)
    return of(slices(source), source, source.role or name, cache_gb)


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
        config = with_stores(config)
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


def with_stores(config: Config) -> Config:
    """The configuration with what its stores were prepared with, where it says nothing of that.

    What is not said of validation files is as for the target.
    """
    given = config.data
    target = _as_prepared(given.target)
    changed = {
        "target": target,
        "proxy": _as_prepared(given.proxy),
        "validation": _as_prepared(given.validation, target),
    }
    return config.model_copy(update={"data": given.model_copy(update=changed)})


def _as_prepared(source: Source | None, others: Source | None = None) -> Source | None:
    """A source with what its store, or else others like it, were prepared with."""
    if source is None:
        return None
    if not is_store(source.path):
        return source if others is None else as_prepared(source, others)
    made = as_prepared(source, open_store(source.path).how)
    # Its scans have their names; what was said is of targets in files.
    return made if others is None else made.model_copy(update={"subject_folder": 0})


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
    if validation is not None and not validation.held_out:
        raise NorefError(
            f"data.{'target' if given.validation is None else 'validation'}: all of its "
            f"{len(validation)} slices are full, and nothing of them is hidden, so nothing tells how good an "
            "image is; undersample them, as by mask=lines, or give full scans as data.proxy alone"
        )
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
    both = validation.subjects_among({pseudonym(subject) for one in trained for subject in one.subjects})
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
        NorefError: naming the first setting that differs, if a run is resumed with other settings, or if
            nothing may be written there.
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
    else:
        check_writable(saved)


def discard(folder: Path) -> None:
    """Removes a run that failed before its first checkpoint: its folder is free for the next attempt."""
    for name in ("config.yaml", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "teacher", ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()


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


__all__ = ["Model", "build_engine", "dataset", "load", "load_config", "train"]
