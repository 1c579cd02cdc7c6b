"""Noise scans in files without an image: ISMRMRD, MRD 2, twix, and arrays of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noref.coils.whitening import SAMPLES_PER_COIL, noise_covariance
from noref.errors import NorefError
from noref.formats import arrays, bart, ismrmrd, mrd2, twix
from noref.formats.base import numeric, to_kspace
from noref.formats.mrd_header import MrdHeader
from noref.formats.mrd_measurement import Measurement
from noref.formats.mrd_readouts import FIELDS


def noise_of(path: Path, axes: str | None = None, key: str | None = None) -> Measurement:
    """The noise scans of a file, as a measurement with their covariance.

    Args:
        path: of ISMRMRD, MRD 2 or twix, images there or not; or of an array that holds noise alone.
        axes: names of an array's axes, of which `coils` matters; all others count samples.
        key: of arrays and twix, which array or measurement; may be left out if there is only one, of twix the
            last with noise scans.

    Raises:
        NorefError: if the file is missing or damaged, or holds no noise scans.
    """
    if not path.exists() and not bart.header_of(path):
        raise NorefError(f"{path}: not found; check the path")
    if bart.header_of(path) or path.suffix == ".cfl":
        pair = bart.Cfl(path.with_suffix(".cfl"))
        (shape,) = pair.shapes().values()
        told = ",".join("coils" if axis == bart.COILS else "-" for axis in range(len(shape)))
        return _array(pair, axes or told, None)
    if mrd2.is_mrd2(path):
        found = [mrd2.measurement_of(path)]
    elif twix.is_twix(path):
        found = twix.measurements_of(path)
    else:
        source = arrays.source_of(path)
        if not isinstance(source, arrays.Hdf5) or source.matlab or not ismrmrd.is_ismrmrd(path):
            return _array(source, axes, key)
        found = ismrmrd.measurements_of(path)
    noisy = [one for one in found if one.noise is not None and key in (None, one.group)]
    if not noisy:
        raise NorefError(
            f"{path}: holds no noise scans, read-outs that are flagged as such; give another file"
        )
    return noisy[-1]


def _array(source: arrays.Source, axes: str | None, key: str | None) -> Measurement:
    shapes = source.shapes()
    matrices = [name for name, shape in shapes.items() if sum(size > 1 for size in shape) >= 2]
    if key is None and len(matrices) == 1:
        (key,) = matrices
    if key is None or key not in shapes:
        raise NorefError(
            f"{source.path}: say with noise.key which array to read: {', '.join(shapes) or 'none'}"
        )
    shape = shapes[key]
    names = [] if axes is None else [name.strip() for name in axes.split(",")]
    if names.count("coils") != 1 or len(names) != len(shape):
        raise NorefError(
            f"{source.path}: {key} is {shape}; say with noise.axes which axis is coils, as in 'coils,kx'"
        )
    values = source.take(key, (slice(None),) * len(shape))
    if not numeric(values.dtype):
        raise NorefError(f"{source.path}: {key} holds {values.dtype}, and no samples; name another array")
    samples = np.moveaxis(values, names.index("coils"), 0).reshape(shape[names.index("coils")], -1)
    if samples.shape[1] < SAMPLES_PER_COIL * len(samples):
        raise NorefError(
            f"{source.path}: {samples.shape[1]} noise samples of {len(samples)} coils; "
            f"{SAMPLES_PER_COIL * len(samples)} or more tell their covariance"
        )
    noise = noise_covariance(to_kspace(samples, f"{source.path}: {key}", "the noise"))
    return Measurement(key, MrdHeader(), np.zeros(0, FIELDS), noise, 0.0)
