"""Axial slices of a male pelvis."""

from __future__ import annotations

import numpy as np

from noref.data.phantoms.canvas import Array, Canvas

T2 = {
    "peripheral": 0.85,
    "gland": 0.5,
    "muscle": 0.16,
    "fat": 0.66,
    "fluid": 0.97,
    "marrow": 0.42,
    "vessel": 0.8,
}
T1 = {
    "peripheral": 0.42,
    "gland": 0.4,
    "muscle": 0.36,
    "fat": 0.95,
    "fluid": 0.22,
    "marrow": 0.72,
    "vessel": 0.3,
}
SATURATED = {
    "peripheral": 0.92,
    "gland": 0.55,
    "muscle": 0.3,
    "fat": 0.12,
    "fluid": 0.97,
    "marrow": 0.14,
    "vessel": 0.85,
}


def prostate(c: Canvas) -> None:
    """A pelvis: prostate with its zones and nodules, bladder or symphysis, rectum, muscles, femoral heads."""
    c.pose(turn=0.12, shift=0.03, scale=(0.93, 1.05), bend=0.02)
    tissue = c.contrast(T2, T2, T2, T1, SATURATED)
    fine = c.field("fine", 0.025, 0.2)
    level = c.z + c.draw("level", -0.3, 0.35)
    body = c.ellipse(0, 0, 0.9, 0.72) + 0.012 * c.field("body", 0.3, 1.0)
    c.fill(body, 0.6 * tissue["muscle"] + 0.08)
    c.fill(body + 0.014, tissue["fat"] * (1 + 0.13 * fine))
    septa = np.minimum(c.sheets("septa", 0.15), c.threads("veins", 0.2) - 0.006)
    c.fill(np.maximum(body + 0.03, septa - 0.003), 0.5 * tissue["muscle"] + 0.1 * tissue["fat"])
    _muscles(c, body, tissue, fine)
    _bones(c, level, tissue, fine)
    _pelvis(c, level, tissue, fine)
    _gland(c, level, tissue, fine)


def _muscle(c: Canvas, name: str, shape: Array, along: float, tissue: dict[str, float], fine: Array) -> None:
    fibres = c.field(f"{name} fibres", 0.025, 0.15, fibre=along, stretch=7)
    shape = shape + 0.012 * c.field(f"{name} outline", 0.12, 0.5)
    c.fill(shape, tissue["muscle"] * (1 + 0.18 * fibres + 0.1 * fine))
    c.fill(np.maximum(shape + 0.014, 0.02 * (1.25 - fibres)), 0.75 * tissue["fat"] + 0.1)


def _muscles(c: Canvas, body: Array, tissue: dict[str, float], fine: Array) -> None:
    inside = body + c.draw("fat", 0.05, 0.14)
    for side in (-1, 1):
        for name, x, y, a, b, turn, along in (
            ("gluteus maximus", 0.5, 0.42, 0.38, 0.17, -0.45, 2.5),
            ("gluteus medius", 0.78, 0.0, 0.1, 0.28, 0.15, 1.5),
            ("iliopsoas", 0.44, -0.42, 0.15, 0.12, 0.3, 0.6),
            ("sartorius", 0.62, -0.5, 0.08, 0.05, 0.5, 0.3),
            ("tensor", 0.74, -0.38, 0.06, 0.11, -0.4, 1.2),
            ("rectus", 0.13, -0.6, 0.12, 0.045, 0.1, 0.0),
            ("pectineus", 0.3, -0.33, 0.12, 0.07, 0.4, 0.5),
        ):
            x, y, tilt = c.jitter(f"{name} {side}", (x, y, turn), 0.03)
            shape = np.maximum(c.ellipse(side * x, y, a, b, turn=side * tilt), inside)
            _muscle(c, f"{name} {side}", shape, side * along, tissue, fine)
        x, y = c.jitter(f"femoral vessels {side}", (0.4, -0.55), 0.02)
        for shift, size in ((0.0, 0.035), (-0.075, 0.042)):
            vessel = c.ellipse(side * (x + shift), y, size, size)
            c.fill(vessel - 0.01, tissue["muscle"])
            c.fill(vessel, tissue["vessel"] * (0.3 if shift == 0 else 1.0))


def _bones(c: Canvas, level: float, tissue: dict[str, float], fine: Array) -> None:
    """Femoral heads in their sockets, obturator muscles inside, symphysis or sacrum."""
    grain = c.field("marrow", 0.025, 0.1)
    marrow = tissue["marrow"] * (1 + 0.2 * grain + 0.1 * fine)
    mesh = c.sheets("trabeculae", 0.075)
    marrow = marrow * (1 - 0.25 * np.clip(1 - mesh / 0.012, 0, 1))
    for side in (-1, 1):
        x, y = c.jitter(f"femur {side}", (0.55, -0.1), 0.02)
        socket = np.minimum(
            c.tube(
                [(side * (x - 0.12), y - 0.22), (side * (x - 0.21), y), (side * (x - 0.14), y + 0.2)], 0.045
            ),
            c.tube([(side * (x - 0.14), y + 0.2), (side * (x - 0.1), y + 0.34)], 0.065),
        )
        c.fill(socket, 0.05)
        c.fill(socket + 0.014, marrow)
        obturator = c.tube(
            [(side * (x - 0.27), y - 0.18), (side * (x - 0.3), y + 0.1), (side * (x - 0.22), y + 0.32)], 0.042
        )
        _muscle(c, f"obturator {side}", obturator, 1.5, tissue, fine)
        head = c.ellipse(side * x, y, 0.155, 0.155, height=level + 0.1, c=0.45)
        neck = c.tube([(side * x, y), (side * (x + 0.24), y + 0.14)], 0.075) + max(level + 0.05, 0) * 0.6
        bone = np.minimum(head, neck)
        c.fill(head - 0.022, tissue["fluid"] * 0.7 + 0.1)
        c.fill(bone, 0.05)
        c.fill(bone + 0.013, marrow)
        pubis = c.tube([(side * 0.03, -0.42), (side * 0.26, -0.36)], 0.06) + max(level + 0.05, 0) * 0.7
        c.fill(pubis, 0.05)
        c.fill(pubis + 0.014, marrow)
    x, y = c.jitter("sacrum", (0.0, 0.56), 0.02)
    sacrum = c.ellipse(x, y, 0.12, 0.045, height=level + 0.25, c=0.5)
    c.fill(sacrum, 0.05)
    c.fill(sacrum + 0.013, marrow)


def _pelvis(c: Canvas, level: float, tissue: dict[str, float], fine: Array) -> None:
    """Levator ani, rectum with its layers and content, bladder above, veins around."""
    for side in (-1, 1):
        points = c.jitter(f"levator {side}", (0.2, -0.12, 0.23, 0.12, 0.14, 0.32, 0.03, 0.42), 0.015)
        path = [(side * points[i], points[i + 1]) for i in (0, 2, 4, 6)]
        _muscle(c, f"levator {side}", c.tube(path, 0.018), 1.4, tissue, fine)
    x, y = c.jitter("rectum", (0.0, 0.3), 0.025)
    a, b = c.jitter("rectum size", (0.1, 0.08), 0.03)
    rectum = c.ellipse(x, y, a, b) + 0.01 * c.field("rectum", 0.1, 0.4)
    c.fill(rectum - 0.012, tissue["muscle"])
    c.fill(rectum + 0.006, 0.6 * tissue["gland"] + 0.3 * tissue["fluid"])
    lumen = rectum + 0.035 + 0.008 * c.field("mucosa", 0.05, 0.15)
    c.fill(
        lumen,
        0.03 if c.draw("gas", 0, 1) < 0.5 else tissue["gland"] * (1 + 0.4 * c.field("content", 0.03, 0.15)),
    )
    plexus = np.maximum(c.threads("plexus", 0.11) - 0.012, np.abs(c.ellipse(0, -0.02, 0.24, 0.2)) - 0.04)
    c.fill(plexus, tissue["vessel"])
    wall = c.draw("bladder wall", 0.014, 0.035)
    x, y = c.jitter("bladder", (0.0, -0.2), 0.03)
    bladder = c.ellipse(x, y, 0.34, 0.24, height=level - 0.4, c=0.42)
    bladder = bladder + 0.01 * c.field("bladder", 0.15, 0.6)
    c.fill(bladder - wall, tissue["muscle"] * (1 + 0.15 * fine))
    c.fill(bladder, tissue["fluid"] * (1 + 0.03 * fine))
    vesicles = c.ellipse(0, 0.14, 0.24, 0.065, height=level - 0.25, c=0.16)
    c.fill(vesicles, 0.4 * tissue["muscle"] + 0.3 * tissue["fat"])
    c.fill(np.maximum(vesicles, 0.014 - c.sheets("vesicles", 0.085)), tissue["fluid"] * (1 + 0.12 * fine))


def _gland(c: Canvas, level: float, tissue: dict[str, float], fine: Array) -> None:
    """Peripheral zone with septa, transition zone full of nodules, urethra, capsule; a lesion in some."""
    x, y = c.jitter("prostate", (0.0, 0.02), 0.02)
    size = c.draw("prostate size", 0.85, 1.25)
    gland = c.ellipse(x, y, 0.21 * size, 0.17 * size, height=level + 0.05, c=0.34)
    gland = gland + 0.008 * c.field("capsule", 0.12, 0.5)
    c.fill(gland - 0.01, 0.8 * tissue["muscle"])
    septa = c.sheets("peripheral septa", 0.09)
    peripheral = tissue["peripheral"] * (1 + 0.1 * fine) * (1 - 0.3 * np.clip(1 - septa / 0.01, 0, 1))
    c.fill(gland, peripheral)
    hyperplasia = c.draw("hyperplasia", 0.55, 0.85) * size
    transition = c.ellipse(
        x, y - 0.035 * size, 0.2 * hyperplasia, 0.16 * hyperplasia, height=level + 0.08, c=0.3
    )
    transition = np.maximum(transition + 0.008 * c.field("transition", 0.1, 0.4), gland + 0.008)
    c.fill(transition - 0.008, 0.7 * tissue["muscle"])
    c.fill(transition, tissue["gland"] * (1 + 0.18 * c.field("stroma", 0.03, 0.15)))
    for nodule in range(9):
        dx, dy = c.jitter(f"nodule {nodule}", (0, 0), 0.16 * hyperplasia)
        radius = c.draw(f"nodule size {nodule}", 0.025, 0.065) * hyperplasia
        height = level + 0.05 - c.draw(f"nodule height {nodule}", -0.12, 0.12)
        shape = np.maximum(
            c.ellipse(x + dx, y + dy, radius, radius, height=height, c=2 * radius), transition + 0.005
        )
        c.fill(shape, 0.6 * tissue["muscle"])
        brightness = c.draw(f"nodule brightness {nodule}", 0.5, 1.6) * tissue["gland"]
        c.fill(shape + 0.01, brightness * (1 + 0.2 * c.field(f"nodule {nodule}", 0.025, 0.1, waves=48)))
    c.fill(c.ellipse(x, y, 0.014, 0.022), tissue["fluid"])
    lesion = np.maximum(
        c.ellipse(x + c.draw("lesion", -0.16, 0.16) * size, y + 0.1 * size, 0.04, 0.022), gland
    )
    c.fill(lesion + c.draw("lesion missing", -0.015, 0.02), 0.45 * tissue["gland"], blur=0.02)
