"""TIGER as a recommender: learnt, saved, asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forwhy.columns import Graph
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Ids
from forwhy.data.sequences import Histories, Sequences
from forwhy.recommend.decoding import BeamDecoder, CodeTrie
from forwhy.recommend.generative.recommender import GenerativeRecommender
from forwhy.recommend.tiger.config import TigerConfig
from forwhy.recommend.tiger.network import HistoryReader, TigerNetwork
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["TigerRecommender"]


class TigerRecommender(GenerativeRecommender):
    """An encoder and a decoder that know the items' codes; what it lists and how: see `GenerativeRecommender`.

    Without the hashed user token of the paper, as in LETTER's code: so people never seen are served as all others.
    """

    config: TigerConfig

    def __init__(
        self,
        users: Ids,
        items: Ids,
        titles: Sequence[str],
        train: Histories,
        index: ItemIndex,
        network: TigerNetwork,
        config: TigerConfig,
        metrics: Mapping[str, Any] | None = None,
        repeat_gain: float = 0.0,
    ) -> None:
        """Put together what was fitted or read.

        Args:
            users: Of training.
            items: Of training; the index's.
            titles: By internal item; "" when unknown.
            train: [users] what each took.
            index: The items' codes; TIGER's come from an RQ-VAE (`IndexConfig(method="rqvae", source="semantic")`), but
                any will do.
            network: The model that knows them.
            config: How it was trained.
            metrics: Of training, by stage; there is one, `full`.
            repeat_gain: What the log-probability of an item of the history gains.

        Raises:
            UserError: the index is of other items, or the model has other tokens.
        """
        super().__init__(users, items, titles, train, index, network.tokens, repeat_gain)
        self.config, self.network, self.metrics = config, network.eval(), dict(metrics or {})

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        index: ItemIndex,
        folder: Path | str,
        config: TigerConfig | None = None,
        graph: Graph = "leak-free",
        sequences: Sequences | None = None,
    ) -> TigerRecommender:
        """Learn to write each training item's codes after those before it; a killed run continues from `folder`.

        Gradients come from training items alone; validation items choose the epoch. Without any the last is kept.
        Cost of an epoch: an encoder pass over its window for every target (see `TigerConfig.targets`).

        Args:
            dataset: interactions with timestamps, one validation and one test item per user.
            index: the codes of all its items.
            folder: for checkpoints and metrics.jsonl.
            config: `TigerConfig()` by default.
            graph: which training interactions (see `Dataset.edges`).
            sequences: other histories of the same data set, such as shuffled ones.

        Raises:
            UserError: no order, no training items, an index of other items; training diverged.
        """
        from forwhy.recommend.tiger.fitting import fit

        histories = sequences or Sequences.from_dataset(dataset, graph)
        return fit(dataset, histories, index, Path(folder), config or TigerConfig())

    def _decoder(self, trie: CodeTrie, beam: int) -> BeamDecoder:
        reader = HistoryReader(self.network)
        return BeamDecoder(reader, trie, self.tokens.levels, self.config.decoding, beam)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that loads alone; atomic."""
        from forwhy.recommend.tiger.store import save

        save(Path(folder), self)

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str = "auto") -> TigerRecommender:
        """Read a folder that `save_pretrained` wrote.

        Raises:
            UserError: a file is missing, truncated, altered or of another kind; index and model disagree.
        """
        from forwhy.recommend.tiger.store import load

        return load(Path(folder), device)
