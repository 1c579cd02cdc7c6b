"""A measurement of read-outs, and the noise that its noise scans tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.coils.whitening import noise_covariance
from noref.errors import NorefError
from noref.formats.mrd_frames import Navigators, noise_scans
from noref.formats.mrd_header import MrdHeader
from noref.formats.mrd_readouts import Table, Values, read_samples


@dataclass(frozen=True)
class Measurement:
    """One group of a file, or what a stream has brought of one.

    Attributes:
        group: its name.
        header: what its XML says.
        table: headers of its read-outs.
        noise: covariance of its noise scans, complex64 `(coils, coils)`, or None.
        dwell: microseconds between two samples of these; 0 if not told.
    """

    group: str
    header: MrdHeader
    table: Table
    noise: Tensor | None
    dwell: float

    @cached_property
    def navigators(self) -> Navigators:
        """Those that bring its lines in phase."""
        return Navigators(self.table)


def with_noise(path: Path, values: Values, one: Measurement) -> Measurement:
    """A measurement with the covariance of its noise scans, if it has any.

    Raises:
        NorefError: if these are of different channels, or do not hold what their headers say.
    """
    numbers = noise_scans(one.table)
    if not len(numbers):
        return one
    samples = read_samples(path, values, one.table, numbers)
    coils = {len(values) for values in samples}
    if len(coils) > 1:
        raise NorefError(
            f"{path}: noise scans of {listed(coils)} channels; leave out those of the other coils"
        )
    noise = noise_covariance(torch.from_numpy(np.concatenate(samples, axis=1)))
    return replace(one, noise=noise, dwell=float(one.table["sample_time_us"][numbers[0]]))


def listed(values: set[int]) -> str:
    """Numbers as a sentence has them."""
    return " and ".join(map(str, sorted(values)))


def noise_in_image(
    noise: Measurement | None, table: Table, count: NDArray[np.intp], gain: float = 1.0
) -> Tensor | None:
    """Covariance of the noise in k-space, complex64 `(coils, coils)`, from that of the noise scans.

    `Σ_noise · τ_noise / (τ b) · mean(1/n)`, with the dwell times τ, the receiver's relative noise bandwidth b
    and n averages of a sample (Kellman and McVeigh, MRM 54 (2005), for the first two).

    Args:
        noise: the measurement that brings the noise scans, or None.
        table: headers of the image's read-outs.
        count: averages of each sample.
        gain: of variance, by what was done to the samples.
    """
    if noise is None or noise.noise is None:
        return None
    dwell = float(table["sample_time_us"][0])
    slower = noise.dwell / dwell if dwell and noise.dwell else 1.0
    averaged = float((1 / count[count > 0]).mean())
    return noise.noise * slower / noise.header.noise_bandwidth * averaged * gain
