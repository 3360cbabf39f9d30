"""What training to write items' codes needs, whatever the model: checks, order of batches, validation.

Shapes: B histories, V validated users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.data.sequences import Sequences
from forwhy.errors import UserError
from forwhy.recommend.decoding import BeamDecoder
from forwhy.recommend.generative.tokens import IndexTokens
from forwhy.training import TrainingResult
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["Validation", "batch_order", "check_data", "result_metrics"]

Ints = NDArray[np.int64]
POOL = 16
"""Batches' worth of histories that are sorted by length together: little padding, and still a random batch."""


class Validation:
    """NDCG@10 and Recall@10 of the validation items of some users, by constrained beam search."""

    def __init__(
        self, sequences: Sequences, tokens: IndexTokens, window: int, sample: int, seed: int
    ) -> None:
        """`sample`: users, drawn once by `seed`; 0: all."""
        users = sequences.evaluated("valid")
        chosen = np.sort(np.random.default_rng(seed).permutation(users)[: sample or len(users)])
        before = sequences.histories("valid").take(chosen).last(window)
        self._prompts = [tokens.history(before[row].tolist()) for row in range(len(chosen))]
        self._targets = torch.from_numpy(sequences.valid[chosen])

    def __len__(self) -> int:
        return len(self._prompts)

    def measure(self, decoder: BeamDecoder) -> dict[str, float]:
        """`ndcg@10` and `recall@10`; the decoder has 10 beams or more."""
        found = decoder.search(self._prompts, 10).items
        hits = found == self._targets[:, None]
        gains = hits / torch.log2(torch.arange(hits.shape[1]) + 2.0)
        return {"ndcg@10": float(gains.sum() / len(hits)), "recall@10": float(hits.sum() / len(hits))}


def batch_order(lengths: Ints, size: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """A random order of rows, like lengths together, and a random order of the batches that it is cut into."""
    order = rng.permutation(len(lengths))
    pool = np.arange(len(order)) // (size * POOL)
    return order[np.lexsort((lengths[order], pool))], rng.permutation(-(-len(order) // size))


def check_data(dataset: Dataset, sequences: Sequences, index: ItemIndex) -> None:
    """Refuse an index of other items, and a data set without training items."""
    if tuple(index.items.values) != tuple(dataset.items.values):
        raise UserError(
            f"the index names {len(index):,} items, data set '{dataset.name}' {len(dataset.items):,}, and they are "
            "not the same; build the index on this data set"
        )
    if not len(sequences.train.items):
        raise UserError(
            f"data set '{dataset.name}' has no training interactions, so there is nothing to learn from"
        )


def result_metrics(result: TrainingResult) -> dict[str, Any]:
    """What a recommender keeps of its training."""
    seconds = round(result.seconds, 3)
    return {**result.best_metrics, "best_epoch": result.best_epoch, "steps": result.steps, "seconds": seconds}
