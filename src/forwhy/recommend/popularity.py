"""The baseline that knows nobody: items by the number of people who took them in training."""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from forwhy.columns import Graph
from forwhy.data.dataset import Dataset, Ids
from forwhy.recommend.base import CatalogueRecommender, Ints, Reach, Scores


class PopularityRecommender(CatalogueRecommender):
    """The same scores for everyone: training interactions of each item. Serves cold users too."""

    reach: ClassVar[Reach] = Reach(frozenset({"hot", "warm", "cold"}), frozenset({"hot"}))

    def __init__(self, users: Ids, items: Ids, titles: Sequence[str], seen: Ints) -> None:
        """`seen` [E, 2]: unique internal training pairs, which are counted. Cost: linear in E."""
        super().__init__(users, items, titles, seen)
        self.counts = np.bincount(self._seen_keys % len(items), minlength=len(items)).astype(np.float32)

    @classmethod
    def fit(cls, dataset: Dataset, graph: Graph = "leak-free") -> Self:
        """Count the training interactions of a dataset."""
        return cls(dataset.users, dataset.items, dataset.titles(), dataset.edges("train", graph))

    def scores(self, users: Ints) -> Scores:
        """[B, I] the same row for everyone."""
        return np.repeat(self.counts[None], len(users), axis=0)

    def history_scores(self, items: Ints) -> Scores:
        """[I] the same, whatever the history."""
        return self.counts.copy()
