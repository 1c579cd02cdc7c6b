"""Where a training stands, and whether a stage has made it worse."""

from __future__ import annotations

from dataclasses import dataclass, field

from noref.data.files import volume_of
from noref.training.store import Origin


@dataclass
class Progress:
    """Where a training stands; with the tensors, all that a checkpoint holds.

    Attributes:
        stage: from 0.
        step: steps taken in this stage.
        taken: steps taken in all.
        gammas: Γ of every validation of every stage, per scan: `[stage][validation][scan]`.
        best: mean Γ of the best weights so far in this stage, or None.
        teachers: whose images the stages from the second on learn from, one teacher per set of images.
        finished: whether all stages are done.
        logged: length of `metrics.jsonl` in bytes.
    """

    stage: int = 0
    step: int = 0
    taken: int = 0
    gammas: list[list[list[float]]] = field(default_factory=lambda: [[]])
    best: float | None = None
    teachers: list[Origin] = field(default_factory=list)
    finished: bool = False
    logged: int = 0

    def means(self) -> list[float]:
        """Mean Γ of each validation of the current stage."""
        return [_mean(scores) for scores in self.gammas[self.stage]]

    def best_scores(self, stage: int) -> list[float]:
        """Γ of a stage's best weights, per scan; empty if it was never validated."""
        return min(self.gammas[stage], key=_mean, default=[])

    def begin_stage(self, teacher: Origin | None) -> None:
        """Goes on to the next stage.

        Args:
            teacher: whose images it learns from, or None if those of the stage before.
        """
        self.stage, self.step, self.best = self.stage + 1, 0, None
        self.gammas.append([])
        if teacher is not None:
            self.teachers.append(teacher)

    def roll_back(self) -> None:
        """Ends the training with what the stage before had reached; its record of Γ stays."""
        self.stage, self.finished = self.stage - 1, True
        self.best = _mean(self.best_scores(self.stage))
        del self.teachers[self.stage :]


def _mean(scores: list[float]) -> float:
    return sum(scores) / len(scores)


def least_chance(ids: list[str]) -> float:
    """The least p value that `chance_of_no_harm` can give: `2⁻ⁿ` of n volumes."""
    return 0.5 ** len(set(map(volume_of, ids)))


def chance_of_no_harm(before: list[float], after: list[float], ids: list[str]) -> float:
    """The p value of Wilcoxon's signed-rank test, one-sided, over volumes: small where `after` is worse.

    Slices of one volume are not independent: a volume counts once, by its mean difference.

    Args:
        before: Γ of every scan by the weights before; lower is better.
        after: of the same scans, by the weights after.
        ids: of the same scans.
    """
    by_volume: dict[str, list[float]] = {}
    for name, old, new in zip(ids, before, after, strict=True):
        by_volume.setdefault(volume_of(name), []).append(new - old)
    differences = [_mean(of_volume) for of_volume in by_volume.values()]
    # Takes as long to import as half of PyTorch, which only trainings in stages spend.
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, alternative="greater").pvalue) if any(differences) else 1.0
