"""Columns that an experiment adds to a report's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean

from noref.evaluation.compare import share_closed
from noref.evaluation.results import METRICS, Column, Metric, mean_over
from noref.evaluation.tables import percent
from noref.experiments.experiment import Experiment
from noref.scoring import Scored

HOURS = "Training"
"""Heading of the column of what training took."""


def measured_columns(
    experiment: Experiment, measured: Mapping[str, Sequence[Mapping[str, float]]]
) -> list[Column]:
    """The experiment's own and what training took, means over seeds."""
    headed = [(name, note, 3) for name, note in experiment.measures.items()]
    headed.append((HOURS, "CPU hours, mean over seeds, each on the machine that trained it", 2))
    columns = []
    for name, note, digits in headed:
        values = {row: [of[name] for of in seeds if name in of] for row, seeds in measured.items()}
        cells = {row: f"{fmean(of):.{digits}f}" for row, of in values.items() if of}
        columns.append(Column(name, note, cells))
    return columns


def shares(experiment: Experiment, scored: Mapping[str, Sequence[Scored]]) -> list[Column]:
    """The share of the distance between the anchors that every row closes, where both are there."""
    psnr = METRICS[0]
    values = {row: mean_over([seed.result for seed in seeds]).values(psnr) for row, seeds in scored.items()}
    if experiment.anchors is None:
        return []
    low, high = experiment.anchors
    if not (values.get(low) and values.get(high)):
        return []
    closed, ranges = {}, {}
    for row, of in values.items():
        if row in experiment.anchors or not of.keys() == values[low].keys() == values[high].keys():
            continue
        share = share_closed(of, values[low], values[high])
        closed[row] = f"{percent(share.mean)} ({percent(share.low)} to {percent(share.high)})"
        one_each = list(product(*(_means(scored[name], psnr) for name in (row, low, high))))
        # Ends that change places leave no distance.
        if len(one_each) > 1 and all(b > a for _, a, b in one_each):
            by_seed = [(m - a) / (b - a) for m, a, b in one_each]
            ranges[row] = f"{percent(min(by_seed))} to {percent(max(by_seed))}"
    name = "Distance closed"
    note = f"{low} to {high}, 95 % bootstrap interval over slices, of these seeds"
    least = "the least and the most, by one seed of the row and of either end"
    columns = [Column(name, note, closed), Column(f"{name}, by seed", least, ranges)]
    return [column for column in columns if column.cells]


def _means(seeds: Sequence[Scored], metric: Metric) -> list[float]:
    """Of each seed of a row, over the scans."""
    return [fmean(seed.result.values(metric).values()) for seed in seeds]
