"""Recommending by what stage 1 learned: behaviour tokens, or vectors of a graph.

Shapes: B people, I items, V width of a text's vector.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from forwhy.data.because import Because
from forwhy.data.histories import Histories
from forwhy.graph.representations import Representations
from forwhy.recommend.base import Ints, Recommender, Scores, Swap
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.newcomers import Newcomer, somebody, something
from forwhy.vocabulary.vocabulary import Vocabulary


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
        words = self.behaviour
        products = words.products(people) if isinstance(words, Vocabulary) else None
        products = people.astype(np.float64) @ self._item_rows.T if products is None else products
        return np.asarray(products.astype(np.float32))

    def _has_history(self) -> NDArray[np.bool_]:
        return self.behaviour.has_history["user"]

    def _because(self, user: int | None, item: int, history: Ints) -> Because:
        return self.behaviour.because(user, item, history.tolist())

    def _rewritten(self, people: Sequence[int | Ints], without: Sequence[str], swap: Swap) -> Self:
        if not isinstance(words := self.behaviour, Vocabulary):
            return super()._rewritten(people, without, swap)
        known = [(one, ()) if isinstance(one, int) else (None, one.tolist()) for one in people]
        return self._with(words.rewrite([words.user_codes(*person) for person in known], without, swap))

    def _newcomer(self, about: str, history: Ints) -> Newcomer:
        if not isinstance(words := self.behaviour, Vocabulary):
            return super()._newcomer(about, history)
        return somebody(words, text_encoder(words.encoder), about, history.tolist())

    def meeting(self, newcomer: Newcomer) -> Self:
        """As of every recommender; the words of the newcomer score."""
        if not isinstance(words := self.behaviour, Vocabulary):
            return super().meeting(newcomer)
        met = self._with(words.meeting(newcomer.codes))
        met.newcomer = newcomer
        return met

    def offering(self, text: str, named: str | None = None) -> tuple[Self, Newcomer]:
        """As of every recommender; the words of the item score."""
        if not isinstance(words := self.behaviour, Vocabulary):
            return super().offering(text, named)
        item = something(words, text_encoder(words.encoder), text)
        offered = self._with(words.offering(item.title, item.codes, named))
        offered.rules = None  # which are about the items before it
        return offered, item

    def _with(self, words: Vocabulary) -> Self:
        changed = type(self)(words)
        changed.newcomer, changed.rules, changed.also_taken = self.newcomer, self.rules, self.also_taken
        return changed

    @cached_property
    def _user_rows(self) -> NDArray[np.float32]:
        return self.behaviour.representation("user")

    @cached_property
    def _item_rows(self) -> NDArray[np.float64]:
        return self.behaviour.representation("item").astype(np.float64)
