"""Masks of many scans, kept as bits."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

_HEAD = struct.Struct("<II?")


def packed(mask: Tensor) -> bytes:
    """A mask, bool `(ky, kx)`, in an eighth of the memory; one of whole lines in that of a column."""
    lines = bool((mask == mask[:, :1]).all())
    bits = mask[:, 0] if lines else mask
    return _HEAD.pack(*mask.shape, lines) + np.packbits(bits.numpy()).tobytes()


def unpacked(mask: bytes) -> Tensor:
    """The mask again, bool `(ky, kx)`."""
    ky, kx, lines = _HEAD.unpack_from(mask)
    count = ky if lines else ky * kx
    bits = np.unpackbits(np.frombuffer(mask, np.uint8, offset=_HEAD.size), count=count).astype(np.bool_)
    tensor = torch.from_numpy(bits).view(ky, -1)
    return tensor.expand(ky, kx).clone() if lines else tensor


class PackedMasks(Sequence[Tensor]):
    """Masks, bool `(ky, kx)`, unpacked when they are asked for."""

    def __init__(self, masks: Sequence[bytes]) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(index, slice):
            return PackedMasks(self._masks[index])
        return unpacked(self._masks[index])
