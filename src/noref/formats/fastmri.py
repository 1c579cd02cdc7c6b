"""HDF5 files as fastMRI lays them out, and what noref adds to them.

`kspace` is `(slices, coils, readout, phase)`, of one coil also `(slices, readout, phase)`; scans have the
read-out last, so every plane is transposed on the way in and out. Added by noref, all optional:
`kspace_clean` like `kspace`; `maps (slices, sets, coils, readout, phase)`; masks with more axes than
`(phase,)`, named by the attribute `axes` of the data set; the attributes `raw`, `position`, `directions`,
`thickness`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.formats import ismrmrd_header
from noref.formats.base import (
    Slices,
    as_complex64,
    new_hdf5,
    numeric,
    opened,
    pseudonym,
    sampled,
    scan_id,
    to_kspace,
)
from noref.formats.filled import Acquired, acquired_lines, offset_of, without_filled
from noref.formats.geometry import with_counters
from noref.physics import crop_centre, ifft2c
from noref.scan import Header, Role, Scan, padding_of

MASK_AXES = (("phase",), ("readout", "phase"), ("slice", "phase"), ("slice", "readout", "phase"))
"""The axes a mask may have, the likelier first where shapes leave a choice."""

RSS = ("reconstruction_rss", "reconstruction_esc")
"""Names of the root-sum-of-squares images, the second in single-coil files."""


class FastmriSlices(Slices):
    """The slices of one fastMRI file.

    Args:
        path: of the file.
        role: what the scans are to the training.
        mask_key: the data set that holds Ω, where there is one.
        acquired: which lines count as measured where there is none, see `formats.filled`.
    """

    format = "fastMRI HDF5"

    def __init__(
        self,
        path: Path,
        *,
        role: Role = Role.TARGET,
        mask_key: str = "mask",
        acquired: Acquired = "header",
    ) -> None:
        with opened(path) as file:
            kspace = file.get("kspace")
            if not isinstance(kspace, h5py.Dataset):
                raise NorefError(f"{path}: holds no data set kspace; it has {', '.join(file) or 'nothing'}")
            if kspace.ndim not in (3, 4) or 0 in kspace.shape or not numeric(kspace.dtype):
                raise NorefError(
                    f"{path}: kspace is {kspace.dtype} {kspace.shape}; "
                    "expected complex numbers (slices, [coils,] readout, phase)"
                )
            slices, *coils, readout, phase = kspace.shape
            self.shape = (phase, readout)
            self.mask_key = mask_key if mask_key in file else None
            if self.mask_key is None and mask_key != "mask":
                raise NorefError(f"{path}: holds no {mask_key}; it has {', '.join(file)}")
            self.mask_axes = self._fit_mask(path, file, (slices, readout, phase))
            patient = _text(file.attrs.get("patient_id"))
            # Of what was simulated or made of images, the name that it was given.
            named = pseudonym(patient) if patient and file.attrs.get("raw", True) else patient
            self.subject = named or path.stem
            self.protocol = _text(file.attrs.get("acquisition"))
            self.acquired: Acquired = acquired
            header = file.get("ismrmrd_header")
            self.geometry = ismrmrd_header.parse(b"" if header is None else header[()], self.shape)
            for name, expected in (
                ("kspace_clean", kspace.shape),
                ("maps", (slices, None, coils[0] if coils else 1, readout, phase)),
                *((name, (slices, None, None)) for name in RSS),
            ):
                if name in file and not _fits(file[name].shape, expected):
                    raise NorefError(f"{path}: {name} {file[name].shape} do not fit kspace {kspace.shape}")
        super().__init__(path, [scan_id(self.subject, path.stem, i) for i in range(slices)], role)

    def _fit_mask(self, path: Path, file: h5py.File, shape: tuple[int, int, int]) -> tuple[str, ...]:
        """Names the axes of the mask, as its attribute says or its shape allows."""
        if self.mask_key is None:
            return ()
        mask = file[self.mask_key]
        named = tuple(_text(mask.attrs.get("axes")).split(","))
        sizes = dict(zip(("slice", "readout", "phase"), shape, strict=True))
        for axes in sorted(MASK_AXES, key=lambda axes: axes != named):
            if mask.shape == tuple(sizes[axis] for axis in axes):
                return axes
        raise NorefError(
            f"{path}: {self.mask_key} {mask.shape} fits no axis of kspace, {shape} (slices, readout, phase)"
        )

    def _read(self, index: int) -> Scan:
        where = f"{self.path}: slice {index}"
        with opened(self.path) as file:
            kspace = to_kspace(_planes(_slice(file["kspace"], index), coils=True), where)
            clean = _optional(file, "kspace_clean", index, coils=True)
            maps = _optional(file, "maps", index, coils=False)
            rss = next((file[name] for name in RSS if name in file), None)
            rss = None if rss is None else torch.from_numpy(rss[index].T.astype(np.float32))
            mask = self._mask(file, index)
            raw = bool(file.attrs.get("raw", True))
            header = self._header(file, index)
        padding = self._padding(kspace)
        measured = sampled(kspace)
        if mask is None:
            mask = measured
        elif padding is not None:
            mask = mask & ~padding
        scan = Scan(
            id=self.ids[index],
            kspace=kspace,
            measured=measured | mask,
            mask=mask,
            padding=padding,
            maps=maps,
            clean=clean,
            rss=rss,
            role=self.role,
            raw=raw,
            header=header,
        )
        # A mask in the file tells better than its header.
        if self.acquired == "all" or self.mask_key is not None:
            return scan
        told = (measured, header.acceleration, self.geometry.calibration_lines)
        if acquired_lines(*told) is None:
            return scan
        lines = acquired_lines(*told, self._offset)
        assert lines is not None
        return without_filled(scan, lines)

    @cached_property
    def _offset(self) -> int:
        """That of the acquired lines in a file that was filled in, from its middle slice."""
        with opened(self.path) as file:
            plane = _planes(_slice(file["kspace"], len(self) // 2), coils=True)
        return offset_of(torch.from_numpy(as_complex64(plane)), round(self.geometry.acceleration))

    def _mask(self, file: h5py.File, index: int) -> Tensor | None:
        if self.mask_key is None:
            return None
        mask = file[self.mask_key]
        mask = mask[index] if self.mask_axes[0] == "slice" else mask[()]
        return torch.from_numpy((mask != 0).T).reshape(self.shape[0], -1).expand(self.shape).clone()

    def _padding(self, kspace: Tensor) -> Tensor | None:
        """Lines that the header says were never sampled; not where it is wrong and they hold data."""
        left, right = self.geometry.sampled_lines
        line = torch.arange(self.shape[0])
        outside = (line < left) | (line >= right)
        outside[outside.clone()] = ~(kspace[:, outside] != 0).any(-1).any(0)
        return outside[:, None].expand(self.shape).clone() if outside.any() else None

    def _header(self, file: h5py.File, index: int) -> Header:
        position, directions = file.attrs.get("position"), file.attrs.get("directions")
        thickness = file.attrs.get("thickness")
        return Header(
            crop=self.geometry.crop,
            spacing=self.geometry.spacing,
            thickness=None if thickness is None else float(thickness),
            position=None if position is None else _vector(position[index]),
            directions=None if directions is None else tuple(_vector(axis) for axis in directions),
            protocol=self.protocol or self.geometry.protocol,
            acceleration=self.geometry.acceleration,
            field_strength=self.geometry.field_strength,
            **{name: getattr(self.geometry, name) for name in ismrmrd_header.SEQUENCE.values()},
        )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str("" if value is None else value)


def _vector(values: NDArray[Any]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))


def _planes(array: NDArray[Any], *, coils: bool) -> NDArray[Any]:
    """Planes `(…, readout, phase)` with the read-out last; a missing coil axis is put in front."""
    return array.swapaxes(-1, -2)[None] if coils and array.ndim == 2 else array.swapaxes(-1, -2)


def _slice(dataset: h5py.Dataset, index: int) -> NDArray[Any]:
    """`dataset[index]`, as part of the file where it lies there in one piece."""
    start, shape = dataset.id.get_offset(), dataset.shape[1:]
    if start is None:
        array = np.empty(shape, dataset.dtype)
        dataset.read_direct(array, np.s_[index])
        return array
    size = dataset.dtype.itemsize * math.prod(shape)
    return np.memmap(dataset.file.filename, dataset.dtype, "r", start + index * size, shape)


def _optional(file: h5py.File, name: str, index: int, *, coils: bool) -> Tensor | None:
    if name not in file:
        return None
    return torch.from_numpy(as_complex64(_planes(_slice(file[name], index), coils=coils)))


def write(path: Path, scans: Sequence[Scan]) -> None:
    """Writes the slices of one scan: k-space, Ω unless it is full, clean k-space, maps, RSS and header.

    What belongs to an experiment and not to a scan (Γ, density, reference) is not written. Where every slice
    is fully sampled and none came with an RSS image, it is made, cropped as the header says.

    Args:
        path: of the file; its stem becomes the scan's name.
        scans: slices of one subject, matrix and number of coils; each is asked for once.

    Raises:
        NorefError: if the slices do not belong together, have padding that a header cannot say, or the file
            cannot be written.
    """
    with new_hdf5(path) as file:
        masks, positions, images = [], [], []
        evident = True
        for index, scan in enumerate(scans):
            if index == 0:
                first = scan
                _put_header(path, file, scan)
            _check_same(path, first, scan)
            kspace = scan.kspace * scan.scale
            _put_slice(file, "kspace", index, len(scans), kspace[0] if scan.coils == 1 else kspace)
            if scan.clean is not None:
                clean = scan.clean * scan.scale
                _put_slice(file, "kspace_clean", index, len(scans), clean[0] if scan.coils == 1 else clean)
            if scan.maps is not None:
                _put_slice(file, "maps", index, len(scans), scan.maps)
            masks.append(scan.mask)
            evident &= torch.equal(scan.mask | padding_of(scan), torch.ones_like(scan.mask))
            evident &= torch.equal(scan.mask, sampled(scan.kspace))
            positions.append(scan.header.position)
            images.append(_rss(scan))
        if not masks:
            raise NorefError(f"{path}: there is no slice to write")
        if not evident:
            _put_masks(file, first, torch.stack(masks))
        if first.header.position is not None:
            file.attrs["position"] = np.array(positions)
        found = [image for image in images if image is not None]
        if len(found) == len(images):
            _put_rss(file, first, torch.stack(found))


def write_images(
    path: Path, images: NDArray[Any], *, patient_id: str = "", acquisition: str = "", made: str = ""
) -> None:
    """Writes magnitudes of images `(slices, y, x)` as fastMRI wants them submitted.

    That is one data set, `reconstruction`, float32 `(slices, readout, phase)`. What reconstructed them is an
    attribute, `reconstructed_by`.
    """
    with new_hdf5(path) as file:
        file["reconstruction"] = np.abs(images).astype(np.float32).swapaxes(-1, -2)
        file.attrs.update({"patient_id": patient_id, "acquisition": acquisition, "reconstructed_by": made})


def _check_same(path: Path, first: Scan, scan: Scan) -> None:
    def shared(scan: Scan) -> tuple[object, ...]:
        absent = [value is None for value in (scan.clean, scan.maps, scan.rss, scan.header.position)]
        sets = None if scan.maps is None else scan.maps.shape
        header = with_counters(replace(scan.header, position=None, frame=None, frame_part=""), {})
        return scan.subject, scan.kspace.shape, sets, scan.raw, header, *absent

    same_padding = torch.equal(padding_of(first), padding_of(scan))
    if shared(scan) != shared(first) or not same_padding:
        raise NorefError(
            f"{path}: slices {first.id} and {scan.id} differ in subject, matrix, coils, padding, header or "
            "in what else they carry; write them to different files"
        )


def _put_header(path: Path, file: h5py.File, scan: Scan) -> None:
    outside = padding_of(scan)
    inside = (~outside[:, 0]).nonzero().flatten()
    left, right = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
    lines = torch.ones_like(outside)
    lines[left:right] = False
    if not torch.equal(lines, outside):
        raise NorefError(f"{path}: {scan.id} has padding other than whole lines at the edges of k-space")
    header = scan.header
    geometry = ismrmrd_header.Geometry(
        (left, right),
        header.crop,
        header.spacing,
        header.protocol,
        header.acceleration,
        field_strength=header.field_strength,
        **{name: getattr(header, name) for name in ismrmrd_header.SEQUENCE.values()},
    )
    file["ismrmrd_header"] = ismrmrd_header.build(scan.shape, geometry)
    file.attrs.update({"acquisition": header.protocol, "patient_id": scan.subject, "raw": scan.raw})
    if header.thickness is not None:
        file.attrs["thickness"] = header.thickness
    if header.directions is not None:
        file.attrs["directions"] = np.array(header.directions)


def _put_slice(file: h5py.File, name: str, index: int, slices: int, value: Tensor) -> None:
    plane = value.numpy().swapaxes(-1, -2)
    if index == 0:
        file.create_dataset(name, (slices, *plane.shape), plane.dtype)
    file[name][index] = plane


def _put_masks(file: h5py.File, first: Scan, masks: Tensor) -> None:
    """Writes masks `(slices, ky, kx)` with as few axes as tell them all."""
    axes = ["slice", "readout", "phase"]
    array = masks.numpy().swapaxes(-1, -2)
    if (array == array[:, :1]).all():
        axes.remove("readout")
        array = array[:, 0]
    if (array == array[:1]).all():
        axes.remove("slice")
        array = array[0]
    file["mask"] = array
    file["mask"].attrs["axes"] = ",".join(axes)
    file.attrs["acceleration"] = first.acceleration


def _rss(scan: Scan) -> Tensor | None:
    """The scan's own RSS image `(y, x)`, or the one of its k-space if that is fully sampled."""
    if scan.rss is not None:
        return scan.rss
    if not (scan.mask | padding_of(scan)).all():
        return None
    image = ifft2c(scan.kspace * scan.scale).abs().square().sum(-3).sqrt()
    return image if scan.header.crop is None else crop_centre(image, scan.header.crop)


def _put_rss(file: h5py.File, first: Scan, images: Tensor) -> None:
    file["reconstruction_rss"] = images.numpy().swapaxes(-1, -2)
    if first.coils == 1:
        file["reconstruction_esc"] = file["reconstruction_rss"]
    file.attrs.update({"max": float(images.max()), "norm": float(torch.linalg.vector_norm(images))})
