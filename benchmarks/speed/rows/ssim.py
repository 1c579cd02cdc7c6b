"""SSIM of 100 slices, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from noref.metrics import ssim
from noref.seeding import Key

from ..problem import Problem
from ..row import Array, Row, Setting, Side, Work


def _images(setting: Setting) -> tuple[Tensor, Tensor]:
    """References and noisy images, `(slices, y, x)`."""
    size, slices = setting.size(256, 32), setting.size(100, 3)
    reference = Problem((size, size)).image.abs() * torch.linspace(0.5, 1.5, slices)[:, None, None]
    noise = torch.randn(reference.shape, generator=Key(0, "speed", "images").torch())
    return reference, (reference + 0.05 * noise).abs()


def _noref(setting: Setting) -> Work:
    reference, image = (images[:, None] for images in _images(setting))

    def run() -> Array:
        return ssim(reference, image).numpy()

    return Work(run, run)


def _gradient(setting: Setting) -> Work:
    reference, image = (images[:, None] for images in _images(setting))
    image.requires_grad_()

    def run() -> Tensor:
        value = ssim(reference, image)
        torch.autograd.grad(value.sum(), image)
        return value

    return Work(run, lambda: run().detach().numpy())


def _scikit_image(setting: Setting) -> Work:
    from skimage import metrics

    reference, image = (images.numpy() for images in _images(setting))
    similarity: Any = metrics.structural_similarity  # has no types

    def run() -> Array:
        pairs = zip(reference, image, strict=True)
        return np.array([similarity(g, p, data_range=g.max()) for g, p in pairs])

    return Work(run, run)


ROWS = (
    Row(
        "ssim",
        "SSIM of 100 slices 256²",
        (
            Side("noref", _noref),
            Side("noref, with gradient", _gradient, tolerance=1e-4),
            Side("scikit-image", _scikit_image, ("skimage",), tolerance=1e-4),
        ),
        target=240,
        aim="differentiable",
        recorded={"scikit-image": 240},
        quick=True,
    ),
)
