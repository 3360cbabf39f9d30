"""TIGER as a task of the training loop: one encoder pass per target, constrained NDCG@10.

Shapes: B targets with their histories, N training items, I items of a history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forwhy.data.sequences import Histories, Sequences, batch_order
from forwhy.recommend.decoding import BeamDecoder, CodeTrie
from forwhy.recommend.generative.recommender import Validation
from forwhy.recommend.tiger.config import TigerConfig
from forwhy.recommend.tiger.network import HistoryReader, TigerNetwork
from forwhy.training import Task

__all__ = ["Batch", "TigerTask"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """One step's targets."""

    items_BI: Tensor
    """What was taken before each, padded behind."""
    lengths_B: Tensor
    targets_B: Tensor


class _Epoch(Sequence[Batch]):
    """Batches of one epoch, made when asked for; draws and order follow (seed, epoch) only."""

    def __init__(self, train: Histories, config: TigerConfig, epoch: int) -> None:
        rng = np.random.default_rng((config.seed, epoch))
        self._train, self._size = train, config.batch_size
        self._targets = drawn(train, config.targets, rng)
        starts = train.offsets[:-1][train.rows[self._targets]]
        self._lengths = np.minimum(self._targets - starts, config.window)
        self._order, self._batches = batch_order(self._lengths, config.batch_size, rng)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        start = int(self._batches[index]) * self._size
        rows = self._order[start : start + self._size]
        targets, lengths = self._targets[rows], self._lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(targets - lengths - offsets[:-1], lengths)
        before = Histories(self._train.items[places], offsets)
        parts = before.padded(), lengths, self._train.items[targets]
        return Batch(*(torch.from_numpy(part) for part in parts))

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


class TigerTask(Task[Batch]):
    """Learns from training items only; validation items decide when to stop and nothing else."""

    higher_is_better = True

    def __init__(
        self, network: TigerNetwork, sequences: Sequences, trie: CodeTrie, config: TigerConfig
    ) -> None:
        self.module: nn.Module = network
        self.network, self.config, self.trie = network, config, trie
        self._train = sequences.train
        self._validation = Validation(
            sequences, network.tokens, config.window, config.validation_users, config.seed
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; weight decay on matrices but those of tokens and distances."""
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for module in self.network.modules():
            for parameter in module.parameters(recurse=False):
                groups[isinstance(module, nn.Linear)].append(parameter)
        options = [
            {"params": group, "weight_decay": self.config.weight_decay if decayed else 0.0}
            for decayed, group in groups.items()
        ]
        return torch.optim.AdamW(options, lr=self.config.learning_rate, fused=True)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """Every training target once, or the epoch's draw of each history's."""
        return _Epoch(self._train, self.config, epoch)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Mean cross-entropy of the targets' codes."""
        found: Mapping[str, Tensor] = self.network(batch.items_BI, batch.lengths_B, batch.targets_B)
        return found

    def evaluate(self) -> Mapping[str, float]:
        """NDCG@10 and Recall@10 by constrained beam search; without validation items the training likelihood."""
        if not len(self._validation):
            return {"train_log_likelihood": -float(self.loss(self.batches(0)[0])["loss"])}
        levels, beam = self.network.tokens.levels, max(self.config.beam, 10)
        reader = HistoryReader(self.network)
        return self._validation.measure(BeamDecoder(reader, self.trie, levels, self.config.decoding, beam))


def drawn(train: Histories, count: int, rng: np.random.Generator) -> Ints:
    """Places in `train.items` of at most `count` items of each history, drawn without order; of all where 0."""
    if not count:
        return np.arange(len(train.items))
    order = np.lexsort((rng.random(len(train.items)), train.rows))
    turn = np.arange(len(order)) - train.offsets[:-1][train.rows]
    return np.sort(order[turn < count])
