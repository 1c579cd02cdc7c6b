"""Which part of a store's volumes one of several processes writes that know nothing of one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from noref.errors import NorefError


@dataclass(frozen=True)
class Shard:
    """A share of a store's volumes: every `number`-th, from that at `index` on.

    Attributes:
        index: from 0.
        number: of shares.
    """

    index: int
    number: int

    @classmethod
    def of_slurm(cls, environment: Mapping[str, str]) -> Shard:
        """The share of a task of a SLURM array, of a task that `srun` started, or of both; else all.

        A batch script has `SLURM_NTASKS` too, although it runs once: what `srun` alone sets is asked.

        Args:
            environment: of the process.

        Raises:
            NorefError: if the array's tasks are not numbered evenly, or not at all.
        """
        array, step = "SLURM_ARRAY_TASK_", environment.get("SLURM_STEP_NUM_TASKS")
        index, number = 0, int(environment.get(f"{array}COUNT", 1))
        if number > 1:
            names = [f"{array}{name}" for name in ("ID", "MIN", "STEP")]
            if any(name not in environment for name in names):
                raise NorefError(f"{array}COUNT is set without {', '.join(names)}; give --shard K/N")
            task, first, apart = (int(environment[name]) for name in names)
            index = (task - first) // apart
            if index >= number:
                raise NorefError(
                    f"task {task} of a SLURM array with gaps; say which share it has: --shard K/N"
                )
        if step is not None:
            index, number = index * int(step) + int(environment["SLURM_PROCID"]), number * int(step)
        return cls(index, number)

    @classmethod
    def of(cls, text: str) -> Shard:
        """The share that `K/N` names, K from 1 to N.

        Raises:
            NorefError: if it names none.
        """
        index, _, number = text.partition("/")
        if not (index.isdecimal() and number.isdecimal() and 1 <= int(index) <= int(number)):
            raise NorefError(f"--shard: {text!r} is no share; give K/N, from 1/N to N/N")
        return cls(int(index) - 1, int(number))
