"""Recommend by behaviour words: the inner product of two people's quantised representations.

Shapes: B people, I items, S slots, W dimensions of a representation.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Ids
from forwhy.errors import UserError
from forwhy.recommend.base import CatalogueRecommender, Id, Ints, Reach, Scores

Side = Literal["user", "item"]


class BehaviourVocabulary(Protocol):
    """What of `forwhy.vocabulary.Vocabulary` recommending needs."""

    @property
    def users(self) -> Ids:
        """All users."""

    @property
    def items(self) -> Ids:
        """All items."""

    @property
    def titles(self) -> Sequence[str]:
        """Title of each item; "" when unknown."""

    @property
    def taken(self) -> Ints:
        """[T, 2] internal pairs of all training interactions."""

    @property
    def has_history(self) -> Mapping[str, NDArray[np.bool_]]:
        """Side -> whether each entity has training interactions."""

    def representation(self, side: Side) -> NDArray[np.float32]:
        """[entities, W], so that a score is an inner product."""

    def represent(self, side: Side, codes_nS: NDArray[np.integer]) -> NDArray[np.float32]:  # noqa: N803
        """[n, W] the same of given codes [n, S]."""

    def codes_for_history(self, items: Sequence[int]) -> NDArray[np.int32]:
        """[S] codes of a person who took these internal items."""


class BehaviourRecommender(CatalogueRecommender):
    """Scores q_u . q_i over behaviour words (BEAT section 3.2), the very numbers that are explained.

    Serves hot users, and by `history` people never seen in training. Memory: both tables of representations.
    """

    reach: ClassVar[Reach] = Reach(frozenset({"hot", "warm"}), frozenset({"hot"}))

    def __init__(self, vocabulary: BehaviourVocabulary) -> None:
        """Nothing is fitted here: the vocabulary is the model."""
        super().__init__(vocabulary.users, vocabulary.items, vocabulary.titles, vocabulary.taken)
        self.vocabulary = vocabulary

    def scores(self, users: Ints) -> Scores:
        """[B, I] inner products with every item."""
        return self._products(self._user_rows[users])

    def history_scores(self, items: Ints) -> Scores:
        """[I] inner products of the words that this history gets."""
        codes = self.vocabulary.codes_for_history([int(item) for item in items])
        return np.asarray(self._products(self.vocabulary.represent("user", codes[None]))[0])

    def check_user(self, user: Id, number: int) -> None:
        """A user without training interactions has no words of their own."""
        if not self._has_words[number]:
            raise UserError(
                f"user {user!r} has no training interactions, so no behaviour words; "
                "give a history (a list of item ids they took) instead"
            )

    def _products(self, people: NDArray[np.float32]) -> Scores:
        # In float64, so that after rounding equal items tie and a person's scores do not depend on who else
        # is in the batch: float32 matrix products differ in the last bit with their shape.
        products = people.astype(np.float64) @ self._item_rows.T
        return np.asarray(products.astype(np.float32))

    @cached_property
    def _has_words(self) -> NDArray[np.bool_]:
        return self.vocabulary.has_history["user"]

    @cached_property
    def _user_rows(self) -> NDArray[np.float32]:
        return self.vocabulary.representation("user")

    @cached_property
    def _item_rows(self) -> NDArray[np.float64]:
        return self.vocabulary.representation("item").astype(np.float64)
