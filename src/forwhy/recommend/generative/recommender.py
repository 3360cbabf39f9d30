"""Lists of items that exist, by beams over their codes, and exact scores: the same for every model that writes codes.

Shapes: B people, I items, K items of a list.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from forwhy.data.ids import Ids
from forwhy.data.sequences import Histories, Sequences
from forwhy.errors import UserError
from forwhy.recommend.base import Id, Ints, Listed, Scores
from forwhy.recommend.decoding import BeamDecoder, CodeTrie
from forwhy.recommend.generative.config import GenerativeConfig
from forwhy.recommend.generative.repeats import likeliest_gain, with_gain
from forwhy.recommend.generative.tokens import IndexTokens, check_index
from forwhy.recommend.sequential.base import SequentialRecommender
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["GenerativeRecommender"]


class GenerativeRecommender(SequentialRecommender):
    """Lists the items whose codes a model finds most probable after a history, by constrained beam search.

    A history is in time order, its repeats count, and only its last `window` items are read. Hot users' is what they
    took in training; others bring theirs. An empty history is read as one: the list is what people take first.
    A score is the log-probability of an item's codes, and `repeat_gain` more where the history holds the item. Beams
    are `beam` wide, or the next multiple of it that holds `k` items and those that `filter_seen` leaves out; with as
    many beams as items the list is exact.
    Lists of different `k` within one width of beams are heads of each other.
    Cost per person: one pass over the history and one over the beams per level.
    """

    config: GenerativeConfig

    def __init__(
        self,
        users: Ids,
        items: Ids,
        titles: Sequence[str],
        train: Histories,
        index: ItemIndex,
        tokens: IndexTokens,
        repeat_gain: float = 0.0,
    ) -> None:
        """See the subclasses; `repeat_gain` is what `learn_repeats` found.

        Raises:
            UserError: the index is of other items, or the model has other tokens.
        """
        super().__init__(users, items, titles, train)
        check_index(index, items, tokens)
        self.index, self.tokens, self.repeat_gain = index, tokens, repeat_gain
        self._trie = CodeTrie.from_codes(index.codes, index.sizes)

    # --- lists

    def lists_after(
        self, histories: Histories, k: int = 10, hidden: Sequence[Ints] | None = None
    ) -> list[Listed]:
        """The `k` best items after each history, best first, and their scores; fewer where the catalogue ends.

        Args:
            histories: Internal items, oldest first; may be empty.
            k: Items of each list.
            hidden: Items that each list leaves out.
        """
        recent = histories.last(self.config.window)
        left_out = [np.unique(items) for items in hidden] if hidden else [recent.items[:0]] * len(recent)
        widths = np.array([self._width(k + len(items)) for items in left_out], dtype=np.int64)
        lists: list[Listed] = [(recent.items[:0], np.empty(0, np.float32))] * len(recent)
        for width in np.unique(widths).tolist():
            rows = np.flatnonzero(widths == width)
            decoder = self._decoder(self._trie, width)
            found = decoder.search([self._prompt(recent[int(row)]) for row in rows])
            for row, items, scores in zip(
                rows.tolist(), found.items.numpy(), found.scores.numpy(), strict=True
            ):
                items, scores = with_gain((items, scores), recent[row], self.repeat_gain)
                kept = ~np.isin(items, left_out[row])
                lists[row] = (items[kept][:k], scores[kept][:k])
        return lists

    def items_after(self, histories: Histories, k: int = 10) -> Ints:
        """[B, k] the items of those lists; -1 where the catalogue ends. What `evaluate.sequential.rank_lists` reads."""
        items_BK = np.full((len(histories), k), -1, dtype=np.int64)
        for row, (items, _) in enumerate(self.lists_after(histories, k)):
            items_BK[row, : len(items)] = items
        return items_BK

    def learn_repeats(self, sequences: Sequences, users: int, seed: int) -> None:
        """Set `repeat_gain` by the lists of validation users, as many as drawn by `seed` (0: all); 0 without any."""
        chosen = sequences.drawn("valid", users, seed)
        histories = sequences.histories("valid").take(chosen).last(self.config.window)
        self.repeat_gain = 0.0
        lists = self.lists_after(histories, self._width(1))
        self.repeat_gain = likeliest_gain(lists, histories, sequences.valid[chosen])

    def _lists_of(self, users: Ints, k: int, hidden: Sequence[Ints]) -> list[Listed]:
        return self.lists_after(self.train.take(users), k, hidden)

    def _list_after(self, items: Ints, k: int, hidden: Ints) -> Listed:
        return self.lists_after(Histories.of([items]), k, [hidden])[0]

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
        return self._exact(some, self.train.take(people), asked)[row, column]

    def _exact(self, trie: CodeTrie, histories: Histories, items: Ints | None = None) -> Scores:
        """`items`: those of the trie, where they are not all."""
        recent = histories.last(self.config.window)
        if not len(recent):
            return np.empty((0, len(trie)), np.float32)
        prompts = [self._prompt(recent[row]) for row in range(len(recent))]
        scores_BN = np.asarray(self._decoder(trie, 1).exact_scores(prompts).numpy())
        again_BI = np.zeros((len(recent), len(self.items)), dtype=bool)
        again_BI[recent.rows, recent.items] = True
        again_BN = again_BI if items is None else again_BI[:, items]
        return scores_BN + np.float32(self.repeat_gain) * again_BN

    def _prompt(self, items: Ints) -> list[int]:
        return self.tokens.history(items.tolist())

    @abstractmethod
    def _decoder(self, trie: CodeTrie, beam: int) -> BeamDecoder:
        """The model as it decodes items of this trie."""
