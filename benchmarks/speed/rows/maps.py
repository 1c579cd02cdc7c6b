"""ESPIRiT: maps from 24×24 calibration samples."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from noref.coils import espirit
from noref.physics import crop_centre

from .. import bart
from ..problem import Problem
from ..row import Array, Row, Setting, Side, Work

_CALIBRATION, _KERNEL, _CROP, _THRESHOLD = 24, 6, 0.8, 0.02


def _problem(setting: Setting, size: int, coils: int) -> Problem:
    small = setting.size(size, 48)
    return Problem((small, small), setting.size(coils, 4))


def _noref(setting: Setting, size: int, coils: int) -> Work:
    given = _problem(setting, size, coils)
    calibration = crop_centre(given.full, (_CALIBRATION, _CALIBRATION)).contiguous()

    def run() -> Array:
        maps: Array = espirit(calibration, given.shape)[0].numpy()
        return maps

    return Work(run, run)


def _sigpy(setting: Setting, size: int, coils: int) -> Work:
    from sigpy.mri.app import EspiritCalib

    kspace = _problem(setting, size, coils).full.numpy()

    def run() -> Array:
        maps: Array = EspiritCalib(
            kspace,
            calib_width=_CALIBRATION,
            kernel_width=_KERNEL,
            thresh=_THRESHOLD,
            crop=_CROP,
            show_pbar=False,
        ).run()
        return maps

    return Work(run, run)


def _bart(setting: Setting, size: int, coils: int) -> Work:
    kspace, maps = (setting.folder / name for name in ("bart-kspace", "bart-maps"))
    bart.write(kspace, _problem(setting, size, coils).full.numpy())

    def run() -> None:
        settings = f"-m1 -r{_CALIBRATION} -k{_KERNEL} -c{_CROP} -t{_THRESHOLD**2}".split()
        bart.call("ecalib", *settings, kspace, maps)

    return Work(run, lambda: _read(maps), calls=True, note="its program, with reading and writing")


def _read(name: Path) -> Array:
    maps = bart.read(name)
    return maps.reshape(maps.shape[-4:] if maps.ndim > 3 else maps.shape).reshape(-1, *maps.shape[-2:])


def aligned(ours: Array, theirs: Array) -> float:
    """Relative rms difference of maps `(coils, y, x)` where both are, whose pixels' phases mean nothing.

    `‖a − b exp(i arg⟨b, a⟩)‖ / ‖a‖`, the scalar product being that of a pixel's coils.
    """
    both = ours.any(0) & theirs.any(0)
    a, b = ours[:, both].astype(np.complex128), theirs[:, both].astype(np.complex128)
    turned = b * np.exp(1j * np.angle((b.conj() * a).sum(0)))
    return float(np.linalg.norm(a - turned) / np.linalg.norm(a))


def _row(name: str, size: int, coils: int, target: float, recorded: dict[str, float], quick: bool) -> Row:
    def peer(name: str, build: functools.partial[Work], needs: str, tolerance: float) -> Side:
        return Side(name, build, (needs,), tolerance=tolerance, difference=aligned)

    own, sigpy, program = (
        functools.partial(build, size=size, coils=coils) for build in (_noref, _sigpy, _bart)
    )
    # BART's maps are four times as far from noref's as SigPy's are.
    sides = Side("noref", own), peer("BART", program, "bart", 4e-3), peer("SigPy", sigpy, "sigpy", 1e-3)
    return Row(name, f"ESPIRiT {size}², {coils} coils", sides, target, "", recorded, quick=quick)


ROWS = (
    _row("espirit", 256, 8, 90, {"BART": 364, "SigPy": 1355, "DIRECT": 1853}, True),
    _row("espirit-large", 320, 15, 220, {"BART": 1700, "SigPy": 7400, "DIRECT": 14800}, False),
)
