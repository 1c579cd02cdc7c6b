"""What every network takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from noref.physics import Encoding


@dataclass(frozen=True)
class Estimate:
    """What a network makes of a scan.

    Attributes:
        image: complex64 `(batch, sets, y, x)`.
        steps: images of the unrolled steps before the last, for deep supervision.
        penalty: what the network itself wants small, per scan `(batch,)`, or None.
        encoding: the encoding it ended with; another one than it was given where maps are learned.
    """

    image: Tensor
    encoding: Encoding
    steps: tuple[Tensor, ...] = field(default=())
    penalty: Tensor | None = None


class Network(nn.Module):
    """k-space and its encoding in, one complex image out; knows nothing of methods, losses or data sets.

    Attributes:
        keeps_samples: whether it ends in hard data consistency: samples come out as they were shown.
        checkpointing: whether the backward pass computes activations again instead of keeping them.
    """

    keeps_samples: bool = False
    checkpointing: bool = False

    def forward(self, kspace: Tensor, encoding: Encoding) -> Estimate:
        """Reconstructs a batch.

        Args:
            kspace: complex64 `(batch, coils, ky, kx)`, zero where the encoding shows nothing.
            encoding: of the samples that data consistency holds on; those that are shown beside them are for
                the first image alone (`start.first_image`).
        """
        raise NotImplementedError

    def run(self, part: Callable[..., Any], *given: Any) -> Any:
        """`part(*given)`; with `checkpointing`, computed again in the backward pass instead of kept."""
        if self.checkpointing and torch.is_grad_enabled():
            # Networks draw no random numbers that would have to be drawn again.
            return checkpoint(part, *given, use_reentrant=False, preserve_rng_state=False)
        return part(*given)

    def blocks(self) -> Iterable[nn.Module]:
        """The modules to compile: those that are pure pairs in, pairs out."""
        raise NotImplementedError
