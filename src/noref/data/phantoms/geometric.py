"""Geometry without anatomy: a control that shares no structure with any body."""

from __future__ import annotations

import numpy as np

from noref.data.phantoms.canvas import Array, Canvas


def geometric(c: Canvas) -> None:
    """A dish in the manner of Shepp and Logan (1974): ellipses, boxes, bars, discs, shading."""
    c.pose(turn=3.14, shift=0.05, scale=(0.9, 1.1), bend=0.0)
    dish = c.ellipse(0, 0, 0.86, 0.74)
    c.fill(dish, 0.95)
    inside = dish + c.draw("rim", 0.03, 0.07)
    c.fill(
        inside,
        c.draw("filling", 0.2, 0.5)
        * (1 + 0.15 * c.field("shading", 0.3, 1.5) + 0.12 * c.field("grain", 0.025, 0.2)),
    )
    for number in range(48):
        x, y = c.jitter(f"place {number}", (0, 0), 0.6)
        size = c.draw(f"size {number}", 0.02, 0.2)
        thin = size * c.draw(f"aspect {number}", 0.3, 1.0)
        turn = c.draw(f"turn {number}", 0, 3.14)
        height = c.draw(f"height {number}", -0.3, 0.3)
        if number % 3 == 2:
            shape = _box(c, x, y, size, thin, turn) + max(abs(c.z - height) - 0.3, 0)
        else:
            shape = c.ellipse(x, y, size, thin, turn=turn, height=c.z - height, c=0.4)
        shape = np.maximum(shape, inside + 0.03)
        value = c.draw(f"value {number}", 0.02, 0.85)
        if number % 4 == 1:
            stripes = c.draw(f"bars {number}", 0.035, 0.12)
            wave = np.cos(2 * np.pi * (np.cos(turn) * c.x + np.sin(turn) * c.y) / stripes)
            c.fill(np.maximum(shape, stripes * wave / 6), value)
        else:
            c.fill(
                shape,
                value
                * (
                    1
                    + c.draw(f"grain {number}", 0.05, 0.35) * c.field(f"grain {number}", 0.025, 0.2, waves=32)
                ),
            )


def _box(c: Canvas, x: float, y: float, a: float, b: float, turn: float) -> Array:
    sine, cosine = np.float32(np.sin(turn)), np.float32(np.cos(turn))
    dx, dy = c.x - np.float32(x), c.y - np.float32(y)
    box: Array = np.maximum(np.abs(cosine * dx + sine * dy) - a, np.abs(cosine * dy - sine * dx) - b)
    return box
