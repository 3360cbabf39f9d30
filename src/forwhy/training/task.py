"""What a stage supplies to the loop, and how a batch is cut into shards."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = TypeVar("Batch")


class Task(ABC, Generic[Batch]):
    """A model to train, its batches, loss and evaluation.

    To be resumable to the bit, whatever changes during training lives in ``module`` (parameters and buffers),
    in the optimiser, or in the global torch, numpy and python generators; ``batches`` depends on nothing but
    the epoch (and the task's own seed).
    """

    module: nn.Module
    """The trained part. Frozen models stay outside of it: its ``state_dict`` is what checkpoints hold."""

    higher_is_better: bool = False
    """Direction of the first metric that :meth:`evaluate` returns."""

    @abstractmethod
    def optimizer(self) -> Optimizer:
        """A fresh optimiser over ``module``'s parameters, which are on their device by then."""

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[Batch]:
        """The batches of an epoch (from 0), in an order decided by the seed and the epoch only.

        Anything with a length that can be iterated will do; called again for the same epoch on resume.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """``"loss"`` (a scalar, the mean over the batch) and any parts worth logging (scalars)."""

    @abstractmethod
    def evaluate(self) -> Mapping[str, float]:
        """Validation metrics; the first decides the best state. Called in eval mode, without gradients."""

    def shard(self, batch: Batch, rank: int, world: int) -> Batch:
        """The part of a batch that process ``rank`` of ``world`` works on; by default an even slice."""
        total = count(batch)
        return take(batch, rank * total // world, (rank + 1) * total // world)

    def weight(self, batch: Batch) -> float:
        """Over how many units the loss of this batch is a mean; by default its number of samples.

        Shards and accumulated batches are averaged by it, so that they equal one large batch. A loss per
        target token returns the number of target tokens.
        """
        return float(count(batch))


class Epoch(Sequence[Batch]):
    """The batches of one epoch, each made when it is asked for: `make(i)` for i in 0..count-1, always the same.

    A task draws its order from (seed, epoch) once and cuts it into batches::

        order = np.random.default_rng((seed, epoch)).permutation(len(rows))
        return Epoch(-(-len(rows) // size), lambda i: batch_of(order[i * size : (i + 1) * size]))
    """

    def __init__(self, count: int, make: Callable[[int], Batch]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # batches are not sliced
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._make(index)

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(self._count))


def count(batch: object) -> int:
    """Samples in a batch: rows of an array, elements of a list; of a dict, tuple or dataclass, its first."""
    if isinstance(batch, Tensor | np.ndarray):
        return len(batch) if batch.ndim else 0
    if isinstance(batch, list):
        return len(batch)
    return next((size for part in _columns(batch).values() if (size := count(part))), 0)


def take(batch: Batch, start: int, stop: int) -> Batch:
    """Samples ``start`` to ``stop`` of a batch (forms: see :func:`count`); scalars and text stay whole."""
    if isinstance(batch, Tensor | np.ndarray):
        return cast(Batch, batch[start:stop] if batch.ndim else batch)
    if isinstance(batch, list):
        return cast(Batch, batch[start:stop])
    columns = {name: take(part, start, stop) for name, part in _columns(batch).items()}
    return _rebuild(batch, columns) if columns else batch


def _columns(batch: object) -> dict[Any, object]:
    """The named parts of a composite batch; nothing for a scalar or text."""
    if isinstance(batch, Mapping):
        return dict(batch)
    if isinstance(batch, tuple):
        return dict(enumerate(batch))
    if is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {}


def _rebuild(batch: Any, columns: dict[Any, Any]) -> Any:  # noqa: ANN401 - any composite batch
    """A batch like ``batch`` with these parts."""
    if isinstance(batch, Mapping):
        return columns
    if isinstance(batch, tuple):
        values = list(columns.values())
        return type(batch)(*values) if hasattr(batch, "_fields") else tuple(values)
    return replace(batch, **columns)
