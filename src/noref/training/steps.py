"""Optimiser steps: which scans meet, stacked how, on which rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info

from noref.data.dataset import Dataset, visits
from noref.errors import NorefError
from noref.methods.base import Method
from noref.methods.view import View, Views
from noref.scan import Role
from noref.seeding import Key


@dataclass(frozen=True)
class Visit:
    """One scan's turn."""

    role: Role
    index: int
    epoch: int


class Steps(TorchDataset[list[Views] | NorefError]):
    """The steps of a training, as a pure function of their number: step `t` is the same whenever it is asked.

    A step holds `batch` scans, a share of them proxies (over several steps, where the batch cannot be divided
    so), whatever their shapes. Scans of one role and shape
    are stacked in micro-batches; these are dealt out to the ranks, each of which gets equally many, padded
    by idle ones.

    Args:
        method: makes the views.
        targets: undersampled scans, or None.
        proxies: scans with references, or None.
        batch: scans per step, over all ranks.
        mixing: share of proxies in a step where there are both.
        micro_batch: scans per pass through the network; None for as many as the step has.
        seed: of the training.
        rank: of this process.
        world: number of processes.
        aligned: give every rank equally many micro-batches of each role, targets first: where the weights are
            sharded, all ranks take the same passes through the network at the same time.
    """

    def __init__(
        self,
        method: Method,
        targets: Dataset | None,
        proxies: Dataset | None,
        *,
        batch: int,
        mixing: float = 0.5,
        micro_batch: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        aligned: bool = False,
    ) -> None:
        self.method, self.seed, self.rank, self.world = method, seed, rank, world
        self.aligned = aligned
        self.micro_batch = micro_batch or batch
        given = {Role.TARGET: targets, Role.PROXY: proxies}
        self.sets = {role: dataset for role, dataset in given.items() if dataset is not None}
        self.batch, self.mixing = batch, Fraction(int(proxies is not None))
        if targets is not None and proxies is not None:
            if batch < 2:
                raise NorefError("training.batch=1: a step needs a target and a proxy; give at least 2")
            self.mixing = Fraction(mixing).limit_denominator(1000)
            if not 0 < self.mixing < 1:
                raise NorefError(
                    f"training.mixing={mixing:g}: a step needs targets and proxies; give a share between "
                    "0 and 1, or leave out the data of one role"
                )

    @property
    def per_epoch(self) -> int:
        """Steps until every target (without targets, every proxy) has been visited once, rounded up."""
        if Role.TARGET in self.sets:
            return math.ceil(len(self.sets[Role.TARGET]) / (self.batch * (1 - self.mixing)))
        return math.ceil(len(self.sets[Role.PROXY]) / self.batch)

    def _before(self, step: int) -> dict[Role, int]:
        """Scans of each role in all steps before one: their share holds over steps, whatever the batch."""
        proxies = math.floor(step * self.batch * self.mixing)
        return {Role.TARGET: step * self.batch - proxies, Role.PROXY: proxies}

    def plan(self, step: int) -> list[list[Visit]]:
        """The micro-batches of a step, over all ranks; those of targets first."""
        stacks: dict[tuple[Role, tuple[int, ...]], list[Visit]] = {}
        before, after = self._before(step), self._before(step + 1)
        for role, dataset in self.sets.items():
            number = after[role] - before[role]
            for index, epoch in visits(len(dataset), self.seed, role, before[role], number):
                stacks.setdefault((role, dataset.buckets[index]), []).append(Visit(role, index, epoch))
        chunks = []
        for stack in stacks.values():
            size = min(self.micro_batch, -(-len(stack) // self.world))
            chunks += [stack[i : i + size] for i in range(0, len(stack), size)]
        return chunks

    def views(self, visit: Visit) -> list[View]:
        """What the method makes of a scan; of a target it sees Ω∖Γ alone."""
        scan = self.sets[visit.role].scan(visit.index, visit.epoch)
        key = Key(self.seed, scan.id, "view", visit.epoch).fold(self.method.stage)
        return self.method.view(scan.as_target() if visit.role is Role.TARGET else scan, key)

    def __getitem__(self, step: int) -> list[Views] | NorefError:
        try:
            return self.step(step)
        except NorefError as error:
            if get_worker_info() is None:
                raise
            # Raised in a loading process, it would come out of it as the text of a traceback.
            return error

    def step(self, step: int) -> list[Views]:
        """The micro-batches of this rank."""
        chunks = self.plan(step)
        if not self.aligned:
            return self._share(chunks)
        by_role = [[chunk for chunk in chunks if chunk[0].role is role] for role in self.sets]
        return [views for of_role in by_role for views in self._share(of_role)]

    def _share(self, chunks: list[list[Visit]]) -> list[Views]:
        """The part that this rank has in some micro-batches, as many as every other's."""
        mine = [self._stack(chunk) for chunk in chunks[self.rank :: self.world]]
        while len(mine) < -(-len(chunks) // self.world):
            mine.append(mine[-1].idle() if mine else self._stack(chunks[0]).idle())
        return mine

    def _stack(self, chunk: list[Visit]) -> Views:
        return Views.of([view for visit in chunk for view in self.views(visit)])
