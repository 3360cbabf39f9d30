"""The baseline that knows nobody: items by the number of people who took them in training. No torch."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from forwhy.columns import Graph
from forwhy.data.catalogue import Capabilities, Catalogue
from forwhy.data.dataset import Dataset
from forwhy.data.sequences import Histories
from forwhy.recommend.base import Recommender, Scores


class PopularityRecommender(Recommender):
    """The same scores for everyone: how many people took each item in training."""

    capabilities: ClassVar[Capabilities] = Capabilities(hot=True, warm=True, cold=True)

    def __init__(self, catalogue: Catalogue) -> None:
        """Counts the distinct training pairs. Cost: a sort of them."""
        super().__init__(catalogue)
        taken = np.unique(catalogue.taken, axis=0)
        self.counts = np.bincount(taken[:, 1], minlength=len(catalogue.items)).astype(np.float32)

    @classmethod
    def fit(cls, dataset: Dataset, graph: Graph = "leak-free") -> Self:
        """Count the training interactions of a data set."""
        return cls(Catalogue.of(dataset, dataset.edges("train", graph)))

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] the same row, whatever the history."""
        return np.repeat(self.counts[None], len(histories), axis=0)
