"""Scoring a network on Γ, and making teacher images: passes without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from noref.data.dataset import Dataset
from noref.data.shown import shown
from noref.errors import NorefError
from noref.methods.base import Method
from noref.metrics import psnr
from noref.networks.base import Network
from noref.networks.refinedmaps import learns_maps
from noref.sampling.holdout import holdout_error
from noref.scan import Scan, ScanBatch
from noref.training.distributed import rank, total, world_size
from noref.training.store import TeacherStore


@torch.no_grad()
def reconstruct_target(
    method: Method, network: Network, scan: Scan, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """What the method and network make of Ω∖Γ.

    Returns:
        the image `(sets, y, x)`; and its maps `(sets, coils, y, x)` if they were learned.
    """
    batch = ScanBatch.of([scan.as_target()]).to(device)
    estimate = method.reconstruct(network, batch)
    maps = estimate.encoding.maps[0].cpu() if learns_maps(network) else None
    return estimate.image[0].cpu(), maps


def scored(dataset: Dataset, limit: int) -> list[int]:
    """Which scans are scored: up to `limit` of those with Γ, spread evenly over the data set."""
    held_out = dataset.held_out
    number = min(limit, len(held_out))
    return [held_out[position * len(held_out) // number] for position in range(number)]


def score_holdout(
    method: Method, network: Network, dataset: Dataset, limit: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Γ of the scans that are scored, and their PSNR in dB; shared out over the processes.

    The PSNR is of the same image, of Ω∖Γ, and for the log alone: nothing is chosen by it. There is none
    unless every scan that is scored has a reference.

    Raises:
        NorefError: if a Γ is not a number.
    """
    chosen = scored(dataset, limit)
    scores, psnrs = torch.zeros(2, len(chosen), dtype=torch.float64)
    network.eval()
    for position in range(rank(), len(chosen), world_size()):
        scan = dataset[chosen[position]]
        image, maps = reconstruct_target(method, network, scan, device)
        scores[position] = holdout_error(scan, image, maps)
        psnrs[position] = torch.nan if scan.reference is None else _psnr(scan.reference, image, scan)
    network.train()
    # Summed where the backend can: NCCL reduces tensors on the device only.
    found, against = total(torch.stack([scores, psnrs]).to(device)).tolist()
    for index, score in zip(chosen, found, strict=True):
        if not math.isfinite(score):
            raise NorefError(f"{dataset[index].id}: Γ is {score}; look for broken scans with noref inspect")
    return found, against if all(map(math.isfinite, against)) else []


def _psnr(reference: Tensor, image: Tensor, scan: Scan) -> Tensor:
    return psnr(shown(reference, scan)[None], shown(image, scan)[None])


def teach(
    method: Method,
    network: Network,
    dataset: Dataset,
    store: TeacherStore,
    device: torch.device,
    stopped: Callable[[], bool],
) -> bool:
    """Fills the store with the image of every scan that it does not list yet.

    Returns:
        whether it is full; not if any process was stopped.
    """

    def any_stopped() -> bool:
        # Asked before every scan: processes wait for one another no longer than one takes.
        return bool(total(torch.tensor(float(stopped()), device=device)))

    network.eval()
    for first in range(0, len(dataset), world_size()):
        if any_stopped():
            break
        if first + rank() < len(dataset):
            scan = dataset[first + rank()]
            if scan.id not in store.listed:
                store.put(scan.id, *reconstruct_target(method, network, scan, device))
    network.train()
    if any_stopped():
        return False
    store.listed = frozenset(dataset.ids)
    return True
