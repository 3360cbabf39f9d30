"""Lists of items that exist, by beams over their codes, and exact scores: the same for every model that writes codes.

Shapes: B people, I items, K items of a list.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import polars as pl

from forwhy.data.ids import Ids
from forwhy.data.sequences import Histories
from forwhy.errors import UserError
from forwhy.recommend.base import Id, Ints, Scores
from forwhy.recommend.decoding import BeamDecoder, CodeTrie, Normalise
from forwhy.recommend.generative.tokens import IndexTokens, check_index
from forwhy.recommend.sequential.base import SequentialRecommender
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["GenerativeRecommender"]

Lists = tuple[Ints, Scores]


class Options(Protocol):
    """What listing needs of a model's options."""

    @property
    def window(self) -> int:
        """Items of a history that are read."""

    @property
    def beam(self) -> int:
        """Beams per person, at least."""

    @property
    def decoding(self) -> Normalise:
        """What a code competes with."""


class GenerativeRecommender(SequentialRecommender):
    """Lists the items whose codes a model finds most probable after a history, by constrained beam search.

    A history is in time order, its repeats count, and only its last `window` items are read. Hot users' is what they
    took in training; others bring theirs. An empty history is read as one: the list is what people take first.
    A score is the log-probability of an item's codes. Beams are `beam` wide, or the next multiple of it that holds `k`
    items and those that `filter_seen` leaves out; with as many beams as items the list is exact.
    Cost per person: one pass over the history and one over the beams per level.
    """

    config: Options

    def __init__(
        self,
        users: Ids,
        items: Ids,
        titles: Sequence[str],
        train: Histories,
        index: ItemIndex,
        tokens: IndexTokens,
    ) -> None:
        """See the subclasses.

        Raises:
            UserError: the index is of other items, or the model has other tokens.
        """
        super().__init__(users, items, titles, train)
        check_index(index, items, tokens)
        self.index, self.tokens = index, tokens
        self._trie = CodeTrie.from_codes(index.codes, index.sizes)

    # --- lists

    def recommend(
        self,
        users: Id | Sequence[Id] | None = None,
        *,
        history: Sequence[Id] | None = None,
        k: int = 10,
        filter_seen: bool = True,
    ) -> pl.DataFrame:
        """The `k` best items of each person, as every recommender's: see `CatalogueRecommender.recommend`.

        A history may be empty. Lists of different `k` within one width of beams are heads of each other.

        Raises:
            UserError: unknown id, a user without training items, nobody named, k below 1.
        """
        if k < 1:
            raise UserError(f"k is {k}: ask for at least one item")
        if history is not None:
            return self._listed_by_history(users, history, k, filter_seen)
        if users is None:
            raise UserError("nobody to recommend to: name a user, or give a history (a list of item ids)")
        named = [users] if isinstance(users, str | int) else list(users)
        numbers = self._user_numbers(named)
        hidden = [self._seen(int(number)) if filter_seen else numbers[:0] for number in numbers]
        lists = self.lists_after(self.train.take(numbers), k, hidden)
        return self._table([self.users.values[number] for number in numbers], lists)

    def lists_after(
        self, histories: Histories, k: int = 10, hidden: Sequence[Ints] | None = None
    ) -> list[Lists]:
        """The `k` best items after each history, best first, and their scores; fewer where the catalogue ends.

        Args:
            histories: Internal items, oldest first; may be empty.
            k: Items of each list.
            hidden: Items that each list leaves out.
        """
        recent = histories.last(self.config.window)
        left_out = [np.unique(items) for items in hidden] if hidden else [recent.items[:0]] * len(recent)
        widths = np.array([self._width(k + len(items)) for items in left_out], dtype=np.int64)
        lists: list[Lists] = [(recent.items[:0], np.empty(0, np.float32))] * len(recent)
        for width in np.unique(widths).tolist():
            rows = np.flatnonzero(widths == width)
            decoder = self._decoder(self._trie, width)
            found = decoder.search([self._prompt(recent[int(row)]) for row in rows])
            for row, items, scores in zip(
                rows.tolist(), found.items.numpy(), found.scores.numpy(), strict=True
            ):
                kept = ~np.isin(items, left_out[row])
                lists[row] = (items[kept][:k], scores[kept][:k])
        return lists

    def items_after(self, histories: Histories, k: int = 10) -> Ints:
        """[B, k] the items of those lists; -1 where the catalogue ends. What `evaluate.sequential.rank_lists` reads."""
        items_BK = np.full((len(histories), k), -1, dtype=np.int64)
        for row, (items, _) in enumerate(self.lists_after(histories, k)):
            items_BK[row, : len(items)] = items
        return items_BK

    def _listed_by_history(
        self, users: Id | Sequence[Id] | None, history: Sequence[Id], k: int, filter_seen: bool
    ) -> pl.DataFrame:
        people: list[Id] = [] if users is None else [users] if isinstance(users, str | int) else list(users)
        if len(people) > 1:
            raise UserError("a history belongs to one person: ask for one user at a time")
        items = self._item_numbers(history)
        numbers = [self.users.index(person) for person in people]
        hidden = np.concatenate([items, *(self._seen(number) for number in numbers)])
        lists = self.lists_after(Histories.of([items]), k, [hidden if filter_seen else items[:0]])
        return self._table([self.users.values[number] for number in numbers] or [None], lists)

    def _width(self, wanted: int) -> int:
        """Beams for that many items: a multiple of `beam`, so that few widths occur; never more than items."""
        return min(-(-wanted // self.config.beam) * self.config.beam, len(self.items))

    # --- scores

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] exact scores of all items after histories, empty ones too. A pass over the whole trie for each."""
        return self._exact(self._trie, histories)

    def score(self, users: Id | Sequence[Id], items: Id | Sequence[Id]) -> Scores:
        """[n] scores of pairs users[k], items[k]; a single id stands for all rows.

        Cost: one pass per distinct user over the codes of the distinct items (of all items under `legal`).

        Raises:
            UserError: unknown id, or two lists of different lengths.
        """
        left = self._user_numbers([users] if isinstance(users, str | int) else users)
        right = self._item_numbers([items] if isinstance(items, str | int) else items)
        if len(left) != len(right) and 1 not in (len(left), len(right)):
            raise UserError(f"{len(left)} users for {len(right)} items: give as many, or one of either")
        left, right = np.broadcast_arrays(left, right)
        people, row = np.unique(left, return_inverse=True)
        asked, column = np.unique(right, return_inverse=True)
        if not len(left):
            return np.empty(0, np.float32)
        if self.config.decoding == "legal":  # depends on which items exist
            return self.scores(people)[row, right]
        some = CodeTrie.from_codes(self.index.codes[asked], self.index.sizes)
        return self._exact(some, self.train.take(people))[row, column]

    def _exact(self, trie: CodeTrie, histories: Histories) -> Scores:
        recent = histories.last(self.config.window)
        if not len(recent):
            return np.empty((0, len(trie)), np.float32)
        prompts = [self._prompt(recent[row]) for row in range(len(recent))]
        return np.asarray(self._decoder(trie, 1).exact_scores(prompts).numpy())

    def _prompt(self, items: Ints) -> list[int]:
        return self.tokens.history(items.tolist())

    @abstractmethod
    def _decoder(self, trie: CodeTrie, beam: int) -> BeamDecoder:
        """The model as it decodes items of this trie."""
