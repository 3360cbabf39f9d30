"""What every recommender that reads a history in order has in common. No torch.

Shapes: B people, I items.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from forwhy.data.ids import Ids
from forwhy.data.sequences import Histories
from forwhy.errors import UserError
from forwhy.recommend.base import CatalogueRecommender, Id, Ints, Reach, Scores

__all__ = ["SequentialRecommender"]


class SequentialRecommender(CatalogueRecommender):
    """Scores the next item after a history: hot users' is what they took in training, others bring theirs.

    A history is in time order, its repeats count, and only its last `window` items are read.
    """

    reach: ClassVar[Reach] = Reach(frozenset({"hot", "warm"}), frozenset({"hot"}))

    def __init__(self, users: Ids, items: Ids, titles: Sequence[str], train: Histories) -> None:
        """`train` [U]: the histories of all internal users."""
        super().__init__(users, items, titles, np.stack([train.rows, train.items], axis=1))
        self.train = train

    @abstractmethod
    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] scores of every item as the next one, in new memory. All equal after an empty history."""

    def scores(self, users: Ints) -> Scores:
        """[B, I] the same after the training items of internal users."""
        return self.scores_after(self.train.take(users))

    def history_scores(self, items: Ints) -> Scores:
        """[I] the same after these internal items, oldest first."""
        return np.asarray(self.scores_after(Histories.of([items]))[0])

    def check_user(self, user: Id, number: int) -> None:
        """A user without training interactions has no history to go by."""
        if not self.train.lengths[number]:
            raise UserError(
                f"user {user!r} has no training interactions to know them by; "
                "give a history (a list of item ids they took) instead"
            )
