"""LLM-BS: a language model that recommends by writing the codes of items that exist.

Shapes: I items, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from forwhy.columns import Graph
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Ids
from forwhy.data.sequences import Histories, Sequences
from forwhy.errors import UserError
from forwhy.recommend.decoding import BeamDecoder, CodeTrie
from forwhy.recommend.generative.recommender import GenerativeRecommender
from forwhy.recommend.llmbs.config import LlmBsConfig
from forwhy.recommend.llmbs.network import LlmBsNetwork
from forwhy.recommend.llmbs.training import Annealing
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["LlmBsRecommender"]


class LlmBsRecommender(GenerativeRecommender):
    """A language model that knows the items' codes; what it lists and how it scores: see `GenerativeRecommender`."""

    config: LlmBsConfig

    def __init__(
        self,
        users: Ids,
        items: Ids,
        titles: Sequence[str],
        train: Histories,
        index: ItemIndex,
        network: LlmBsNetwork,
        config: LlmBsConfig,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        adapter: Annealing | None = None,
        metrics: Mapping[str, Any] | None = None,
        base: Mapping[str, Any] | None = None,
        repeat_gain: float = 0.0,
    ) -> None:
        """Put together what was fitted or read.

        Args:
            users: Of training.
            items: Of training; the index's.
            titles: By internal item; "" when unknown.
            train: [users] what each took.
            index: The items' codes.
            network: The model that knows them.
            config: How it was trained.
            tokenizer: Of a model that knows text.
            adapter: The annealing adapter inside the model.
            metrics: Of training.
            base: Name and revision of the model that training began with, and its licence where known.
            repeat_gain: What the log-probability of an item of the history gains.

        Raises:
            UserError: the index is of other items, or the model has other tokens.
        """
        super().__init__(users, items, titles, train, index, network.tokens, repeat_gain)
        self.config = config
        self.network, self.tokenizer, self.adapter = network.eval(), tokenizer, adapter
        self.metrics, self.base = dict(metrics or {}), dict(base or {})

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        index: ItemIndex,
        folder: Path | str,
        config: LlmBsConfig | None = None,
        vectors: Mapping[str, NDArray[np.floating]] | None = None,
        graph: Graph = "leak-free",
        sequences: Sequences | None = None,
    ) -> LlmBsRecommender:
        """Full training, then the annealing adapter; a killed run continues from `folder`.

        Gradients come from training items alone; validation items choose the epoch. Text tasks run where items have
        text, CON's part for the sources that vectors are given of.

        Args:
            dataset: interactions with timestamps, one validation and one test item per user.
            index: the codes of all its items.
            folder: for checkpoints and metrics.jsonl of both stages.
            config: `LlmBsConfig()` by default.
            vectors: `semantic` and `behaviour`, [I, E] each: what the index was made from.
            graph: which training interactions (see `Dataset.edges`).
            sequences: other histories of the same data set, such as shuffled ones.

        Raises:
            UserError: no order, no training items, an index of other items, a model that can't be used; training
                diverged.
        """
        from forwhy.recommend.llmbs.fitting import fit

        options = config or LlmBsConfig()
        histories = sequences or Sequences.from_dataset(dataset, graph)
        return fit(dataset, histories, index, Path(folder), options, vectors or {})

    def _decoder(self, trie: CodeTrie, beam: int) -> BeamDecoder:
        return BeamDecoder(self.network.lm, trie, self.tokens.levels, self.config.decoding, beam)

    # --- talking

    @contextmanager
    def talking(self) -> Iterator[tuple[Any, PreTrainedTokenizerBase]]:
        """Model and tokenizer with the adapter off inside the block: the first stage's model, which also knows text.

            with recommender.talking() as (model, tokenizer):
                ...

        Raises:
            UserError: the model has no text tokens.
        """
        if self.tokenizer is None:
            raise UserError(
                "this model knows no text: train a named backbone, or a scratch one with text tasks"
            )
        with self.switched(False):
            yield self.network.lm, self.tokenizer

    @contextmanager
    def switched(self, on: bool) -> Iterator[None]:
        """The adapter on or off inside the block; without one nothing changes."""
        if self.adapter is None:
            yield
            return
        with self.adapter.switched(on):
            yield

    # --- saving

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that loads alone; atomic. All weights are in it: see its card for the base model's licence."""
        from forwhy.recommend.llmbs.store import save

        save(Path(folder), self)

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str = "auto") -> LlmBsRecommender:
        """Read a folder that `save_pretrained` wrote.

        Raises:
            UserError: a file is missing, truncated, altered or of another kind; index and model disagree.
        """
        from forwhy.recommend.llmbs.store import load

        return load(Path(folder), device)
