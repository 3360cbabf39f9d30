"""What a stage supplies to the loop, and how a batch is cut into shards."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = TypeVar("Batch")
Rows = NDArray[np.int64]


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
        part: Batch = take(batch, rank * total // world, (rank + 1) * total // world)
        return part

    def weight(self, batch: Batch) -> float:
        """Over how many units the loss of this batch is a mean; by default its number of samples.

        Shards and accumulated batches are averaged by it, so that they equal one large batch. A loss per
        target token returns the number of target tokens.
        """
        return float(count(batch))


class Epoch(Sequence[Batch]):
    """The batches of one epoch, each made when it is asked for: `make(i)` for i in 0..count-1, always the same.

    Usually cut from rows in an order that (seed, epoch) decides: see :meth:`shuffled`.
    """

    def __init__(self, count: int, make: Callable[[int], Batch]) -> None:
        self._count, self._make = count, make

    @classmethod
    def shuffled(
        cls, rows: int, size: int, seed: tuple[int, ...], make: Callable[[Rows, np.random.Generator], Batch]
    ) -> "Epoch[Batch]":
        """Row numbers 0 to `rows` - 1 in an order drawn from `seed`, `size` of them a batch.

        `make` gets the rows of a batch, and a generator of that batch alone, seeded by (seed, index).
        """
        order = np.random.default_rng(seed).permutation(rows)

        def batch(index: int) -> Batch:
            return make(order[index * size : (index + 1) * size], np.random.default_rng((*seed, index)))

        return cls(-(-rows // size), batch)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # batches are not sliced
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._make(index)

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(self._count))


def batches_of(lengths: Rows, size: int, rng: np.random.Generator, pools: int = 16) -> list[Rows]:
    """Every row in one batch of `size`, rows of like length together, batches in random order.

    Rows are sorted by length within pools of `pools` batches: little padding, and every epoch mixes them anew.
    """
    order = rng.permutation(len(lengths))
    pool = np.arange(len(order)) // (size * pools)
    order = order[np.lexsort((lengths[order], pool))]
    starts = size * rng.permutation(-(-len(order) // size))
    return [order[start : start + size] for start in starts.tolist()]


def count(batch: Any) -> int:  # noqa: ANN401 - any batch
    """Samples in a list, tensor or array; of a tuple or dataclass of these, in its first."""
    if is_dataclass(batch):
        batch = tuple(vars(batch).values())
    return len(batch[0] if isinstance(batch, tuple) else batch)


def take(batch: Any, start: int, stop: int) -> Any:  # noqa: ANN401 - any batch
    """Samples `start` to `stop` of a batch, a list, tensor or array, or a tuple or dataclass of these."""
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **{name: part[start:stop] for name, part in vars(batch).items()})
    if not isinstance(batch, tuple):
        return batch[start:stop]
    parts = [part[start:stop] for part in batch]
    return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
