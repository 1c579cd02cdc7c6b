"""One scan as bytes: a line of JSON and its arrays, end to end, so that reading one copies nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.scan import Header, Scan

ALIGNED = 64
"""Bytes to whose multiples records and arrays begin."""


def put(file: BinaryIO, scan: Scan) -> None:
    """Appends one scan: the length of its description, this as JSON, its arrays."""
    # On the grid the density is of the data set, and not of a scan.
    left_out = "density" if scan.trajectory is None else ""
    tensors = {f.name: getattr(scan, f.name) for f in fields(scan) if f.name != left_out}
    arrays = {
        name: tensor.resolve_conj().contiguous().numpy()
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)
    }
    described = {
        "id": scan.id,
        "scale": [scan.scale.real, scan.scale.imag],
        "raw": scan.raw,
        "header": asdict(scan.header),
        "arrays": [[name, array.dtype.str, array.shape] for name, array in arrays.items()],
    }
    text = json.dumps(described).encode()
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        file.write(bytes(-file.tell() % ALIGNED))
        file.write(array.data)
    file.write(bytes(-file.tell() % ALIGNED))


def get(record: NDArray[np.uint8]) -> tuple[Scan, int]:
    """The scan in the bytes that `put` wrote, and their number; its tensors are these bytes."""
    position = 8 + int.from_bytes(record[:8].tobytes(), "little")
    described = json.loads(record[8:position].tobytes())
    tensors: dict[str, Any] = {}
    for name, dtype, shape in described["arrays"]:
        position += -position % ALIGNED
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        tensors[name] = torch.from_numpy(record[position : position + size].view(dtype).reshape(shape))
        position += size
    header = Header(**{name: _tuples(value) for name, value in described["header"].items()})
    scale = complex(*described["scale"])
    scan = Scan(id=described["id"], scale=scale, raw=described["raw"], header=header, **tensors)
    return scan, position + -position % ALIGNED


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
