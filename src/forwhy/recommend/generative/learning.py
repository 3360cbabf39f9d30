"""What training to write items' codes needs, whatever the model: checks and validation."""

from __future__ import annotations

from typing import Any

import torch

from forwhy.data.dataset import Dataset
from forwhy.data.sequences import Sequences
from forwhy.errors import UserError
from forwhy.recommend.decoding import BeamDecoder
from forwhy.recommend.generative.config import GenerativeConfig
from forwhy.recommend.generative.tokens import IndexTokens
from forwhy.training import LoopConfig
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["Validation", "check_data", "loop"]


class Validation:
    """NDCG@10 and Recall@10 of the validation items of some users, by constrained beam search."""

    def __init__(
        self, sequences: Sequences, tokens: IndexTokens, window: int, sample: int, seed: int
    ) -> None:
        """`sample`: users, drawn once by `seed`; 0: all."""
        chosen = sequences.drawn("valid", sample, seed)
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


def loop(config: GenerativeConfig, validates: bool, **more: Any) -> LoopConfig:  # noqa: ANN401 (its own options)
    """The training loop's options; `more` wins."""
    options: dict[str, Any] = {
        "epochs": config.epochs,
        "patience": config.patience,
        "evaluate_every": config.evaluate_every,
        "schedule": "cosine",
        "warmup": config.warmup,
        "gradient_clip": config.gradient_clip,
        "device": config.device,
        "seed": config.seed,
        "checkpoint_seconds": config.checkpoint_seconds,
    }
    return LoopConfig(**options | more).validated(validates)
