"""The same slice measured twice: do two reconstructions differ by more than noise?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noref.acceptance.candidates import Applied
from noref.coils.whitening import MIN_SAMPLES
from noref.data.noise import noise_power, power_of
from noref.errors import NorefError
from noref.sampling.holdout import calibrated
from noref.scan import Scan, encoding_of
from noref.seeding import Key


@dataclass(frozen=True)
class Repeat:
    """How two reconstructions of one slice agree.

    Attributes:
        difference: `‖g R(y₁) − R(y₂)‖² / ‖R(y₂)‖²`, g the complex gain that makes it least.
        noise: the same, to be expected of noise alone; None if nothing tells the noise.
        predicted: `(‖y₂ − g A R(y₁)‖² − Nσ²) / (‖y₂‖² − Nσ²)`, the error of what one half says of the other's
            samples, mean of both ways; None as `noise`.
    """

    difference: float
    noise: float | None
    predicted: float | None

    @property
    def ratio(self) -> float | None:
        """Difference over what noise explains; 1 is noise alone."""
        if self.noise is None:
            return None
        if self.noise > 0:
            return self.difference / self.noise
        return math.inf if self.difference > 0 else 0.0


def alike(scan: Scan, again: Scan) -> Scan:
    """The second measurement, with the Ω, maps and scale of the first: what is left to differ is measured.

    Args:
        scan: prepared.
        again: of the same slice, prepared.

    Raises:
        NorefError: if it is of another matrix or other coils, holds less than the first, or is the first.
    """
    if again.kspace.shape != scan.kspace.shape:
        mine, other = ("×".join(map(str, one.kspace.shape)) for one in (scan, again))
        raise NorefError(f"{again.id}: {other}, and {scan.id} is {mine}; give the same slice measured again")
    same = (scan.trajectory is None) == (again.trajectory is None) and (
        scan.trajectory is None or again.trajectory is None or torch.equal(scan.trajectory, again.trajectory)
    )
    if not same or bool((scan.mask & ~again.measured).any()):
        raise NorefError(
            f"{again.id}: lacks samples that {scan.id} has; a repeated measurement must be sampled alike"
        )
    again = again.scaled(scan.scale / again.scale)
    if torch.allclose(again.kspace[:, scan.mask], scan.kspace[:, scan.mask], rtol=1e-4, atol=0):
        raise NorefError(f"{again.id}: holds the same samples as {scan.id}; give a second measurement")
    return replace(
        again, mask=scan.mask, holdout=None, maps=scan.maps, density=scan.density, weights=scan.weights
    )


def repeat(applied: Applied, scan: Scan, again: Scan, seed: int) -> Repeat:
    """Compares what is made of two measurements, and with what noise alone would do.

    What noise does is measured, as no formula knows it of a network: each half is reconstructed once more
    with as much noise added as it holds (pseudo replicas, Robson et al., MRM 2008, 60:895), so that

        noise = (|g|² ‖R(y₁ + n₁) − R(y₁)‖² + ‖R(y₂ + n₂) − R(y₂)‖²) / ‖R(y₂)‖²

    Its σ is that of half the difference between the measurements, which holds no signal if nothing moved.

    Args:
        applied: R.
        scan: prepared.
        again: from `alike`.
        seed: of the acceptance, draws the added noise.
    """
    halves = (scan, again)
    images = [applied(half) for half in halves]
    gain = _gain(images[0].image, images[1].image)
    energy = _energy(images[1].image)
    difference = _energy(gain * images[0].image - images[1].image) / energy
    power = halves_power(scan, again)
    if power is None:
        return Repeat(difference, None, None)
    noise = [
        _energy(applied(_noisier(half, power, Key(seed, scan.id, "replica").fold(number))).image - made.image)
        for number, (half, made) in enumerate(zip(halves, images, strict=True))
    ]
    ways = ((images[0], again), (images[1], scan))
    predicted = [_prediction(made.image, made.maps, other, power) for made, other in ways]
    return Repeat(difference, (abs(gain) ** 2 * noise[0] + noise[1]) / energy, sum(predicted) / 2)


def halves_power(scan: Scan, again: Scan) -> Tensor | None:
    """σ² of one measurement in each coil, float32 `(coils,)`: `median |y₁ − g y₂|² / (2 ln 2)`.

    Over the samples of Ω outside the calibration region, where there is little signal that could have moved;
    of the noise scans or the border of k-space where these are too few. None if nothing tells.
    """
    chosen = scan.mask & ~calibrated(scan)
    if int(chosen.sum()) < MIN_SAMPLES:
        return noise_power(scan)[0]
    first, second = scan.kspace[:, scan.mask], again.kspace[:, scan.mask]
    left = (scan.kspace - _gain(second, first) * again.kspace)[:, chosen]
    return power_of(left if scan.weights is None else left / scan.weights[chosen]) / 2


def _noisier(scan: Scan, power: Tensor, key: Key) -> Scan:
    noise = torch.randn(scan.kspace.shape, dtype=scan.kspace.dtype, generator=key.torch())
    noise = noise * power.sqrt()[:, None, None] * (1.0 if scan.weights is None else scan.weights)
    return replace(scan, kspace=scan.kspace + torch.where(scan.mask, noise, 0))


def _prediction(image: Tensor, maps: Tensor, other: Scan, power: Tensor) -> float:
    """Of all that the other half measured, not only its Ω."""
    told = encoding_of(other, other.measured, maps).forward(image[None])[0][:, other.measured]
    values = other.kspace[:, other.measured]
    noise = power[:, None] * (1.0 if other.weights is None else other.weights[other.measured].square())
    expected = float(noise.expand(values.shape).sum())
    error = _energy(values - _gain(told, values) * told)
    return (error - expected) / (_energy(values) - expected)


def _gain(of: Tensor, onto: Tensor) -> complex:
    """The complex g with the least `‖onto − g · of‖`."""
    power = _energy(of)
    return complex((of.conj() * onto).sum()) / power if power > 0 else 1.0


def _energy(values: Tensor) -> float:
    return float(values.abs().square().sum())
