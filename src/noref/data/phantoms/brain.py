"""Axial slices of a head."""

from __future__ import annotations

import numpy as np

from noref.data.phantoms.canvas import Array, Canvas

T1 = {"csf": 0.06, "grey": 0.34, "white": 0.64, "fat": 0.95, "marrow": 0.5, "muscle": 0.3, "vessel": 0.9}
T2 = {"csf": 0.95, "grey": 0.5, "white": 0.27, "fat": 0.6, "marrow": 0.35, "muscle": 0.15, "vessel": 0.04}
FLAIR = {"csf": 0.05, "grey": 0.66, "white": 0.42, "fat": 0.8, "marrow": 0.4, "muscle": 0.28, "vessel": 0.08}
DENSITY = {
    "csf": 0.95,
    "grey": 0.72,
    "white": 0.44,
    "fat": 0.75,
    "marrow": 0.45,
    "muscle": 0.4,
    "vessel": 0.1,
}


def brain(c: Canvas) -> None:
    """A head: scalp, skull, folded cortex, white matter, nuclei, ventricles; lower down, cerebellum, eyes."""
    c.pose(turn=0.25, shift=0.04, scale=(1.0, 1.12), bend=0.02)
    tissue = c.contrast(T1, T2, T2, FLAIR, DENSITY)
    level = c.z + c.draw("level", -0.5, 0.45)
    fine = c.field("fine", 0.025, 0.4)
    head = c.ellipse(0, 0, 0.72, 0.84, height=level + 0.1, c=1.2)
    inner = _skull(c, head, tissue, fine)
    _cerebrum(c, inner, level, tissue, fine)
    if level < 0:
        _hindbrain(c, inner, level, tissue, fine)
        _face(c, level, tissue, fine)


def _skull(c: Canvas, head: Array, tissue: dict[str, float], fine: Array) -> Array:
    """Scalp and skull; gives the signed distance of the cavity."""
    scalp = c.draw("scalp", 0.04, 0.09) + 0.015 * c.field("scalp", 0.3, 1.2)
    skull = c.draw("skull", 0.04, 0.07) + 0.008 * c.field("skull", 0.2, 0.8)
    c.fill(head, tissue["muscle"] + 0.05)
    septa = c.sheets("scalp septa", 0.12)
    c.fill(head + 0.012, tissue["fat"] * (1 + 0.2 * fine))
    c.fill(np.maximum(head + 0.012, septa - 0.002), tissue["muscle"] + 0.1)
    for side in (-1, 1):
        x, y = c.jitter(f"temporal {side}", (side * 0.68, -0.25), 0.04)
        muscle = np.maximum(c.ellipse(x, y, 0.1, 0.3, turn=-side * 0.2), head + 0.02)
        c.fill(muscle, tissue["muscle"] * (1 + 0.25 * c.field(f"temporal {side}", 0.02, 0.2, fibre=1.4)))
    c.fill(head + scalp, 0.04)
    marrow = np.maximum(head + scalp + 0.014, -(head + scalp + skull - 0.014))
    c.fill(marrow, tissue["marrow"] * (1 + 0.35 * c.field("diploe", 0.015, 0.1)))
    inner: Array = head + scalp + skull
    c.fill(inner, tissue["csf"] * (1 + 0.05 * fine))
    return inner


def _cerebrum(c: Canvas, inner: Array, level: float, tissue: dict[str, float], fine: Array) -> None:
    brain = inner + c.draw("subarachnoid", 0.008, 0.03) + 0.006 * c.field("subarachnoid", 0.2, 0.8)
    depth = -brain
    reach = c.draw("folding", 0.27, 0.42) + 0.07 * c.field("folding", 0.15, 0.6)
    width = c.draw("sulci", 0.003, 0.012) + 0.004 * c.field("sulci", 0.1, 0.5)
    folds = np.minimum(c.sheets("folds", c.draw("fold size", 0.17, 0.26)), c.sheets("more folds", 0.4))
    sulci = folds + np.maximum(depth - reach, 0) - width * np.clip(1.4 - depth / reach, 0.3, 1)
    middle = np.abs(c.x + 0.012 * c.field("midline", 0.15, 0.6)) - 0.008
    # The callosum bridges the fissure, up to the height where it ends.
    bridge = min(max((0.44 - level) / 0.1, 0), 1)
    middle = middle + bridge * np.maximum(0.42 - np.abs(c.y + 0.02), 0)
    sulci = np.minimum(sulci, middle)
    for side in (-1, 1):
        ends = c.jitter(f"sylvian {side}", (0.62, -0.16, 0.48, -0.06, 0.4, 0.03, 0.41, 0.14), 0.02)
        path = [(side * ends[i], ends[i + 1]) for i in (0, 2, 4, 6)]
        sylvian = c.tube(path, c.draw("sylvian width", 0.004, 0.016)) + max(abs(level + 0.02) - 0.2, 0)
        sulci = np.minimum(sulci, sylvian)
    surface = np.maximum(brain, -sulci)
    thickness = c.draw("cortex", 0.022, 0.034) + 0.005 * c.field("cortex", 0.06, 0.3)
    c.fill(surface, tissue["grey"] * (1 + 0.14 * fine))
    tracts = c.field("tracts", 0.03, 0.3, fibre=c.draw("tracts", 0, 3.14), stretch=3.0)
    white = tissue["white"] * (1 + 0.09 * fine + 0.09 * tracts)
    c.fill(surface + thickness, white, blur=0.018)
    callosum = np.minimum(c.ellipse(0, -0.28, 0.16, 0.06), c.ellipse(0, 0.22, 0.18, 0.06))
    c.fill(callosum + max(level - 0.34, 0), white * 0.94)
    _deep(c, level, tissue, fine)
    spots = np.maximum(c.threads("perivascular", 0.14) - 0.006, surface + thickness + 0.02)
    c.fill(spots, 0.5 * (tissue["csf"] + tissue["white"]))
    vessels = np.maximum(c.threads("arteries", 0.2) - c.draw("arteries", 0.006, 0.014), inner + 0.005)
    c.fill(np.maximum(vessels, -surface - 0.02), tissue["vessel"])
    sinus = np.maximum(c.ellipse(0, 0.7, 0.05, 0.2), np.abs(inner) - 0.018)
    c.fill(sinus, tissue["vessel"])


def _deep(c: Canvas, level: float, tissue: dict[str, float], fine: Array) -> None:
    """Nuclei and ventricles, where the level meets them."""
    swelling = c.draw("ventricles", 0.6, 1.7)
    deep = 0.6 * tissue["grey"] + 0.4 * tissue["white"]
    for side in (-1, 1):
        for name, x, y, a, b, turn, share in (
            ("putamen", 0.27, -0.1, 0.055, 0.17, -0.15, 0.9),
            ("pallidum", 0.2, -0.04, 0.04, 0.09, -0.3, 0.25),
            ("caudate", 0.13, -0.27, 0.05, 0.09, 0.35, 1.0),
            ("thalamus", 0.1, 0.08, 0.085, 0.14, -0.45, 0.7),
            ("claustrum", 0.36, -0.08, 0.012, 0.13, -0.1, 0.9),
        ):
            x, y = c.jitter(f"{name} {side}", (x, y), 0.015)
            shape = c.ellipse(side * x, y, a, b, turn=side * turn, height=level - 0.02, c=0.22)
            value = deep + (share - 0.6) * (tissue["grey"] - tissue["white"])
            c.fill(shape - 0.008 * c.field(name, 0.08, 0.3), value * (1 + 0.06 * fine), blur=0.02)
    fluid = tissue["csf"] * (1 + 0.03 * fine)
    height = level - 0.1
    for side in (-1, 1):
        horn = c.jitter(f"horn {side}", (0.03, -0.12, 0.07, -0.24, 0.13, -0.35), 0.015)
        atrium = c.jitter(f"atrium {side}", (0.06, 0.02, 0.16, 0.16, 0.22, 0.32, 0.19, 0.45), 0.02)
        for ends, base in ((horn, 0.028), (atrium, 0.032)):
            path = [(side * ends[i], ends[i + 1]) for i in range(0, len(ends), 2)]
            radius = base * swelling * max(1 - (height / 0.26) ** 2, -2)
            ventricle = c.tube(path, -0.01) - radius * (1 + 0.25 * c.field(f"ventricle {side}", 0.15, 0.6))
            c.fill(ventricle, fluid)
        plexus = c.tube([(side * 0.16, 0.16), (side * 0.21, 0.28)], 0.014 * swelling)
        c.fill(plexus + abs(height) * 0.1 + 0.006 * c.field("plexus", 0.02, 0.08), 0.7 * tissue["grey"])
    c.fill(c.ellipse(0, 0.02, 0.012 * swelling, 0.13, height=level + 0.03, c=0.17), fluid)


def _hindbrain(c: Canvas, inner: Array, level: float, tissue: dict[str, float], fine: Array) -> None:
    """Cerebellum with its folia, brainstem, fourth ventricle and the cisterns around them."""
    base = level + 0.45
    fluid = tissue["csf"] * (1 + 0.04 * fine)
    for side in (-1, 1):
        x, y = c.jitter(f"cerebellum {side}", (0.2, 0.45), 0.02)
        lobe = c.ellipse(side * x, y, 0.3, 0.29, turn=side * 0.5, height=base, c=0.33)
        lobe = np.maximum(lobe, inner + 0.03)
        c.fill(lobe - 0.015, fluid)
        c.fill(lobe, tissue["grey"] * (1 + 0.07 * fine))
        ring = lobe + 0.012 * c.field("folia", 0.1, 0.5)
        folia = np.abs(np.sin(ring * (np.pi / c.draw("folia size", 0.034, 0.05))))
        c.fill(np.maximum(lobe + 0.01, 0.012 * (folia - 0.45)), tissue["white"] * (1 + 0.05 * fine))
        c.fill(np.maximum(lobe, 0.03 * (folia - 0.12)), fluid)
        c.fill(lobe + 0.17 + 0.03 * c.field("arbor", 0.06, 0.3), tissue["white"] * (1 + 0.05 * fine))
    c.fill(c.ellipse(0, 0.12, 0.22, 0.18, height=base, c=0.42), fluid)
    stem = c.ellipse(0, 0.13, 0.15, 0.13, height=base + 0.1, c=0.5)
    c.fill(stem, (0.7 * tissue["white"] + 0.3 * tissue["grey"]) * (1 + 0.09 * fine))
    c.fill(c.ellipse(0, 0.27, 0.045, 0.03, height=base, c=0.3), fluid)
    c.fill(c.ellipse(0, -0.03, 0.02, 0.02, height=base, c=0.4), tissue["vessel"])


def _face(c: Canvas, level: float, tissue: dict[str, float], fine: Array) -> None:
    """Eyes in their fat, the nasal cavity with its walls, the bone of the skull base."""
    base = level + 0.5
    bone = c.ellipse(0, -0.47, 0.48, 0.26, height=base, c=0.38)
    c.fill(bone, 0.06 + 0.1 * np.abs(fine))
    nose = c.ellipse(0, -0.46, 0.14, 0.25, height=base, c=0.36)
    walls = c.sheets("turbinates", 0.13)
    c.fill(np.maximum(nose, walls - 0.016), 0.8 * tissue["csf"] + 0.1)
    for side in (-1, 1):
        x, y = c.jitter(f"eye {side}", (0.3, -0.53), 0.015)
        orbit = c.ellipse(side * x, y + 0.06, 0.16, 0.22, turn=side * 0.3, height=base, c=0.3)
        c.fill(orbit, tissue["fat"] * (1 + 0.15 * fine))
        for angle in (-0.5, 0.1, 0.6):
            end = (side * (x - 0.14 + 0.1 * angle), y + 0.26)
            c.fill(np.maximum(c.tube([(side * x + 0.1 * angle, y), end], 0.012), orbit), tissue["muscle"])
        ball = c.ellipse(side * x, y, 0.105, 0.105, height=base, c=0.2)
        c.fill(ball, 0.03)
        c.fill(ball + 0.012, tissue["csf"])
        c.fill(c.ellipse(side * x, y - 0.07, 0.045, 0.02, height=base, c=0.15), tissue["muscle"])
