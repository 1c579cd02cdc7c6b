"""Plain arrays: `.npy`, `.npz`, MATLAB `.mat` (v5 and v7.3) and HDF5 of any layout, with named axes.

Axes are given as users see them: NumPy's order for `.npy`, `.npz` and HDF5, MATLAB's order for `.mat` files
of either version (h5py shows v7.3 files reversed). Names: `coils`, `ky`, `kx` or `y`, `x`, `slice`,
`frame` (frames of one slice count as slices, one after the other), `set` (counts as another scan), and `-`
for an axis of which only the first entry is wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import h5py
import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.formats.base import Slices, damaged, name_of, numeric, opened, sampled, scan_id, to_kspace
from noref.formats.geometry import header_of_frame
from noref.formats.zero_border import zero_border
from noref.physics import fft2c
from noref.scan import Role, Scan

Domain = Literal["kspace", "image"]
Index = tuple[int | slice, ...]
PLANE = {"kspace": ("ky", "kx"), "image": ("y", "x")}


class Source(Protocol):
    """A file of named arrays, read in parts."""

    @property
    def path(self) -> Path:
        """Of the file."""

    @property
    def format(self) -> str:
        """Its name, for people."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every numeric array, axes in the user's order."""

    def take(self, key: str, index: Index) -> NDArray[Any]:
        """A part of one array, axes in the user's order."""


@dataclass(frozen=True)
class Npy:
    """One `.npy` array, mapped and not loaded."""

    path: Path
    format: str = "NumPy array"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The only array is called after the file."""
        return {self.path.stem: self._array.shape}

    def take(self, key: str, index: Index) -> NDArray[Any]:  # noqa: ARG002 - there is only one array
        """A part of the array."""
        return self._array[index]

    @property
    def _array(self) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise damaged(self.path, error) from error
        return array


class _Loaded(ABC):
    """Files that can only be read whole: read once a process, and left out of pickles."""

    path: Path

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self._arrays.items()}

    def take(self, key: str, index: Index) -> NDArray[Any]:
        return self._arrays[key][index]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_arrays"}

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        try:
            loaded = self._load()
        except Exception as error:  # SciPy and zipfile raise all sorts of things on damaged files
            raise damaged(self.path, error) from error
        return {name: array for name, array in loaded.items() if numeric(array.dtype)}

    @abstractmethod
    def _load(self) -> dict[str, NDArray[Any]]: ...


@dataclass
class Npz(_Loaded):
    """The arrays of an `.npz` archive."""

    path: Path
    format: str = "NumPy archive"

    def _load(self) -> dict[str, NDArray[Any]]:
        # Given a path, NumPy leaves the file open when the archive turns out to be damaged.
        with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


@dataclass
class Mat5(_Loaded):
    """The arrays of a MATLAB file before v7.3."""

    path: Path
    format: str = "MATLAB v5"

    def _load(self) -> dict[str, NDArray[Any]]:
        loaded = scipy.io.loadmat(self.path)
        return {name: array for name, array in loaded.items() if isinstance(array, np.ndarray)}


@dataclass(frozen=True)
class Hdf5:
    """The data sets of an HDF5 file; `matlab` says that its axes are to be read backwards."""

    path: Path
    matlab: bool
    format: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", "MATLAB v7.3" if self.matlab else "HDF5")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Data sets at any depth, by their full names."""
        found: dict[str, tuple[int, ...]] = {}

        def visit(name: str, item: Any) -> None:
            if not isinstance(item, h5py.Dataset) or name.startswith("#refs#"):
                return
            if numeric(item.dtype):
                found[name] = item.shape[::-1] if self.matlab else item.shape

        with opened(self.path) as file:
            file.visititems(visit)
        return found

    def take(self, key: str, index: Index) -> NDArray[Any]:
        """A part of one data set."""
        with opened(self.path) as file:
            part: NDArray[Any] = file[key][index[::-1]].T if self.matlab else file[key][index]
        return part


class ArraySlices(Slices):
    """The slices of one array of a file."""

    def __init__(
        self,
        source: Source,
        key: str,
        axes: tuple[str, ...],
        domain: Domain,
        role: Role,
        mask_key: str | None,
    ) -> None:
        shape = source.shapes()[key]
        self.source, self.key, self.axes, self.domain = source, key, axes, domain
        self.sizes = dict(zip(axes, shape, strict=True))
        self.format = source.format
        self.mask_key = mask_key
        self.mask_axes = () if mask_key is None else self._fit_mask(source.shapes()[mask_key])
        stem = name_of(source.path)
        sets = [stem] if "set" not in axes else [f"{stem}.{i}" for i in range(self.sizes["set"])]
        self.frames = self.sizes.get("frame", 1)
        slices = range(self.sizes.get("slice", 1) * self.frames)
        super().__init__(source.path, [scan_id(stem, scan, i) for scan in sets for i in slices], role)

    def _read(self, index: int) -> Scan:
        where = f"{self.path}: {self.key}, slice {index}"
        counts = (self.sizes.get("set", 1), self.sizes.get("slice", 1), self.frames)
        at = dict(zip(("set", "slice", "frame"), map(int, np.unravel_index(index, counts)), strict=True))
        wanted = ("coils", *PLANE[self.domain])
        plane = self._plane(self.key, self.axes, at, wanted)
        if "coils" not in self.axes:
            plane = plane[None]
        if self.domain == "image":
            kspace = fft2c(to_kspace(plane, where, "the image"))
            # All of it is made alike; where it is zero, the image is.
            measured = mask = torch.ones(kspace.shape[-2:], dtype=torch.bool)
            padding = None
        else:
            kspace = to_kspace(plane, where)
            measured = mask = sampled(kspace)
            padding = zero_border(measured)
        if self.mask_key is not None:
            plane = self._plane(self.mask_key, self.mask_axes, at, PLANE[self.domain]) != 0
            mask = torch.from_numpy(plane).reshape(-1, 1 if plane.ndim == 1 else kspace.shape[-1])
            mask = mask.expand(measured.shape).clone()
            mask = mask if padding is None else mask & ~padding
            measured = measured | mask
        return Scan(
            id=self.ids[index],
            kspace=kspace,
            measured=measured,
            mask=mask,
            padding=padding,
            role=self.role,
            raw=self.domain == "kspace",
            header=header_of_frame(at["frame"], self.frames),
        )

    def _plane(
        self, key: str, axes: tuple[str, ...], at: dict[str, int], wanted: tuple[str, ...]
    ) -> NDArray[Any]:
        """One slice of an array with these axes, its axes brought into the wanted order."""
        part = self.source.take(key, tuple(slice(None) if a in wanted else at.get(a, 0) for a in axes))
        kept = [a for a in axes if a in wanted]
        return np.ascontiguousarray(part.transpose([kept.index(a) for a in wanted if a in kept]))

    def _fit_mask(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Names the axes of a mask: all of k-space but coils, or one plane, or one entry a line."""
        plane = PLANE[self.domain]
        whole = tuple(a for a in self.axes if a not in ("coils", "-"))
        for names in (whole, tuple(a for a in self.axes if a in plane), plane[:1]):
            rest = iter([*names, None])
            name = next(rest)
            fitted: list[str] = []
            for size in shape:
                if name is not None and size == self.sizes[name]:
                    fitted.append(name)
                    name = next(rest)
                elif size == 1:
                    fitted.append("-")
                else:
                    break
            if name is None and len(fitted) == len(shape):
                return tuple(fitted)
        raise NorefError(
            f"{self.source.path}: the mask {self.mask_key} of {shape} fits no axes of {self.key} "
            f"({_described(self.axes, self.sizes)}); give another mask_key"
        )


def read(
    source: Source,
    *,
    axes: str | None = None,
    key: str | None = None,
    domain: Domain = "kspace",
    role: Role = Role.TARGET,
    mask_key: str | None = None,
) -> ArraySlices:
    """The slices of one array.

    k-space is taken to be centred; images are transformed, and their scans marked as not raw.

    Args:
        source: the file.
        axes: names of the array's axes, separated by commas; may be left out for a plain matrix.
        key: which array; may be left out if only one has two axes or more.
        domain: whether the array holds k-space or images.
        role: what the scans are to the training.
        mask_key: an array that says which samples may be shown (Ω), nonzero where they may.

    Raises:
        NorefError: if there is no such array, the axes do not fit it, or the mask does not.
    """
    shapes = source.shapes()
    matrices = {name: shape for name, shape in shapes.items() if sum(size > 1 for size in shape) >= 2}
    if key is None:
        if len(matrices) != 1:
            raise NorefError(f"{source.path}: say with key which array to read: {_listed(matrices)}")
        key = next(iter(matrices))
    for name in (key, mask_key):
        if name is not None and name not in shapes:
            raise NorefError(f"{source.path}: holds no {name}; it has {_listed(shapes)}")
    names = parse_axes(source.path, key, shapes[key], axes, domain)
    return ArraySlices(source, key, names, domain, role, mask_key)


def source_of(path: Path) -> Source:
    """A file as a source of arrays, judged by its first bytes.

    Raises:
        NorefError: if it is damaged, or of no known format.
    """
    try:
        with path.open("rb") as file:
            start = file.read(128)
    except OSError as error:
        raise damaged(path, error) from error
    if h5py.is_hdf5(path):
        return Hdf5(path, matlab=start.startswith(b"MATLAB 7"))
    if start.startswith(b"\x93NUMPY"):
        return Npy(path)
    if start.startswith(b"PK\x03\x04"):
        return Npz(path)
    if start.startswith(b"MATLAB 5"):
        return Mat5(path)
    raise NorefError(
        f"{path}: of no known format; noref reads fastMRI and ISMRMRD HDF5, MRD 2, Siemens twix, BART cfl, "
        ".mat, .npy, .npz, DICOM and NIfTI"
    )


def parse_axes(
    path: Path, key: str, shape: tuple[int, ...], axes: str | None, domain: Domain
) -> tuple[str, ...]:
    """The names of an array's axes.

    Raises:
        NorefError: if they are not given where they have to be, unknown, or do not fit the shape.
    """
    plane = PLANE[domain]
    if axes is None:
        if len(shape) != 2:
            raise NorefError(f"{path}: {key} is {shape}; say with axes which is which, as in 'coils,ky,kx'")
        return plane
    names = tuple(name.strip() for name in axes.split(","))
    allowed = {"coils", "slice", "frame", "set", "-", *plane}
    unknown = sorted(set(names) - allowed)
    if unknown:
        raise NorefError(f"{path}: no axis is called {', '.join(unknown)}; use {', '.join(sorted(allowed))}")
    named = [name for name in names if name != "-"]
    if len(set(named)) < len(named) or not set(plane) <= set(named):
        raise NorefError(f"{path}: axes '{axes}' must name {' and '.join(plane)}, and nothing twice")
    if len(names) != len(shape):
        raise NorefError(f"{path}: axes '{axes}' are {len(names)}, but {key} is {shape}")
    return names


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no array"


def _described(axes: tuple[str, ...], sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {sizes[name]}" for name in axes if name != "-")
