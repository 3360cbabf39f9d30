"""The state of a training as one safetensors file, replaced by one rename: tensors, and the rest as JSON."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from forwhy.atomic import atomic_file, full_disk
from forwhy.documents import plain_json
from forwhy.errors import UserError
from forwhy.training.tracking import followers

Tensors = dict[str, Tensor]


@dataclass
class TrainingState:
    """Where a training stands and what it has reached: all that is neither a tensor nor derived from the config."""

    identity: dict[str, Any]
    """Options, data and shapes; a checkpoint of others is not continued."""
    epoch: int = 0
    batch: int = 0
    step: int = 0
    """Optimiser steps done."""
    total_steps: int = 0
    seconds: float = 0.0
    """Training time of all runs that led here, evaluations included."""
    log_bytes: int = 0
    stale: int = 0
    best_epoch: int = 0
    """Epochs done when the best state was seen; 0 = the start."""
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry per evaluation: `step`, `epoch`, `seconds`, `valid` (the metrics), `best`."""
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    def summary(self) -> dict[str, Any]:
        """What an artifact keeps of it: the best epoch's metrics, `best_epoch`, `steps`.

        Seconds are in metrics.jsonl alone: two trainings of the same have the same bytes.
        """
        return {**self.best_metrics, "best_epoch": self.best_epoch, "steps": self.step}


def write_checkpoint(path: Path, state: TrainingState, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write state and tensor groups ("module", "optimizer", …) atomically; on a full disk the old ones stay."""
    tensors = {f"{group}/{name}": value for group, part in groups.items() for name, value in part.items()}
    with atomic_file(path) as temporary:
        save_file(_separate(tensors), temporary, metadata={"forwhy": json.dumps(asdict(state))})


def read_checkpoint(path: Path) -> tuple[TrainingState, dict[str, Tensors]] | None:
    """State and tensor groups, on the CPU; None when there is no checkpoint."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            document = json.loads(stored.metadata()["forwhy"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        known = {entry.name for entry in fields(TrainingState)}
        state = TrainingState(**{key: value for key, value in document.items() if key in known})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged checkpoint; delete it to train from the start") from error
    groups: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        group, rest = name.split("/", 1)
        groups.setdefault(group, {})[rest] = tensor
    return state, groups


def pack_optimizer(optimizer: Optimizer) -> Tensors:
    """The optimiser's flat state as tensors named ``PARAMETER/NAME``; scalars become 0-d float64 or int64."""
    packed: Tensors = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                packed[f"{index}/{name}"] = value
            elif isinstance(value, bool | int | float):
                wide = torch.float64 if isinstance(value, float) else None  # the others are held exactly
                packed[f"{index}/{name}.scalar"] = torch.tensor(value, dtype=wide)
            elif value is not None:
                raise TypeError(f"optimiser state {name!r} of type {type(value).__name__} can't be kept")
    return packed


def unpack_optimizer(optimizer: Optimizer, packed: Mapping[str, Tensor]) -> None:
    """Put a packed state back into a fresh optimiser over the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in packed.items():
        index, name = key.split("/", 1)
        value = tensor.item() if name.endswith(".scalar") else tensor
        state.setdefault(int(index), {})[name.removesuffix(".scalar")] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _separate(tensors: Mapping[str, Tensor]) -> Tensors:
    """CPU tensors that share no memory, as the format demands (tied weights do share)."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    first = {it.untyped_storage().data_ptr(): name for name, it in reversed(plain.items())}
    kept = set(first.values())
    return {name: it if name in kept else it.clone() for name, it in plain.items()}


# --- metrics.jsonl: one JSON document per line, never one twice.


class MetricsLog:
    """An open metrics.jsonl, cut back on entry to ``size`` bytes: what the checkpoint knew of; kept if it `writes`."""

    def __init__(self, path: Path, size: int, writes: bool) -> None:
        self._path, self._size, self._writes = path, size, writes

    def __enter__(self) -> Self:
        with full_disk(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = open(self._path if self._writes else os.devnull, "ab")
            if self._writes and self._stream.tell() > self._size:
                self._stream.truncate(self._size)
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, line: dict[str, Any]) -> None:
        """Append a line and hand it to the system; a full disk is a :class:`UserError`."""
        row = plain_json(line)
        with full_disk(self._path):
            self._stream.write(json.dumps(row, allow_nan=False).encode() + b"\n")
            self._stream.flush()
        for follow in followers if self._writes else ():
            follow(self._path, row)

    def sync(self) -> int:
        """Flush to the disk; the size in bytes."""
        with full_disk(self._path):
            os.fsync(self._stream.fileno())
        return self._stream.tell()
