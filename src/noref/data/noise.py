"""How much noise a scan holds, and how well one can score against a reference that holds it too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from noref.coils.calibration import acs_box
from noref.coils.whitening import MIN_SAMPLES, noise_region
from noref.physics import ifft2c
from noref.scan import Scan

_EMPTIED = 100.0
"""dB of a ceiling above which the border of k-space must have been emptied: no scan is so quiet."""

_ALIKE, _NOISY = 3.0, 0.2
"""By what factor the powers of four corners of air may differ, and by how much their median power from that
of noise of the same mean. Where scans of the standing experiments have air, the factor is 1.1 to 2.1, the
median 0.87 to 1.01; where an object reaches the corners, 3.0 to 700 and 0.01 to 0.62; of one value everywhere
it is 1.44."""

_TOO_LITTLE = "too little of the border of k-space was measured"


def noise_level(scan: Scan) -> tuple[float | None, str]:
    """Standard deviation σ of complex noise in one sample of the median coil, and the region it is from.

    `border_power`, whatever the scan's noise scans say; or `air_power` where that is less than half of it, as
    on coarse matrices, whose border holds signal. Elsewhere the border comes nearer: noise need not be white.
    """
    border, found = border_power(scan)
    power = _air_below(scan, border, 0.5)
    if power is not None:
        found = "air"
    else:
        power = border
    return (None if power is None else float(power.median().sqrt())), found


def noise_power(scan: Scan) -> tuple[Tensor | None, str]:
    """σ² of complex noise in one sample of each coil, float32 `(coils,)`, and where it is from.

    The diagonal of the scan's `noise_cov`, that of its noise scans. Without one the lower of `border_power`
    and `air_power`, of which signal makes either larger than the noise. None, and why, if there is neither.
    """
    if scan.noise_cov is not None:
        return scan.noise_cov.diagonal().real, "noise scans"
    border, found = border_power(scan)
    air = _air_below(scan, border, 1.0)
    return (border, found) if air is None else (air, "air")


def _air_below(scan: Scan, border: Tensor | None, share: float) -> Tensor | None:
    """`air_power` where it is below a share of what the border tells, or that tells nothing; else None."""
    air = air_power(scan)
    return air if air is not None and (border is None or air.sum() < share * border.sum()) else None


def air_power(scan: Scan) -> Tensor | None:
    """σ² of each coil, float32 `(coils,)`, from the air in the corners of the image of the sampled centre.

    `σ² = median |x_c|² / (ln 2 · mean h²)` with `x_c = Fᴴ h y_c` of the box around the centre that was
    sampled whole, all of k-space of a full scan, and h a Hann window, against ringing that would reach the
    air. An upper bound where the object reaches the corners. None where the box is too small, and off the
    grid.
    """
    if scan.trajectory is not None:
        return None
    centre = scan.kspace[(..., *acs_box(scan.measured))]
    corners = [max(1, size // 8) for size in centre.shape[-2:]]
    if 4 * corners[0] * corners[1] < MIN_SAMPLES:
        return None
    windows = [torch.hann_window(size + 2, periodic=False)[1:-1] for size in centre.shape[-2:]]
    window = windows[0][:, None] * windows[1]
    air = torch.cat(_corners(ifft2c(centre * window), corners), -1)
    return power_of(air) / window.square().mean()


def _corners(image: Tensor, size: Sequence[int]) -> list[Tensor]:
    """The four corners `(coils, pixels)` of images `(coils, y, x)`."""
    (y, x), rows = size, range(2)
    ends = [image[..., :y, :], image[..., -y:, :]]
    return [end.flatten(-2) for row in rows for end in (ends[row][..., :x], ends[row][..., -x:])]


def pixel_noise(scan: Scan) -> float | None:
    """Standard deviation of complex noise in a pixel of a full Cartesian scan's median coil; None if unknown.

    `noise_level`, as of white noise; unless the corners of the image hold more than twice its power, and
    nothing but noise: all four are alike, and their median power is that of noise, `ln 2` of the mean. Then
    that of the corners: a filter has taken noise from the border of k-space.
    """
    level, _ = noise_level(scan)
    corners = _corners(ifft2c(scan.kspace), [max(1, size // 8) for size in scan.shape])
    powers = torch.stack([corner.abs().square().mean(-1) for corner in corners])
    air = torch.cat(corners, -1)
    power = power_of(air)
    alike = float((powers.amax(0) / powers.amin(0)).median()) < _ALIKE
    noisy = abs(float((power / air.abs().square().mean(-1)).median()) - 1) < _NOISY
    above = level is None or float(power.median()) > 2 * level**2
    return (
        float(power.median().sqrt()) if above and alike and noisy and air.shape[-1] >= MIN_SAMPLES else level
    )


def border_power(scan: Scan) -> tuple[Tensor | None, str]:
    """σ² of each coil, float32 `(coils,)`, from where k-space holds little but noise, and the region.

    `σ² = median |y|² / ln 2` over measured samples in the corners of k-space, or along its border if the
    corners were not measured. Signal that reaches there makes it an upper bound. Off the Cartesian grid it is
    that of a sample before its density compensation. None, and why, if too little was measured there.
    """
    if scan.trajectory is not None:
        return _border_of_trajectory(scan, scan.trajectory)
    chosen, found = noise_region(scan.shape, scan.measured)
    return (None if chosen is None else power_of(scan.kspace[..., chosen])), found


def _border_of_trajectory(scan: Scan, trajectory: Tensor) -> tuple[Tensor | None, str]:
    far = torch.linalg.vector_norm(trajectory, dim=-1)
    chosen = (far > 0.9 * far[scan.measured].max()) & scan.measured
    if int(chosen.sum()) < MIN_SAMPLES:
        return None, _TOO_LITTLE
    kspace = scan.kspace if scan.weights is None else scan.kspace / scan.weights
    return power_of(kspace[..., chosen]), "border"


def power_of(samples: Tensor) -> Tensor:
    """`median |n|² / ln 2`, `(…)`, of complex noise `(…, samples)`: a few that hold signal do not count."""
    return samples.abs().square().median(-1).values / math.log(2)


def ceiling_psnr(volume: Sequence[Scan]) -> float | None:
    """The PSNR in dB that the noiseless volume would reach against its noisy reference.

    `20·log10(max |x|) − 10·log10(mean e²)` over all slices, in the file's units, with the error to expect in
    each pixel: `e² = σ²/2` on the object, where only the part of complex noise along the image's phase moves
    its magnitude; `σ²` where there is none (`|x| < 2σ`), and 0 outside the maps. Maps of unit norm leave σ as
    it is. As `pixel_noise` may count signal as noise, the true ceiling may be higher. None where a slice has
    no reference, or it was made of noiseless k-space or off the Cartesian grid; and above 100 dB, where the
    border of k-space was emptied and no air is in the corners.

    Args:
        volume: the slices that PSNR is taken over.
    """
    peak, errors = 0.0, []
    for scan in volume:
        if scan.reference is None or scan.clean is not None or scan.trajectory is not None:
            return None
        level = pixel_noise(scan)
        if not level:
            return None
        image = scan.reference.abs().square().sum(0).sqrt()
        error = torch.where(image < 2 * level, level**2, level**2 / 2) * (image > 0)
        peak = max(peak, float(image.max()) * abs(scan.scale))
        errors.append(error.mean() * abs(scan.scale) ** 2)
    ceiling = 20 * math.log10(peak) - 10 * math.log10(float(torch.stack(errors).mean()))
    return ceiling if ceiling <= _EMPTIED else None
