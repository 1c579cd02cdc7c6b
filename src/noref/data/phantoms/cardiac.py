"""Short-axis-like slices of the heart in the chest."""

from __future__ import annotations

import numpy as np

from noref.data.phantoms.canvas import Array, Canvas

BALANCED = {
    "blood": 0.92,
    "muscle": 0.34,
    "fat": 0.72,
    "lung": 0.05,
    "liver": 0.42,
    "marrow": 0.4,
    "fluid": 0.85,
}
DARK_BLOOD = {
    "blood": 0.07,
    "muscle": 0.5,
    "fat": 0.9,
    "lung": 0.04,
    "liver": 0.45,
    "marrow": 0.5,
    "fluid": 0.25,
}
ENHANCED = {
    "blood": 0.75,
    "muscle": 0.16,
    "fat": 0.6,
    "lung": 0.06,
    "liver": 0.55,
    "marrow": 0.35,
    "fluid": 0.2,
}


def cardiac(c: Canvas) -> None:
    """A chest: both ventricles with papillary muscles, lungs with vessels, liver, spine, ribs, muscles."""
    c.pose(turn=0.3, shift=0.05, scale=(0.95, 1.07), bend=0.022)
    tissue = c.contrast(BALANCED, BALANCED, BALANCED, DARK_BLOOD, ENHANCED)
    fine = c.field("fine", 0.025, 0.2)
    body = c.ellipse(0, 0, 0.87, 0.7) + 0.01 * c.field("body", 0.3, 1.0)
    chest = _wall(c, body, tissue, fine)
    _lungs(c, chest, tissue, fine)
    _abdomen(c, chest, tissue, fine)
    _spine(c, body, tissue, fine)
    _heart(c, tissue, fine)


def _wall(c: Canvas, body: Array, tissue: dict[str, float], fine: Array) -> Array:
    """Skin, fat, muscle layers and ribs; gives the signed distance of the chest's inside."""
    fat = c.draw("fat", 0.03, 0.12) + 0.02 * c.field("fat", 0.3, 1.2)
    muscle = c.draw("wall", 0.07, 0.11) + 0.015 * c.field("wall", 0.3, 1.2)
    c.fill(body, 0.6 * tissue["muscle"] + 0.1)
    c.fill(body + 0.014, tissue["fat"] * (1 + 0.1 * fine))
    c.fill(np.maximum(body + 0.014, c.sheets("fascia", 0.2) - 0.003), 0.6 * tissue["muscle"])
    layers = c.field("layers", 0.03, 0.14, fibre=c.draw("layers", 0, 3.1), stretch=5)
    c.fill(body + fat, tissue["muscle"] * (1 + 0.14 * layers + 0.08 * fine))
    c.fill(np.maximum(body + fat, np.abs(body + fat + 0.45 * muscle) - 0.005), 0.7 * tissue["fat"])
    count = 9
    for rib in range(2 * count):
        angle = np.pi * (rib + 0.5) / count + c.draw(f"rib {rib}", -0.1, 0.1)
        radius = 1 - (c.draw("rib depth", 0.11, 0.15))
        x, y = 0.87 * radius * np.cos(angle), 0.7 * radius * np.sin(angle)
        tilt = np.arctan2(0.7 * np.cos(angle), -0.87 * np.sin(angle))
        size = c.draw(f"rib size {rib}", 0.03, 0.085)
        shape = c.ellipse(x, y, size, 0.026, turn=tilt)
        c.fill(shape, 0.05)
        c.fill(shape + 0.011, tissue["marrow"] * (1 + 0.15 * fine))
    chest: Array = body + fat + muscle
    return chest


def _lungs(c: Canvas, chest: Array, tissue: dict[str, float], fine: Array) -> None:
    c.fill(chest, tissue["fat"] * 0.8 * (1 + 0.14 * fine))
    for side in (-1, 1):
        x, y = c.jitter(f"lung {side}", (side * 0.45, 0.02), 0.04)
        lung = np.maximum(c.ellipse(x, y, 0.36, 0.6, turn=side * 0.1), chest)
        lung = lung + 0.015 * c.field(f"lung outline {side}", 0.15, 0.6)
        grain = c.field("parenchyma", 0.025, 0.15)
        c.fill(lung, tissue["lung"] * (1 + 0.4 * grain))
        for size, width in ((0.5, 0.017), (0.3, 0.01), (0.18, 0.006)):
            vessels = np.maximum(c.threads(f"lung vessels {size}", size) - width, lung + 0.01)
            c.fill(vessels, 0.3 * tissue["muscle"] + 0.4 * tissue["blood"])


def _abdomen(c: Canvas, chest: Array, tissue: dict[str, float], fine: Array) -> None:
    """The dome of the liver on one side, the stomach on the other, as high as the slice lies low."""
    rise = c.z + c.draw("diaphragm", -0.15, 0.45)
    x, y = c.jitter("liver", (-0.46, 0.12), 0.05)
    size = 0.62 * max(rise + 0.1, 0.0) ** 0.5
    if size > 0.02:
        liver = np.maximum(c.ellipse(x, y, size, 0.85 * size, turn=0.4), chest + 0.012)
        c.fill(liver - 0.014, 0.8 * tissue["fat"])
        c.fill(liver, tissue["liver"] * (1 + 0.09 * fine + 0.05 * c.field("liver", 0.05, 0.4)))
        for width, size_of in ((0.016, 0.4), (0.009, 0.22)):
            veins = np.maximum(c.threads(f"hepatic {size_of}", size_of) - width, liver + 0.02)
            c.fill(veins, 0.9 * tissue["blood"])
    if rise > 0.1:
        x, y = c.jitter("stomach", (0.48, 0.3), 0.05)
        stomach = np.maximum(
            c.ellipse(x, y, 0.9 * (rise - 0.09), 0.65 * (rise - 0.09), turn=-0.5), chest + 0.012
        )
        folds = 0.012 * c.field("rugae", 0.05, 0.15)
        c.fill(stomach, tissue["muscle"])
        level = np.maximum(stomach + 0.025 + folds, y - 0.03 - c.y)
        c.fill(stomach + 0.025 + folds, 0.03)
        c.fill(level, tissue["fluid"] * (1 + 0.2 * fine))


def _spine(c: Canvas, body: Array, tissue: dict[str, float], fine: Array) -> None:
    """Back muscles, vertebra with cord, descending aorta, oesophagus."""
    for side in (-1, 1):
        x, y = c.jitter(f"erector {side}", (side * 0.15, 0.56), 0.015)
        muscle = np.maximum(c.ellipse(x, y, 0.14, 0.11, turn=side * 0.3), body + 0.04)
        fibres = c.field(
            f"erector {side}", 0.025, 0.12, fibre=c.draw(f"erector fibres {side}", 0, 3.1), stretch=4
        )
        c.fill(muscle, tissue["muscle"] * (1 + 0.18 * fibres))
        c.fill(np.maximum(muscle + 0.01, 0.02 * (1.4 - fibres)), 0.8 * tissue["fat"])
    x, y = c.jitter("vertebra", (0.0, 0.36), 0.02)
    bone = np.minimum(
        c.ellipse(x, y, 0.13, 0.1), c.tube([(x - 0.2, y + 0.12), (x, y + 0.1), (x + 0.2, y + 0.12)], 0.03)
    )
    bone = np.minimum(bone, c.tube([(x, y + 0.12), (x, y + 0.3)], 0.02))
    c.fill(bone, 0.06)
    c.fill(bone + 0.013, tissue["marrow"] * (1 + 0.22 * c.field("vertebra", 0.025, 0.1) + 0.1 * fine))
    c.fill(c.ellipse(x, y + 0.135, 0.055, 0.042), tissue["fluid"])
    c.fill(c.ellipse(x, y + 0.135, 0.028, 0.02), 1.3 * tissue["muscle"])
    x, y = c.jitter("aorta", (0.15, 0.27), 0.02)
    aorta = c.ellipse(x, y, *c.jitter("aorta size", (0.068, 0.068), 0.012))
    c.fill(aorta - 0.012, tissue["muscle"])
    c.fill(aorta, tissue["blood"] * (1 + 0.08 * fine))
    c.fill(c.ellipse(x - 0.1, y - 0.06, 0.04, 0.03) + 0.005 * fine, tissue["muscle"])


def _heart(c: Canvas, tissue: dict[str, float], fine: Array) -> None:
    """Ventricles cut between base (z > 0) and apex, with fat, coronaries, papillary muscles, trabeculae."""
    height = c.z + c.draw("cut", -0.25, 0.25)
    size = c.draw("heart", 0.8, 1.2) * float(np.sqrt(max(1 - (height - 0.25) ** 2 / 0.8, 0.1)))
    x, y = c.jitter("left ventricle", (0.2, -0.08), 0.05)
    turn = c.draw("axis", -0.5, 0.3)
    beat = c.draw("phase of the beat", 0.0, 1.0)
    outer, wall = 0.25 * size, (0.065 + 0.06 * beat) * size
    left = c.ellipse(x, y, outer, 0.95 * outer, turn=turn) + 0.008 * c.field("epicardium", 0.15, 0.6)
    rx, ry = x - 1.05 * outer * np.cos(turn - 0.15), y - 1.05 * outer * np.sin(turn - 0.15)
    right = c.ellipse(rx, ry, 0.95 * outer, 0.82 * outer, turn=turn + 0.5) + 0.012 * c.field(
        "right", 0.12, 0.5
    )
    right = np.maximum(right, -left + 0.004)
    both = np.minimum(left, right)
    c.fill(both - 0.055 - 0.018 * c.field("pericardial fat", 0.15, 0.6), tissue["fat"] * (1 + 0.14 * fine))
    c.fill(np.abs(both - 0.045) - 0.004, 0.5 * tissue["muscle"])
    coronaries = np.maximum(c.threads("coronaries", 0.22) - 0.011, np.abs(both - 0.02) - 0.022)
    c.fill(coronaries, tissue["blood"])
    swirl = c.field("myofibres", 0.025, 0.15)
    myocardium = tissue["muscle"] * (1 + 0.11 * swirl + 0.06 * fine)
    c.fill(right - 0.02, myocardium)
    flow = tissue["blood"] * (1 + 0.07 * c.field("flow", 0.05, 0.5) + 0.03 * fine)
    c.fill(right + 0.006 * swirl, flow)
    mesh = c.sheets("trabeculae", 0.1)
    c.fill(np.maximum(right, np.maximum(mesh - 0.012, -right - 0.07)), myocardium, blur=0.016)
    c.fill(left, myocardium)
    cavity = left + wall + 0.012 * c.field("endocardium", 0.04, 0.15)
    c.fill(cavity, flow)
    inner = outer - wall
    for name, angle in (("anterior papillary", 0.9), ("posterior papillary", 2.5)):
        angle = turn + angle + c.draw(name, -0.3, 0.3)
        px, py = x + 0.62 * inner * np.cos(angle), y + 0.62 * inner * np.sin(angle)
        muscle = c.ellipse(px, py, 0.24 * inner, 0.17 * inner, turn=angle, height=height + 0.05, c=0.4)
        c.fill(muscle + 0.01 * c.field(name, 0.05, 0.2), myocardium, blur=0.016)
    c.fill(np.maximum(cavity, np.maximum(mesh - 0.008, -cavity - 0.035)), myocardium, blur=0.016)
