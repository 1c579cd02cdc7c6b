"""All that a training needs to go on, in one file that is whole or not there.

A safetensors file: tensors by name (`network.…`, `method.…`, `optimiser.…`, `best.…`), everything else as
JSON in its metadata. Reading it runs no code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from noref.errors import NorefError
from noref.files import whole
from noref.training.sharding import divided, divided_as

VERSION = 2


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file.

    Raises:
        NorefError: if the disk is full; what the path held before stays as it is.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole(path) as temporary:
        # The library first writes under a name of its own beside the file; in a folder of ours a killed
        # process leaves nothing that `sweep` does not know.
        folder = temporary.with_name(f"{temporary.name}.folder")
        folder.mkdir()
        try:
            save_file(tensors, folder / path.name, metadata=metadata)
            (folder / path.name).replace(temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def save_checkpoint(path: Path, groups: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Writes groups of tensors and the JSON state.

    Raises:
        NorefError: if the disk is full; the checkpoint before stays as it is.
    """
    tensors = {f"{group}.{name}": t for group, members in groups.items() for name, t in members.items()}
    save_tensors(path, tensors, {"version": str(VERSION), "state": json.dumps(state)})


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The groups of tensors and the state of `save_checkpoint`.

    Raises:
        NorefError: if the file is missing, damaged, or written by another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise NorefError(f"{path}: no such file; nothing to go on from") from None
    except (SafetensorError, OSError) as error:
        raise NorefError(f"{path}: damaged or not a checkpoint ({error})") from None
    if not {"version", "state"} <= metadata.keys():
        raise NorefError(f"{path}: not a checkpoint of noref; go on from a run's checkpoint.safetensors")
    version = int(metadata["version"])
    if version > VERSION:
        raise NorefError(f"{path}: written by a newer noref (format {version}, not {VERSION}); update noref")
    if version < VERSION:
        raise NorefError(f"{path}: written by an older noref (format {version}, not {VERSION}); train anew")
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, member = name.split(".", 1)
        groups.setdefault(group, {})[member] = tensor
    return groups, json.loads(metadata["state"])


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """16 hexadecimal digits that depend on every bit of every tensor, and on their names."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Loads weights by name.

    Raises:
        NorefError: if they are another network's.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != given:
        odd = next(name for name in [*wanted, *given] if wanted.get(name) != given.get(name))
        raise NorefError(
            f"{path}: holds another network: {odd} is {given.get(odd, 'missing')}, not "
            f"{wanted.get(odd, 'known')}; use the configuration it was trained with"
        )
    module.load_state_dict(divided_as(module, weights))


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors, named `parameter.entry`."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, entries in state.items() for name, value in entries.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts the tensors of `optimiser_tensors` back."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, entry = name.split(".", 1)
        parameter = parameters[int(index)]
        # Counters of steps stand beside what is as large as the parameter.
        value = divided(value, parameter) if value.shape == parameter.shape else value
        state.setdefault(int(index), {})[entry] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
