"""The baseline that knows nobody: items by the number of people who took them in training."""

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Graph
from forwhy.data.dataset import Dataset, Ids
from forwhy.errors import UserError
from forwhy.graph.representations import Representations
from forwhy.recommend.base import CatalogueRecommender, Id, Ints, Reach, Scores


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


# --- Recommend by what stage 1 learned: the inner product of two representations.
#
# Shapes: B people, I items, W dimensions of a representation.


class BehaviourRecommender(CatalogueRecommender):
    """Scores q_u . q_i, the very numbers that are explained: quantised (BEAT section 3.2), graph vectors (XRec).

    Serves hot users, and by `history` people never seen in training. Memory: both tables of representations.
    """

    reach: ClassVar[Reach] = Reach(frozenset({"hot", "warm"}), frozenset({"hot"}))

    def __init__(self, behaviour: Representations) -> None:
        """Nothing is fitted here: what stage 1 learned is the model."""
        super().__init__(behaviour.users, behaviour.items, behaviour.titles, behaviour.taken)
        self.behaviour = behaviour

    def scores(self, users: Ints) -> Scores:
        """[B, I] inner products with every item."""
        return self._products(self._user_rows[users])

    def history_scores(self, items: Ints) -> Scores:
        """[I] inner products of the words that this history gets."""
        vector_W = self.behaviour.representation_for_history([int(item) for item in items])
        return np.asarray(self._products(vector_W[None])[0])

    def check_user(self, user: Id, number: int) -> None:
        """A user without training interactions has no representation of their own."""
        if not self._has_history[number]:
            raise UserError(
                f"user {user!r} has no training interactions to know them by; "
                "give a history (a list of item ids they took) instead"
            )

    def _products(self, people: NDArray[np.float32]) -> Scores:
        # In float64, so that after rounding equal items tie and a person's scores do not depend on who else
        # is in the batch: float32 matrix products differ in the last bit with their shape.
        products = people.astype(np.float64) @ self._item_rows.T
        return np.asarray(products.astype(np.float32))

    @cached_property
    def _has_history(self) -> NDArray[np.bool_]:
        return self.behaviour.has_history["user"]

    @cached_property
    def _user_rows(self) -> NDArray[np.float32]:
        return self.behaviour.representation("user")

    @cached_property
    def _item_rows(self) -> NDArray[np.float64]:
        return self.behaviour.representation("item").astype(np.float64)
