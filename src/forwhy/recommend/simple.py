"""Recommenders with nothing to train: popularity, and inner products of what stage 1 learnt. No torch.

Shapes: B people, I items.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Graph
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Capabilities, Catalogue, Histories
from forwhy.graph.representations import Representations
from forwhy.recommend.base import Ints, Recommender, Scores


class PopularityRecommender(Recommender):
    """The baseline that knows nobody: each item's score is the number of people who took it in training."""

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
        """[B, I] equal rows, whatever the histories."""
        return np.repeat(self.counts[None], len(histories), axis=0)


class BehaviourRecommender(Recommender):
    """Scores q_u . q_i, the very numbers that are explained: quantised (BEAT section 3.2), graph vectors (XRec).

    Serves hot users, and by `history` people never seen in training. Memory: both tables of representations.
    """

    def __init__(self, behaviour: Representations) -> None:
        """Nothing is fitted here: what stage 1 learned is the model."""
        super().__init__(behaviour.catalogue)
        self.behaviour = behaviour

    def scores(self, users: Ints) -> Scores:
        """[B, I] inner products with every item."""
        return self._products(self._user_rows[users])

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] inner products of the representation that each history gets."""
        after = self.behaviour.representation_for_history
        return self._products(np.stack([after(histories[row].tolist()) for row in range(len(histories))]))

    def _products(self, people: NDArray[np.float32]) -> Scores:
        # In float64, so that after rounding equal items tie and a person's scores do not depend on who else
        # is in the batch: float32 matrix products differ in the last bit with their shape.
        products = people.astype(np.float64) @ self._item_rows.T
        return np.asarray(products.astype(np.float32))

    def _has_history(self) -> NDArray[np.bool_]:
        return self.behaviour.has_history["user"]

    @cached_property
    def _user_rows(self) -> NDArray[np.float32]:
        return self.behaviour.representation("user")

    @cached_property
    def _item_rows(self) -> NDArray[np.float64]:
        return self.behaviour.representation("item").astype(np.float64)
