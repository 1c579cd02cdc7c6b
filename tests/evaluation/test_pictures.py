from __future__ import annotations

import io

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

from noref.evaluation import pictures


def pixels(png: bytes, mode: str = "L") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert(mode))


def test_equal_errors_look_equally_different() -> None:
    lightness = rgb2lab(pictures.colour_map()[None])[0, :, 0]
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert lightness[0] < 3
    assert lightness[-1] > 96
    np.testing.assert_allclose(np.diff(lightness[::15]), np.diff(lightness[::15]).mean(), rtol=0.35)


def test_window_clips_the_brightest_half_per_cent() -> None:
    image = np.arange(1000.0).reshape(20, 50)
    assert pictures.window(image) == np.percentile(image, 99.5)
    assert pictures.window(np.zeros((4, 4))) == 1
    one_pixel = np.zeros((40, 40))
    one_pixel[3, 5] = 7
    assert pictures.window(one_pixel) == 7


def test_grey_levels() -> None:
    image = np.array([[0, 0.5, 1, 2, np.nan]])
    assert pixels(pictures.grey(image, 1.0)).tolist() == [[0, 128, 255, 255, 0]]


def test_errors_are_five_times_as_bright() -> None:
    reference = np.full((1, 4), 0.5)
    image = reference + np.array([[0, 0.125, -0.125, 0.4]])
    shown = pixels(pictures.error(image, reference, 1.0), "RGB")
    colours = pictures.colour_map()
    assert (shown[0] == colours[[0, 159, 159, 255]]).all()


def test_mask_and_bar() -> None:
    mask = np.eye(5, dtype=bool)
    assert (pixels(pictures.mask(mask)) == 255 * mask).all()
    assert (pixels(pictures.colour_bar(), "RGB")[0] == pictures.colour_map()).all()
