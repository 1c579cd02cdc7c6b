"""How long and how fast to train."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Training(BaseModel):
    """Settings of a training.

    Attributes:
        epochs: visits of every target (without targets, of every proxy), per stage.
        batch: scans in an optimiser step, over all ranks and micro-batches.
        micro_batch: scans per pass through the network; None for the whole step. Gradients are accumulated.
        mixing: share of proxies in a step where there are both.
        lr: learning rate of Adam in the first stage.
        refined_lr: learning rate of later stages; None for the same.
        warmup: steps over which the learning rate rises from 0, in each stage.
        schedule: `cosine` falls to zero over a stage; `plateau` falls by `plateau_factor` when Γ has not
            improved for `plateau_patience` validations; `step` by `step_factor` every `step_every` steps of a
            stage; `constant`.
        clip: largest norm of the gradient; 0 for no limit.
        precision: of convolutions; physics stays in float32. `tf32` is float32 whose factors GPUs round to
            TF32; `auto` is `bf16` where the hardware has it, and `tf32` elsewhere.
        graphs: replay passes as CUDA graphs, on GPUs; not with `shard`.
        compile: compile the network's blocks, after checking one batch's gradients against the eager ones.
        patience: validations without a better Γ after which a stage ends; 0 for never.
        rollback: level of the test that takes back a later stage: where its Γ is worse than that of the stage
            before, by Wilcoxon's signed-rank test over volumes with a smaller p, training ends with the
            weights of the stage before; 0 for never. Takes five volumes at 0.05.
        validate_every: epochs between validations.
        validation_scans: at most so many scans are scored.
        log_every: steps between lines of `metrics.jsonl`.
        save_every: seconds between checkpoints.
        workers: processes that load; 0 to load in the training process.
        shard: divide weights, gradients and optimiser among the processes, for networks that do not fit on
            one device; what is learned is the same. The log then does not tell targets from proxies.
        seed: of weights, orders and partitions; not of the data.
        device: `auto`, `cpu`, `cuda`, ….
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(40, ge=1)
    batch: int = Field(4, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    mixing: float = Field(0.5, ge=0, le=1)
    lr: float = Field(1e-3, gt=0)
    refined_lr: float | None = Field(None, gt=0)
    warmup: int = Field(20, ge=0)
    schedule: Literal["cosine", "plateau", "step", "constant"] = "cosine"
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    plateau_patience: int = Field(3, ge=1)
    step_factor: float = Field(0.8, gt=0, lt=1)
    step_every: int = Field(150_000, ge=1)
    clip: float = Field(1.0, ge=0)
    precision: Literal["auto", "float32", "tf32", "bf16"] = "float32"
    graphs: bool = True
    compile: bool = False
    patience: int = Field(0, ge=0)
    rollback: float = Field(0.05, ge=0, lt=1)
    validate_every: int = Field(1, ge=1)
    validation_scans: int = Field(32, ge=1)
    log_every: int = Field(10, ge=1)
    save_every: float = Field(60, ge=0)
    workers: int = Field(0, ge=0)
    shard: bool = False
    seed: int = 0
    device: str = "auto"

    @model_validator(mode="after")
    def _whole_to_compile(self) -> Self:
        if self.shard and self.compile:
            raise ValueError("compiled networks cannot be sharded; set compile or shard to false")
        return self

    def learning_rate(self, stage: int, step: int, steps: int, gammas: list[float]) -> float:
        """The rate of a step, a pure function of where the training stands.

        Args:
            stage: from 0.
            step: within the stage.
            steps: that the stage has.
            gammas: Γ of the validations of this stage so far.
        """
        base = self.lr if stage == 0 or self.refined_lr is None else self.refined_lr
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            return base * rise * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
        if self.schedule == "plateau":
            return base * rise * self.plateau_factor ** plateaus(gammas, self.plateau_patience)
        if self.schedule == "step":
            return base * rise * self.step_factor ** (step // self.step_every)
        return base * rise


def plateaus(gammas: list[float], patience: int) -> int:
    """How often Γ went `patience` validations without improving, counting anew after each time."""
    best, waited, count = math.inf, 0, 0
    for gamma in gammas:
        waited = 0 if gamma < best else waited + 1
        best = min(best, gamma)
        if waited == patience:
            waited, count = 0, count + 1
    return count
