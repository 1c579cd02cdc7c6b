"""Sagittal slices of a knee."""

from __future__ import annotations

import numpy as np

from noref.data.phantoms.canvas import Array, Canvas

DENSITY = {
    "marrow": 0.58,
    "fat": 0.92,
    "muscle": 0.3,
    "cartilage": 0.6,
    "fluid": 0.8,
    "tendon": 0.06,
    "vessel": 0.15,
}
FAT_SATURATED = {
    "marrow": 0.2,
    "fat": 0.14,
    "muscle": 0.45,
    "cartilage": 0.75,
    "fluid": 0.97,
    "tendon": 0.05,
    "vessel": 0.7,
}
T1 = {
    "marrow": 0.7,
    "fat": 0.95,
    "muscle": 0.25,
    "cartilage": 0.42,
    "fluid": 0.25,
    "tendon": 0.05,
    "vessel": 0.1,
}


def knee(c: Canvas) -> None:
    """A knee: femur, tibia, patella with trabeculae, cartilage, menisci, ligaments, muscles, fat."""
    c.pose(turn=0.2, shift=0.04, scale=(0.92, 1.06), bend=0.025)
    if c.draw("side", -1, 1) < 0:
        c.x = -c.x
    tissue = c.contrast(DENSITY, DENSITY, FAT_SATURATED, T1)
    fine = c.field("fine", 0.025, 0.2)
    offset = c.z + c.draw("offset", -0.35, 0.35)
    skin = _envelope(c, tissue, fine)
    _muscles(c, skin, tissue, fine)
    _bones(c, offset, tissue, fine)
    _joint(c, offset, tissue, fine)
    # The receive coil ends above and below the joint.
    c.image *= 1 / (1 + np.exp((np.abs(c.rows) - 0.86) / 0.03))


def _envelope(c: Canvas, tissue: dict[str, float], fine: Array) -> Array:
    front = -0.56 - 0.12 * np.exp(-((c.y + 0.12) ** 2) / 0.05) + 0.1 * c.y
    back = 0.74 - 0.08 * np.cos(2.2 * c.y) - 0.05 * c.y
    skin: Array = np.maximum(front - c.x, c.x - back) + 0.012 * c.field("skin", 0.3, 1.0)
    c.fill(skin, 0.5 * tissue["muscle"] + 0.1)
    c.fill(skin + 0.015, tissue["fat"] * (1 + 0.2 * fine))
    septa = np.minimum(c.sheets("septa", 0.16), c.threads("veins", 0.2) - 0.006)
    c.fill(np.maximum(skin + 0.02, septa - 0.005), 0.6 * tissue["muscle"])
    return skin


def _muscles(c: Canvas, skin: Array, tissue: dict[str, float], fine: Array) -> None:
    """Thigh and calf muscles with fibres and fat between the bundles, popliteal vessels between them."""
    fat = c.draw("subcutaneous", 0.06, 0.15)
    for name, x, y, a, b, turn in (
        ("quadriceps", -0.3, -0.8, 0.15, 0.42, 0.12),
        ("biceps", 0.4, -0.78, 0.15, 0.5, -0.12),
        ("semimembranosus", 0.26, -0.62, 0.1, 0.36, -0.25),
        ("gastrocnemius", 0.45, 0.55, 0.16, 0.6, 0.05),
        ("popliteus", 0.3, 0.42, 0.06, 0.28, 0.35),
        ("soleus", 0.25, 0.82, 0.12, 0.36, 0.05),
        ("tibialis", -0.33, 0.85, 0.1, 0.4, -0.15),
    ):
        x, y, turn = (v + d for v, d in zip((x, y, turn), c.jitter(name, (0, 0, 0), 0.05), strict=True))
        muscle = c.ellipse(x, y, a, b, turn=turn) + 0.015 * c.field(f"{name} outline", 0.15, 0.6)
        muscle = np.maximum(muscle, skin + fat)
        along = np.pi / 2 + turn + c.draw(f"{name} pennation", -0.35, 0.35)
        fibres = c.field(f"{name} fibres", 0.025, 0.15, fibre=along, stretch=9)
        c.fill(muscle - 0.014, 0.3 * tissue["fat"])
        c.fill(muscle, tissue["muscle"] * (1 + 0.22 * fibres + 0.1 * fine))
        streaks = np.maximum(muscle + 0.02, 0.02 * (1.3 - fibres))
        c.fill(streaks, 0.7 * tissue["fat"] + 0.3 * tissue["muscle"])
    vessels = c.jitter("popliteal", (0.3, -0.7, 0.36, -0.2, 0.34, 0.2, 0.3, 0.7), 0.04)
    path = [(vessels[i], vessels[i + 1]) for i in (0, 2, 4, 6)]
    c.fill(c.tube(path, c.draw("vein", 0.015, 0.03)) + 0.008 * c.field("vein", 0.1, 0.5), tissue["vessel"])
    path = [(x + 0.06, y) for x, y in path]
    c.fill(
        c.tube(path, c.draw("artery", 0.01, 0.02)) + 0.006 * c.field("artery", 0.1, 0.5),
        0.9 * tissue["vessel"],
    )


def _bone(c: Canvas, name: str, shape: Array, tissue: dict[str, float], fine: Array, along: float) -> None:
    """Cortical shell, then marrow crossed by trabeculae, denser below the shell."""
    shell = c.draw("cortical bone", 0.012, 0.022)
    c.fill(shape, 0.04)
    beams = c.field(f"{name} beams", 0.025, 0.09, fibre=along, stretch=3)
    mesh = c.sheets(f"{name} mesh", 0.07)
    dense = 0.35 + 0.65 * np.exp(-np.maximum(-shape - shell, 0) / 0.12)
    patches = c.field(f"{name} patches", 0.15, 0.7)
    marrow = tissue["marrow"] * (1 + 0.2 * beams * dense + 0.1 * fine + 0.2 * patches)
    marrow = marrow * (1 - 0.4 * dense * np.clip(1 - mesh / 0.012, 0, 1))
    c.fill(shape + shell, marrow, blur=0.014)


def _bones(c: Canvas, offset: float, tissue: dict[str, float], fine: Array) -> None:
    """Femur, tibia, patella (and fibula on the outer side), cartilage where they meet."""
    condyle = 1.0 - 0.5 * min(abs(abs(offset) - 0.2), 0.3)
    x0, y0 = c.jitter("femur", (-0.04, -0.2), 0.02)
    shaft = np.maximum(
        np.abs(c.x - x0 + 0.05 + 0.08 * (c.y + 0.5)) - 0.17 - 0.2 * np.maximum(c.y + 0.5, 0), c.y - y0
    )
    knob = np.minimum(
        c.ellipse(x0 - 0.06, y0 - 0.02, 0.29 * condyle, 0.24, turn=0.2),
        c.ellipse(x0 + 0.13, y0 + 0.03, 0.22 * condyle, 0.22 * condyle),
    )
    femur = np.minimum(shaft, knob) + 0.008 * c.field("femur outline", 0.15, 0.6)
    x1, y1 = c.jitter("tibia", (-0.02, 0.2), 0.015)
    neck = 0.36 - 0.42 * np.clip(c.y - y1, 0, 0.42)
    top = y1 - 0.04 * np.exp(-((c.x - x1) ** 2) / 0.004) * max(1 - abs(offset) / 0.2, 0) + 0.05 * (c.x - x1)
    tibia = np.maximum(np.abs(c.x - x1) - neck, top - c.y) + 0.008 * c.field("tibia outline", 0.15, 0.6)
    tibia = tibia
    x2, y2 = c.jitter("patella", (-0.5, -0.28), 0.02)
    patella = c.ellipse(x2, y2, 0.085, 0.18, turn=0.12, height=offset, c=0.42) + 0.006 * c.field(
        "patella outline", 0.15, 0.5
    )
    layer = c.draw("cartilage", 0.022, 0.04)
    cartilage = tissue["cartilage"] * (1 + 0.08 * fine)
    for bone, where in (
        (femur, c.y > y0 - 0.12 - 0.2 * (c.x > x0)),
        (tibia, c.y < y1 + 0.03),
        (patella, c.x > x2),
    ):
        thickness = np.where(where, layer * (1 + 0.25 * c.field("wear", 0.15, 0.5)), 0.0)
        c.fill(bone - thickness - 0.012 * where, tissue["fluid"])
        depth = np.clip(-(bone - thickness) / layer, 0, 1)
        c.fill(bone - thickness, cartilage * (1.1 - 0.3 * depth))
    _bone(c, "femur", femur, tissue, fine, 1.5)
    _bone(c, "tibia", tibia, tissue, fine, 1.6)
    _bone(c, "patella", patella, tissue, fine, 0.3)
    for name, bone, height in (("femur", femur, y0 - 0.16), ("tibia", tibia, y1 + 0.17)):
        scar = np.abs(c.y - height - 0.025 * c.field(f"{name} scar", 0.12, 0.6)) - 0.005
        c.fill(np.maximum(scar, bone + 0.03), 0.4 * tissue["marrow"], blur=0.016)
    fibula = c.ellipse(0.3, 0.72, 0.07, 0.36, turn=0.05, height=offset - 0.35, c=0.24)
    _bone(c, "fibula", fibula, tissue, fine, 1.5)


def _joint(c: Canvas, offset: float, tissue: dict[str, float], fine: Array) -> None:
    """Menisci or cruciate ligaments, patellar and quadriceps tendons, Hoffa's fat pad, effusion."""
    pad = np.maximum(c.ellipse(-0.36, 0.03, 0.12, 0.19, turn=-0.35), -c.ellipse(-0.06, -0.2, 0.36, 0.3))
    c.fill(pad, tissue["fat"] * (1 + 0.13 * fine))
    c.fill(np.maximum(pad + 0.01, c.sheets("pad", 0.11) - 0.003), 0.4 * tissue["fat"])
    streaks = 1 + 0.8 * np.abs(c.field("tendon", 0.025, 0.08, fibre=1.5, stretch=12))
    tendon = tissue["tendon"] * streaks
    c.fill(c.tube([(-0.52, -0.12), (-0.42, 0.3)], c.draw("patellar tendon", 0.018, 0.032)), tendon)
    c.fill(c.tube([(-0.52, -0.44), (-0.42, -0.95)], c.draw("quadriceps tendon", 0.018, 0.035)), tendon)
    pouch = c.tube([(-0.42, -0.42), (-0.33, -0.62)], c.draw("effusion", 0.0, 0.03)) + 0.012 * c.field(
        "pouch", 0.08, 0.3
    )
    c.fill(pouch, tissue["fluid"])
    outside = max(abs(offset) - 0.12, 0)
    notch = c.ellipse(0.06, 0.03, 0.14, 0.16) + 3 * outside
    c.fill(notch, (0.6 * tissue["fluid"] + 0.2 * tissue["fat"]) * (1 + 0.2 * fine))
    for name, ends, radius, along in (
        ("acl", (0.14, -0.1, -0.1, 0.18), 0.028, 2.3),
        ("pcl", (-0.04, -0.04, 0.1, 0.02, 0.18, 0.2), 0.034, 0.9),
    ):
        points = c.jitter(name, ends, 0.02)
        path = [(points[i], points[i + 1]) for i in range(0, len(points), 2)]
        strands = c.field(f"{name} strands", 0.025, 0.07, fibre=along, stretch=10)
        c.fill(c.tube(path, radius) + outside, tissue["tendon"] + 0.12 * np.abs(strands))
    inside = max(0.13 - abs(offset), 0)
    for name, side in (("front horn", -1), ("back horn", 1)):
        x, y = c.jitter(name, (-0.02 + side * 0.27, 0.16), 0.015)
        reach = c.draw(f"{name} size", 0.1, 0.17)
        wedge = np.maximum(side * (c.x - x) - 0.03, np.abs(c.y - y) - 0.55 * (side * (c.x - x) + reach) * 0.6)
        c.fill((wedge + 2 * inside), tissue["tendon"] * (1 + 0.3 * np.abs(fine)))
