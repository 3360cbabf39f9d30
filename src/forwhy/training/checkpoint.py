"""The state of a training as one safetensors file: tensors by prefix, everything else as JSON in its header.

One file, so that one rename replaces it: a kill leaves the old state or the new one, never a mixture.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from forwhy.artifact import atomic_file
from forwhy.errors import UserError

Tensors = dict[str, Tensor]


@dataclass
class Progressed:
    """Where a training stands: all that is neither a tensor nor derived from the config."""

    identity: dict[str, Any]
    epoch: int = 0
    batch: int = 0
    step: int = 0
    total_steps: int = 0
    seconds: float = 0.0
    log_bytes: int = 0
    stale: int = 0
    best_epoch: int = 0
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    finished: bool = False


def write_checkpoint(path: Path, state: Progressed, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write state and tensor groups ("module", "optimizer", …) atomically.

    Costs one write of all tensors. A full disk is a :class:`UserError`; the old checkpoint stays.
    """
    tensors = {f"{group}/{name}": value for group, part in groups.items() for name, value in part.items()}
    with atomic_file(path) as temporary:
        save_file(_separate(tensors), temporary, metadata={"forwhy": json.dumps(asdict(state))})


def read_checkpoint(path: Path) -> tuple[Progressed, dict[str, Tensors]] | None:
    """State and tensor groups, on the CPU; None when there is no checkpoint."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            document = json.loads(stored.metadata()["forwhy"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        known = {entry.name for entry in fields(Progressed)}
        state = Progressed(**{key: value for key, value in document.items() if key in known})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged checkpoint; delete it to train from the start") from error
    groups: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        group, rest = name.split("/", 1)
        groups.setdefault(group, {})[rest] = tensor
    return state, groups


def snapshot(state_dict: Mapping[str, Tensor]) -> Tensors:
    """A copy on the CPU that later steps don't change."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state_dict.items()}


def pack_optimizer(optimizer: Optimizer) -> Tensors:
    """The optimiser's state as tensors named ``PARAMETER/NAME``; scalars become 0-d float64 or int64.

    Knows flat states (Adam, AdamW, SGD, Adagrad, 8-bit kinds, …); options are not state and not kept.
    """
    packed: Tensors = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if value is None:
                continue
            if not isinstance(value, Tensor | bool | int | float):
                raise TypeError(f"optimiser state {name!r} of type {type(value).__name__} can't be kept")
            is_scalar = not isinstance(value, Tensor)
            kind = ".scalar" if is_scalar else ""
            packed[f"{index}/{name}{kind}"] = torch.as_tensor(value, dtype=_wide(value))
    return packed


def unpack_optimizer(optimizer: Optimizer, packed: Mapping[str, Tensor]) -> None:
    """Put a packed state back into a fresh optimiser over the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in packed.items():
        index, name = key.split("/", 1)
        value = tensor.item() if name.endswith(".scalar") else tensor
        state.setdefault(int(index), {})[name.removesuffix(".scalar")] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _wide(value: object) -> torch.dtype | None:
    """A dtype that holds a python scalar exactly; None keeps a tensor's own."""
    if isinstance(value, Tensor):
        return None
    return {bool: torch.bool, int: torch.int64}.get(type(value), torch.float64)


def _separate(tensors: Mapping[str, Tensor]) -> Tensors:
    """CPU tensors that share no memory, as the format demands (tied weights do share)."""
    seen: set[int] = set()
    separate: Tensors = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        address = plain.untyped_storage().data_ptr()
        separate[name] = plain.clone() if address in seen else plain
        seen.add(address)
    return separate
