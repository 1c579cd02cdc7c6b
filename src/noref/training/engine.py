"""The one training loop: every method, every network, every data set."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.files import append, flush, sweep
from noref.methods.base import Method
from noref.methods.view import Views
from noref.networks.base import Network
from noref.scan import Role
from noref.seeding import Key
from noref.training import distributed, sharding
from noref.training.checkpoint import (
    fingerprint,
    load_checkpoint,
    load_optimiser,
    load_weights,
    optimiser_tensors,
    save_checkpoint,
)
from noref.training.gradient import accumulate, mean_guessed
from noref.training.graphs import Graphs, Pass, eager
from noref.training.interrupt import Interrupted, interruptible
from noref.training.progress import TrainingProgress
from noref.training.settings import Training
from noref.training.state import Progress, chance_of_no_harm, least_chance
from noref.training.step import Step, allow_tf32, compile_checked
from noref.training.steps import Steps
from noref.training.store import Origin, TeacherStore
from noref.training.validate import score_holdout, scored, teach


class Engine:
    """Trains a network by a method.

    Args:
        folder: of the run: checkpoint, `metrics.jsonl`, teacher images.
        method: what to show and grade.
        network: what to train; its weights are drawn by the caller.
        settings: how long and how fast.
        targets: undersampled scans with Γ, or None.
        proxies: scans with references, or None.
        validation: scans whose Γ selects the weights; None for no selection.
    """

    def __init__(
        self,
        folder: Path,
        method: Method,
        network: Network,
        settings: Training,
        *,
        targets: Dataset | None = None,
        proxies: Dataset | None = None,
        validation: Dataset | None = None,
    ) -> None:
        self.folder, self.method, self.network, self.settings = folder, method, network, settings
        self.device = distributed.pick_device(settings.device)
        self.targets, self.validation = targets, validation
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}
        distributed.place(network, self.device)
        method.to(self.device)
        allow_tf32(settings.precision)
        self.steps = Steps(
            method,
            targets,
            proxies,
            batch=settings.batch,
            mixing=settings.mixing,
            micro_batch=settings.micro_batch,
            seed=settings.seed,
            rank=distributed.rank(),
            world=distributed.world_size(),
            aligned=settings.shard,
        )
        self.per_stage = self.steps.per_epoch * settings.epochs
        self.step = Step(method, network, settings.precision)
        if settings.shard and distributed.world_size() > 1:
            sharding.shard(self.step, self.device)
        self.optimiser = self._optimiser()
        self.take: Pass = eager
        self._saved = time.monotonic()
        self._stop = self._due = False
        if targets is not None:
            method.prepare(targets.masks)

    @property
    def checkpoint(self) -> Path:
        """The file to go on from."""
        return self.folder / "checkpoint.safetensors"

    @property
    def _replays(self) -> bool:
        """Whether passes are replayed as CUDA graphs: not where they exchange weights between processes."""
        return self.settings.graphs and self.device.type == "cuda" and not sharding.is_sharded(self.step)

    def _optimiser(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.step.parameters(), lr=self.settings.lr)

    def run(self) -> Progress:
        """Trains to the end, from where the training stands; leaves the best weights in the network.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM, after saving.
            NorefError: if the loss stops being a number, or the disk is full.
        """
        self._tidy()
        if self.settings.compile:
            views = self.steps.step(self.progress.step)[0].to(self.device)
            compile_checked(self.step, views, Key(self.settings.seed, "", "compile"))
        module = self.step if self._replays else distributed.wrap(self.step, self.device)
        quiet = distributed.rank() > 0
        self._stop = False
        with interruptible(self._ask), TrainingProgress(self._total, self.progress.taken, quiet) as display:
            self._say_if_harm_cannot_be_told(display)
            while not self.progress.finished:
                self._begin_stage()
                self._stage(module, display)
                self._end_stage(display)
        return self.progress

    def _ask(self) -> None:
        self._stop = True

    def _tidy(self) -> None:
        """Removes what a killed run left half-written, and what belongs to no stage that it got to."""
        if distributed.rank() == 0:
            sweep(self.folder)
            if self.progress.taken == 0:
                self._log.unlink(missing_ok=True)
            kept = {self._images(stage) for stage in range(1, self.progress.stage + 1)}
            for folder in (self.folder / "teacher").glob("stage-*"):
                if folder not in kept:
                    shutil.rmtree(folder, ignore_errors=True)
        distributed.barrier()

    @property
    def _total(self) -> int:
        """Steps of the whole training, as far as it is known by now."""
        if self.progress.finished:
            return self.progress.taken
        stages = self.method.stages - self.progress.stage
        return self.progress.taken - self.progress.step + stages * self.per_stage

    def resume(self) -> None:
        """Puts everything back to where the checkpoint left it, the log included.

        Raises:
            NorefError: if there is no checkpoint, or it is damaged, newer, or of another network.
        """
        groups, state = load_checkpoint(self.checkpoint)
        load_weights(self.network, groups.get("network", {}), self.checkpoint)
        load_weights(self.method, groups.get("method", {}), self.checkpoint)
        load_optimiser(self.optimiser, groups.get("optimiser", {}))
        self.best, self.before = (
            sharding.divided_as(self.step, groups.get(name, {})) for name in ("best", "before")
        )
        self.progress = Progress(**state)
        if distributed.rank() == 0 and self._log.exists():
            os.truncate(self._log, self.progress.logged)

    def save(self) -> None:
        """Writes the checkpoint: the first rank does, of the weights of all where they are sharded."""
        self._saved = time.monotonic()
        first = distributed.rank() == 0
        groups: dict[str, dict[str, Tensor]] = {
            "network": self.network.state_dict(),
            "method": self.method.state_dict(),
            "optimiser": optimiser_tensors(self.optimiser),
            "best": self.best,
            "before": self.before,
        }
        groups = {name: sharding.assembled(tensors, first) for name, tensors in groups.items()}
        if first:
            # The checkpoint says how long the log is: the log must not reach the disk after it.
            if self._log.exists():
                flush(self._log)
            save_checkpoint(self.checkpoint, groups, asdict(self.progress))

    def weights(self) -> dict[str, Tensor]:
        """All weights of network and method, for the first rank; every rank must ask."""
        return sharding.assembled(self.step.state_dict(), distributed.rank() == 0)

    @property
    def _log(self) -> Path:
        return self.folder / "metrics.jsonl"

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends a line to `metrics.jsonl`."""
        if distributed.rank() == 0:
            self.progress.logged = append(self._log, json.dumps(row) + "\n")

    def _images(self, stage: int) -> Path:
        """The folder of the teacher images that a stage learns from."""
        return self.folder / "teacher" / f"stage-{stage if self._updates else 1}"

    @property
    def _updates(self) -> bool:
        return all(module.update for module in self.method.modules() if isinstance(module, Method))

    def _begin_stage(self) -> None:
        stage = self.progress.stage
        store: Mapping[str, Tensor] = {}
        if stage > 0 and self.targets is not None:
            store = self._teacher_images(stage, self.targets)
        self.method.begin(stage, store)
        if self._replays:
            # Anew for each stage, whose views are of other kinds.
            self.take = Graphs(self.step)

    def _teacher_images(self, stage: int, targets: Dataset) -> TeacherStore:
        """The images that a stage learns from, made now if it has just begun."""
        store = TeacherStore(self._images(stage))
        teacher = self.progress.teachers[-1]
        # Between stages the network still is the teacher; on resuming later, the store is complete.
        made_now = self.progress.step == 0 and teacher["stage"] == stage
        store.claim(teacher, new=made_now)
        if made_now:
            with sharding.whole(self.step):
                full = teach(self.method, self.network, targets, store, self.device, lambda: self._stop)
            if not full:
                raise Interrupted(self._stopped())
        if missing := set(targets.ids) - store.listed:
            there = len(targets) - len(missing)
            raise NorefError(f"{store.folder}: {there} of {len(targets)} images; copy it whole")
        return store

    def _stage(self, module: torch.nn.Module, display: TrainingProgress) -> None:
        first = self.progress.step
        loader = DataLoader(
            self.steps,
            batch_size=None,
            sampler=range(first, self.per_stage),
            num_workers=self.settings.workers,
            # From there a GPU takes them while it computes.
            pin_memory=self.device.type == "cuda",
        )
        for step, micro_batches in zip(range(first, self.per_stage), loader, strict=True):
            if isinstance(micro_batches, NorefError):
                raise micro_batches
            logged = (self.progress.taken + 1) % self.settings.log_every == 0
            loss, terms = self._optimise(module, step, micro_batches, logged)
            self.progress.step, self.progress.taken = step + 1, self.progress.taken + 1
            epoch = step // self.steps.per_epoch
            display.step(self.progress.taken, self.progress.stage, epoch, loss)
            if logged:
                self.log({**self._place(epoch), "loss": loss, **terms, "lr": self._rate(step)})
            if (step + 1) % (self.settings.validate_every * self.steps.per_epoch) == 0 or self._last():
                self._validate(epoch, display)
                if self._flat():
                    display.line(f"Γ has not improved for {self.settings.patience} validations: stage ends")
                    break
            self._save_if_due()

    def _place(self, epoch: int) -> dict[str, int]:
        return {"step": self.progress.taken, "epoch": epoch, "stage": self.progress.stage}

    def _last(self) -> bool:
        return self.progress.step == self.per_stage

    def _rate(self, step: int) -> float:
        return self.settings.learning_rate(self.progress.stage, step, self.per_stage, self.progress.means())

    def _optimise(
        self, module: torch.nn.Module, step: int, micro_batches: list[Views], logged: bool
    ) -> tuple[float, dict[str, float]]:
        """One optimiser step; returns its loss and, for the log, its terms, means over the views' shares."""
        key = Key(self.settings.seed, "", "loss", step).fold(self.progress.stage)
        self.optimiser.zero_grad(set_to_none=True)
        # Sharded gradients are summed up over the ranks after each pass, whatever roles these had.
        apart = logged and len(self.steps.sets) == len(Role) and not sharding.is_sharded(self.step)
        mine, by_role = accumulate(module, micro_batches, key, self.device, apart=apart, take=self.take)
        due = distributed.rank() == 0 and time.monotonic() - self._saved >= self.settings.save_every
        # One exchange for the log and for what all ranks do or none: stop, and save.
        terms = distributed.total_by_name({"stop": float(self._stop), "due": float(due), **mine})
        self._stop, self._due = terms.pop("stop") > 0, terms.pop("due") > 0
        loss = sum(terms.values())
        norm = sharding.clip(self.step, self.settings.clip or math.inf)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NorefError(
                f"{self.folder}: the loss is {loss} and its gradient's norm {norm} after "
                f"{self.progress.taken} steps; lower training.lr, or look for broken scans with noref inspect"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(step)
        self.optimiser.step()
        guessed = {"guessed": mean_guessed(micro_batches)} if logged and self.method.stages > 1 else {}
        return loss, {**terms, **by_role, **guessed}

    def _validate(self, epoch: int, display: TrainingProgress) -> None:
        if self.validation is None:
            return
        with sharding.whole(self.step):
            scores, psnrs = score_holdout(
                self.method, self.network, self.validation, self.settings.validation_scans, self.device
            )
        gamma = sum(scores) / len(scores)
        self.progress.gammas[self.progress.stage].append(scores)
        if self.progress.best is None or gamma < self.progress.best:
            self.progress.best, self.best = gamma, self._weights()
        display.gamma(gamma)
        # Beside Γ where references exist: how well Γ would have chosen.
        beside = {"psnr": sum(psnrs) / len(psnrs)} if psnrs else {}
        self.log({**self._place(epoch), "gamma": gamma, **beside})

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.step.state_dict().items()}

    def _flat(self) -> bool:
        """Whether Γ has gone `patience` validations without improving."""
        means, patience = self.progress.means(), self.settings.patience
        return bool(patience and means) and len(means) - 1 - means.index(min(means)) >= patience

    def _end_stage(self, display: TrainingProgress) -> None:
        """Goes on from the best weights: to the end, back, or with a fresh optimiser to the next stage."""
        stage = self.progress.stage
        if self.best:
            self.step.load_state_dict(self.best)
            display.line(f"stage {stage}: best Γ {self.progress.best:.4f}")
        if self._harmful(display):
            self.step.load_state_dict(self.before)
            self.best, self.before = self.before, {}
            self.progress.roll_back()
        elif stage + 1 < self.method.stages:
            self.before = self._weights()
            taught = stage == 0 or self._updates
            self.progress.begin_stage(self._origin() if taught else None)
            self.best = {}
            self.optimiser = self._optimiser()
        else:
            self.progress.finished = True
        display.total = self._total
        self.save()
        if self.progress.stage < stage:
            self._tidy()
            self._begin_stage()

    def _origin(self) -> Origin:
        before = sharding.assembled(self.before, keep=True)
        return Origin(run=fingerprint(before), stage=self.progress.stage + 1, step=self.progress.taken)

    def _harmful(self, display: TrainingProgress) -> bool:
        """Whether the stage has made Γ worse, by a test over volumes; says so."""
        stage, level = self.progress.stage, self.settings.rollback
        if stage == 0 or level == 0 or self.validation is None:
            return False
        before, after = self.progress.best_scores(stage - 1), self.progress.best_scores(stage)
        chance = chance_of_no_harm(before, after, self._scored(self.validation))
        if chance >= level:
            return False
        display.line(
            f"stage {stage}: Γ is worse than after stage {stage - 1} (p = {chance:.2g}): rolled back"
        )
        epoch = (self.progress.step - 1) // self.steps.per_epoch
        self.log({**self._place(epoch), "rolled_back": True, "p": chance})
        return True

    def _scored(self, validation: Dataset) -> list[str]:
        """The ids of the scans that are scored."""
        return [validation.ids[index] for index in scored(validation, self.settings.validation_scans)]

    def _say_if_harm_cannot_be_told(self, display: TrainingProgress) -> None:
        level = self.settings.rollback
        if self.progress.finished or self.method.stages == 1 or level == 0 or self.validation is None:
            return
        if (least := least_chance(self._scored(self.validation))) >= level:
            display.line(
                f"too few volumes have Γ to tell at training.rollback={level:g} whether a stage does harm "
                f"(p is {least:.2g} at best): no stage will be taken back"
            )

    def _save_if_due(self) -> None:
        if self._stop or self._due:
            self.save()
        if self._stop:
            raise Interrupted(self._stopped())

    def _stopped(self) -> str:
        return f"{self.folder}: stopped after {self.progress.taken} steps and saved; resume it to go on"
