"""The data that all sides get: an object, coils around it, masks, all drawn with fixed seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from noref.physics import fft2c
from noref.sampling.masks import acquisition_mask
from noref.seeding import Key


@dataclass(frozen=True)
class Problem:
    """One slice.

    Attributes:
        shape: `(ky, kx)`.
        coils: their number.
        mask_kind: `lines` or `random2d`, 4 times undersampled, 24 calibration lines or a block as wide.
        noise: standard deviation of the k-space noise, real and imaginary part each.
    """

    shape: tuple[int, int] = (256, 256)
    coils: int = 8
    mask_kind: str = "lines"
    noise: float = 0.002

    @cached_property
    def image(self) -> Tensor:
        """Complex64 `(y, x)`: ellipses of random sizes and a smooth phase, about 1 at most."""
        random = Key(0, "speed", "object").numpy()
        y, x = self._grid
        image = (((y / 0.85) ** 2 + (x / 0.75) ** 2) < 1).float() * 0.5
        for _ in range(20):
            cy, cx, turn = random.uniform((-0.5, -0.5, 0), (0.5, 0.5, 3.14)).tolist()
            a, b = random.uniform(0.03, 0.3, 2)
            sine, cosine = torch.tensor(turn).sin(), torch.tensor(turn).cos()
            along, across = (x - cx) * cosine + (y - cy) * sine, (y - cy) * cosine - (x - cx) * sine
            image += (((along / a) ** 2 + (across / b) ** 2) < 1).float() * random.uniform(-0.15, 0.25)
        return torch.polar(image.clamp(0, 1), 0.8 * x + 0.5 * y * y)

    @cached_property
    def maps(self) -> Tensor:
        """Complex64 `(coils, y, x)`, smooth, of unit norm everywhere."""
        y, x = self._grid
        angles = torch.arange(self.coils) * (2 * torch.pi / self.coils)
        centre_y, centre_x = 1.2 * angles.sin()[:, None, None], 1.2 * angles.cos()[:, None, None]
        distance = ((y - centre_y) ** 2 + (x - centre_x) ** 2).sqrt()
        maps = torch.polar(torch.exp(-distance), angles[:, None, None] + (x - centre_x) * (y - centre_y) / 2)
        return maps / maps.abs().square().sum(0).sqrt()

    @cached_property
    def full(self) -> Tensor:
        """Fully sampled noisy k-space, complex64 `(coils, ky, kx)`."""
        clean = fft2c(self.image * self.maps)
        noise = torch.randn(*clean.shape, 2, generator=Key(0, "speed", "noise").torch())
        return clean + self.noise * torch.view_as_complex(noise)

    @cached_property
    def mask(self) -> Tensor:
        """Bool `(ky, kx)`."""
        acs = 24 if min(self.shape) >= 128 else 4
        return acquisition_mask(self.mask_kind, self.shape, 4, acs, Key(0, "speed", "mask"))

    @property
    def kspace(self) -> Tensor:
        """Undersampled k-space, complex64 `(coils, ky, kx)`."""
        return self.full * self.mask

    @property
    def target(self) -> Tensor:
        """`Σ_c S_c* Fᴴ y_c` without undersampling or noise, complex64 `(y, x)`."""
        return self.image

    @property
    def _grid(self) -> tuple[Tensor, Tensor]:
        y, x = (torch.linspace(-1, 1, size) for size in self.shape)
        return y[:, None], x[None, :]
