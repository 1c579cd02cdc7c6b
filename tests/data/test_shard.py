"""Which share of the volumes a process has."""

from __future__ import annotations

import pytest

from noref.data.shard import Shard
from noref.errors import NorefError


def task(**said: int) -> dict[str, str]:
    return {f"SLURM_{name}": str(value) for name, value in said.items()}


def array(task_id: int, count: int, first: int = 0, step: int = 1) -> dict[str, str]:
    return task(ARRAY_TASK_ID=task_id, ARRAY_TASK_COUNT=count, ARRAY_TASK_MIN=first, ARRAY_TASK_STEP=step)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("first", [0, 1, 5])
@pytest.mark.parametrize("tasks", [1, 2])
def test_tasks_of_an_array_share_out_all(first: int, step: int, tasks: int) -> None:
    found = {
        Shard.of_slurm({**array(first + step * i, 4, first, step), **task(STEP_NUM_TASKS=tasks, PROCID=j)})
        for i in range(4)
        for j in range(tasks)
    }
    assert found == {Shard(index, 4 * tasks) for index in range(4 * tasks)}


def test_what_runs_once_has_all() -> None:
    assert Shard.of_slurm({}) == Shard(0, 1)
    # As in a batch script without srun.
    assert Shard.of_slurm(task(NTASKS=8, PROCID=0)) == Shard(0, 1)
    # As when one task of an array is run again.
    assert Shard.of_slurm(array(5, 1, 5)) == Shard(0, 1)


def test_arrays_with_gaps_are_asked_about() -> None:
    with pytest.raises(NorefError, match=r"task 7 of a SLURM array with gaps; .* --shard K/N"):
        Shard.of_slurm(array(7, 2, 3))


def test_shares_by_name() -> None:
    assert [Shard.of(f"{k}/3") for k in (1, 2, 3)] == [Shard(index, 3) for index in range(3)]
    for wrong in ("0/3", "4/3", "3", "1/", "/2", "-1/2", "a/b", "1/2/3"):
        with pytest.raises(NorefError, match="no share; give K/N"):
            Shard.of(wrong)
