"""The one training loop: every method, every network, every data set."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.files import append, flush, sweep
from noref.methods.base import Method, Views
from noref.networks.base import Network
from noref.seeding import Key
from noref.training import distributed
from noref.training.checkpoint import (
    load_checkpoint,
    load_optimiser,
    load_weights,
    optimiser_tensors,
    save_checkpoint,
)
from noref.training.progress import TrainingProgress
from noref.training.settings import Training
from noref.training.step import Step, check_compiled
from noref.training.steps import Steps
from noref.training.store import TeacherStore
from noref.training.validate import score_holdout, teach


class Interrupted(Exception):
    """The user stopped the training; it can go on from its checkpoint."""


@dataclass
class Progress:
    """Where a training stands; with the tensors, all that a checkpoint holds.

    Attributes:
        stage: from 0.
        step: steps taken in this stage.
        taken: steps taken in all.
        gammas: Γ of every validation of every stage, per scan: `[stage][validation][scan]`.
        best: mean Γ of the best weights so far in this stage, or None.
        finished: whether all stages are done.
        logged: length of `metrics.jsonl` in bytes.
    """

    stage: int = 0
    step: int = 0
    taken: int = 0
    gammas: list[list[list[float]]] = field(default_factory=lambda: [[]])
    best: float | None = None
    finished: bool = False
    logged: int = 0

    def means(self) -> list[float]:
        """Mean Γ of each validation of the current stage."""
        return [sum(scores) / len(scores) for scores in self.gammas[self.stage]]


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
        distributed.place(network, self.device)
        method.to(self.device)
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
        )
        self.per_stage = self.steps.per_epoch * settings.epochs
        self.step = Step(method, network, settings.precision)
        self.optimiser = self._optimiser()
        self._saved = time.monotonic()
        self._stop = False
        if targets is not None:
            method.prepare(targets.masks)

    @property
    def checkpoint(self) -> Path:
        """The file to go on from."""
        return self.folder / "checkpoint.safetensors"

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
            self._compile()
        module = distributed.wrap(self.step, self.device)
        quiet = distributed.rank() > 0
        with self._interruptible(), TrainingProgress(self._total, self.progress.taken, quiet) as display:
            while not self.progress.finished:
                self._begin_stage()
                self._stage(module, display)
                self._end_stage(display)
        return self.progress

    def _tidy(self) -> None:
        """Removes what a killed run left half-written, and all of it if it never got to a checkpoint."""
        if distributed.rank() == 0:
            sweep(self.folder)
            if self.progress.taken == 0:
                self._log.unlink(missing_ok=True)
                shutil.rmtree(self._teacher, ignore_errors=True)
        distributed.barrier()

    @property
    def _total(self) -> int:
        """Steps of the whole training, as far as it is known by now."""
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
        self.best = groups.get("best", {})
        self.progress = Progress(**state)
        if distributed.rank() == 0 and self._log.exists():
            os.truncate(self._log, self.progress.logged)

    def save(self) -> None:
        """Writes the checkpoint; only the first rank does."""
        self._saved = time.monotonic()
        if distributed.rank() == 0:
            # The checkpoint says how long the log is: the log must not reach the disk after it.
            if self._log.exists():
                flush(self._log)
            groups: dict[str, dict[str, Tensor]] = {
                "network": self.network.state_dict(),
                "method": self.method.state_dict(),
                "optimiser": optimiser_tensors(self.optimiser),
                "best": self.best,
            }
            save_checkpoint(self.checkpoint, groups, asdict(self.progress))

    @property
    def _log(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def _teacher(self) -> Path:
        return self.folder / "teacher"

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends a line to `metrics.jsonl`."""
        if distributed.rank() == 0:
            self.progress.logged = append(self._log, json.dumps(row) + "\n")

    def _begin_stage(self) -> None:
        stage = self.progress.stage
        store: Mapping[str, Tensor] = {}
        if stage > 0 and self.targets is not None:
            teacher = TeacherStore(self._teacher / f"stage-{stage}")
            # Between stages the network still is the teacher; on resuming later, the store is complete.
            if self.progress.step == 0 and not teach(
                self.method, self.network, self.targets, teacher, self.device, lambda: self._stop
            ):
                raise Interrupted(self._stopped())
            if len(teacher) < len(self.targets):
                raise NorefError(
                    f"{teacher.folder}: {len(teacher)} of {len(self.targets)} images; copy it whole"
                )
            store = teacher
        self.method.begin(stage, store)

    def _stage(self, module: torch.nn.Module, display: TrainingProgress) -> None:
        first = self.progress.step
        loader = DataLoader(
            self.steps,
            batch_size=None,
            sampler=range(first, self.per_stage),
            num_workers=self.settings.workers,
        )
        for step, micro_batches in zip(range(first, self.per_stage), loader, strict=True):
            if isinstance(micro_batches, NorefError):
                raise micro_batches
            loss, terms = self._optimise(module, step, micro_batches)
            self.progress.step, self.progress.taken = step + 1, self.progress.taken + 1
            epoch = step // self.steps.per_epoch
            display.step(self.progress.taken, self.progress.stage, epoch, loss)
            if self.progress.taken % self.settings.log_every == 0:
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
        self, module: torch.nn.Module, step: int, micro_batches: list[Views]
    ) -> tuple[float, dict[str, float]]:
        """One optimiser step; returns its loss and terms, means over the views' shares."""
        share = torch.stack([views.share.sum() for views in micro_batches]).sum().to(self.device)
        weight = distributed.total(share)
        key = Key(self.settings.seed, "", "loss", step).fold(self.progress.stage)
        sums: dict[str, Tensor] = {}
        self.optimiser.zero_grad(set_to_none=True)
        for number, views in enumerate(micro_batches):
            with distributed.unsynchronised(module, last=number == len(micro_batches) - 1):
                graded, terms = module(views.to(self.device), key)
                # Ranks average their gradients: times their number, the sum over all views is left.
                (graded * distributed.world_size() / weight).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + term
        # One exchange for the log and for the wish to stop, so that no rank goes on alone.
        values = (torch.stack(list(sums.values())) / weight).tolist()
        everywhere = distributed.total_by_name(
            {"stop": float(self._stop), **dict(zip(sums, values, strict=True))}
        )
        self._stop = everywhere.pop("stop") > 0
        loss = sum(everywhere.values())
        norm = float(torch.nn.utils.clip_grad_norm_(self.step.parameters(), self.settings.clip or math.inf))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NorefError(
                f"{self.folder}: the loss is {loss} and its gradient's norm {norm} after "
                f"{self.progress.taken} steps; lower training.lr, or look for broken scans with noref inspect"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(step)
        self.optimiser.step()
        return loss, everywhere

    def _validate(self, epoch: int, display: TrainingProgress) -> None:
        if self.validation is None:
            return
        scores = score_holdout(
            self.method, self.network, self.validation, self.settings.validation_scans, self.device
        )
        gamma = sum(scores) / len(scores)
        self.progress.gammas[self.progress.stage].append(scores)
        if self.progress.best is None or gamma < self.progress.best:
            self.progress.best = gamma
            self.best = {name: tensor.detach().clone() for name, tensor in self.step.state_dict().items()}
        display.gamma(gamma)
        self.log({**self._place(epoch), "gamma": gamma})

    def _flat(self) -> bool:
        """Whether Γ has gone `patience` validations without improving."""
        means, patience = self.progress.means(), self.settings.patience
        return bool(patience and means) and len(means) - 1 - means.index(min(means)) >= patience

    def _end_stage(self, display: TrainingProgress) -> None:
        """Goes on from the best weights: to the end, or with a fresh optimiser to the next stage."""
        if self.best:
            self.step.load_state_dict(self.best)
            display.line(f"stage {self.progress.stage}: best Γ {self.progress.best:.4f}")
        if self.progress.stage + 1 < self.method.stages:
            self.progress.stage, self.progress.step, self.progress.best = self.progress.stage + 1, 0, None
            self.progress.gammas.append([])
            self.best = {}
            self.optimiser = self._optimiser()
        else:
            self.progress.finished = True
        display.total = self._total
        self.save()

    def _compile(self) -> None:
        views = self.steps.step(self.progress.step)[0].to(self.device)
        difference = check_compiled(self.step, views, Key(self.settings.seed, "", "compile"))
        if not difference < 1e-3:
            raise NorefError(
                f"the compiled network's gradients differ from the eager ones by {difference:.1e}; "
                "train with training.compile=false"
            )

    def _save_if_due(self) -> None:
        due = time.monotonic() - self._saved >= self.settings.save_every
        if self._stop:
            self.save()
            raise Interrupted(self._stopped())
        if due:
            self.save()

    def _stopped(self) -> str:
        return f"{self.folder}: stopped after {self.progress.taken} steps and saved; resume it to go on"

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the training after the step under way."""
        self._stop = False

        def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
            self._stop = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
