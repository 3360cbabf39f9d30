"""The contract of a recommender, with all that no method changes (ids, masks, lists, tables), and the two simplest.

Shapes: B people, I items, M items asked about, K places of a list.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import Graph
from forwhy.data.because import Because, leave_one_out
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Capabilities, Catalogue, Histories, Sequences
from forwhy.errors import UserError
from forwhy.frames import Id, Shown, Table, ids_of
from forwhy.recommend.repeats import LEARNED_FROM, likeliest_gain, taken_again
from forwhy.recommend.rules import Listed, Rules
from forwhy.vocabulary.newcomers import Newcomer

Ints = NDArray[np.int64]
Scores = NDArray[np.float32]
Given = Any
"""One id, or several in a list, array, series or frame; of items also as `Rules.of` takes them."""
Swap = Mapping[str, str] | None
Hidden = Sequence[Ints] | None
"""For each person, internal items that the list leaves out."""

BLOCK_SCORES = 1 << 22
"""Scores held at once (4 bytes each): 16 MiB, whatever the catalogue."""


class Recommender(Shown, ABC):
    """Scores the items of a catalogue for people and lists the best; a method says how it scores after a history."""

    capabilities: ClassVar[Capabilities] = Capabilities(hot=True, warm=True)
    writes_lists: ClassVar[bool] = False
    """Whether its lists are much cheaper than scores of the whole catalogue, so that lists are what is evaluated."""
    counted: ClassVar[bool] = False
    """Whether scores are numbers from 0 on, proportional to probabilities; else to their logarithms."""
    repeat_gain: float = 0.0
    """What an item of the window gains in log-probability, learned after training: see `repeats`."""
    newcomer: Newcomer | None = None
    """Who is met, see `meeting`; None: nobody."""
    rules: Rules | None = None
    """What a shop wants of the lists, see `under`; scores know nothing of it."""
    window: int | None = None
    """Items of a history that are read in order, the latest ones; None: order says nothing to it."""
    also_taken: Histories | None = None
    """What each user took by the data set, in any split: `filter_seen` hides it too; a run fills it, not evaluation."""

    def __init__(self, catalogue: Catalogue) -> None:
        """`catalogue`: whom and what it knows; what was taken is left out of lists under `filter_seen`."""
        self.catalogue = catalogue

    def _shown(self) -> Mapping[str, int | str]:
        return self.catalogue._shown()

    def _read_and_loaded(self) -> str:
        """How a card's first sentence ends, and how the folder is loaded."""
        loader = f"{type(self).__module__}.{type(self).__name__}.from_pretrained(folder)"
        return f"the last {self.window} of a history. Load with `{loader}`."

    # --- what a method adds

    @abstractmethod
    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] scores of every item after histories of internal items, oldest first; in new memory."""

    def scores(self, users: Ints) -> Scores:
        """[B, I] scores of every item for internal users, in new memory: what full ranking asks for."""
        return self.scores_after(self.catalogue.histories.take(users))

    def lists_after(self, histories: Histories, k: int = 10, hidden: Hidden = None) -> list[Listed]:
        """The `k` best items after each history, best first, equal ones as in the catalogue; fewer where it ends."""
        return self._best(len(histories), lambda rows: self.scores_after(histories.take(rows)), k, hidden)

    def lists(self, users: Ints, k: int = 10, hidden: Hidden = None) -> list[Listed]:
        """The `k` best items of each internal user, best first, without those that `hidden` names for them."""
        return self._best(len(users), lambda rows: self.scores(users[rows]), k, hidden)

    def items_after(self, histories: Histories, k: int = 10, hidden: Hidden = None) -> Ints:
        """[B, k] the items of `lists_after`, -1 where a list has ended: what `evaluate.ranking.rank_lists` reads."""
        items_BK = np.full((len(histories), k), -1, dtype=np.int64)
        for row, (items, _) in enumerate(self.lists_after(histories, k, hidden)):
            items_BK[row, : len(items)] = items
        return items_BK

    def _has_history(self) -> NDArray[np.bool_]:
        return self.catalogue.has_history["user"]

    def _scores_of(self, users: Ints, items: Ints) -> Scores:
        return self.scores(users)[:, items]

    def _scores_of_after(self, histories: Histories, items: Ints) -> Scores:
        return self.scores_after(histories)[:, items]

    def _because(self, user: int | None, item: int, history: Ints) -> Because:
        """What carries an internal item's score: here what it loses without each item read. No user: a newcomer's."""

        def score(histories: Histories) -> Scores:
            return self._scores_of_after(histories, np.array([item]))[:, 0]

        if self.capabilities.warm:
            return leave_one_out(self.catalogue, history, self.window, score)
        return Because("untold", float(self._scores_of(np.array([user]), np.array([item]))[0, 0]), [])

    def _rewritten(self, people: Sequence[int | Ints], without: Sequence[str], swap: Swap) -> Self:
        """This recommender, under the same rules, with words of these users, or histories, taken out or exchanged."""
        raise UserError(
            "this recommender has no words of people to change; ask a run of because, which has some"
        )

    def _newcomer(self, about: str, history: Ints) -> Newcomer:
        raise _reads_no("people: give a history of items")

    # --- taking again

    def probabilities(self, scores_BI: Scores) -> NDArray[np.float64]:
        """[B, I] of scores: proportional to counts, softmax of logarithms; equal ones where nothing is known."""
        wide_BI = scores_BI.astype(np.float64)
        if not self.counted:
            wide_BI = np.exp(wide_BI - wide_BI.max(1, keepdims=True))
        wide_BI[wide_BI.sum(1) <= 0] = 1.0
        return np.asarray(wide_BI / wide_BI.sum(1, keepdims=True))

    def learn_repeats(self, sequences: Sequences, seed: int = 0) -> Self:
        """Set `repeat_gain` by validation items, `LEARNED_FROM` of them at most; 0 without any."""
        self.repeat_gain = 0.0
        histories, targets = sequences.validation(LEARNED_FROM, seed, self.window)
        self.repeat_gain = likeliest_gain(self._mass_taken(histories), taken_again(histories, targets))
        return self

    def without_gain(self) -> Self:
        """As it is asked when taking again gains nothing."""
        bare = copy(self)
        bare.repeat_gain = 0.0
        return bare

    def _mass_taken(self, histories: Histories) -> NDArray[np.float64]:
        """[B] the probability of each history's items together, before any gain."""
        mass_B = np.zeros(len(histories))
        for start, rows in _blocks(np.arange(len(histories)), len(self.catalogue.items)):
            some = histories.take(rows)
            cells = np.unique(np.stack([some.rows, some.items]), axis=1)
            shares = self.probabilities(self.scores_after(some))[*cells]
            mass_B[start : start + len(rows)] = np.bincount(cells[0], shares, len(rows))
        return mass_B

    def _gained(self, scores_BI: Scores, histories: Histories) -> Scores:
        """The scores with `repeat_gain`, changed in place."""
        recent = histories if self.window is None else histories.last(self.window)
        cells, gain = (recent.rows, recent.items), np.float32(self.repeat_gain)
        scores_BI[cells] = scores_BI[cells] * np.exp(gain) if self.counted else scores_BI[cells] + gain
        return scores_BI

    # --- what people ask

    def recommend(
        self,
        users: Given = None,
        *,
        history: Given = None,
        about: str | None = None,
        k: int = 10,
        filter_seen: bool = True,
        exclude: Given = None,
        only: Given = None,
        boost: Given = None,
        without: Sequence[str] = (),
        swap: Swap = None,
    ) -> Table:
        """The `k` best items of each person: user_id, item_id, score, rank; title when known, boost when given.

        `users`: ids, also of a frame's `user_id`. `history`: item ids of one person, used instead of what training
        knows of them; an empty one gets what most people took; without a user the rows' user_id is null. `about`: a
        text about somebody new, alone or beside a history (`newcomer_of`). `filter_seen` leaves out training items, the
        history and, of a run, held-out items.
        `without`: words of these people that count as none; `swap`: words that count as another one of their book.
        `exclude`, `only`, `boost`: as of `Rules.of`, before a list is cut to `k`. Best first; equal scores in catalogue
        order. Cost: a pass over the catalogue per person.

        Raises:
            UserError: unknown id, a user this recommender can't serve, nobody named, k below 1, a word that they lack.
        """
        if k < 1:
            raise UserError(f"k is {k}: ask for at least one item")
        ruled = self.under(Rules.of(self.catalogue.items, exclude, only, boost))
        users = None if users is None else ids_of(users, "user_id")
        taken = None if history is None else ids_of(history, "item_id")
        if about is not None and users is not None:
            raise UserError("a text is about somebody new: leave out the user, or the text")
        if about is not None:
            met, taken = ruled.meeting(self.newcomer_of(about, taken or [])), taken or []
            return met.recommend(history=taken, k=k, filter_seen=filter_seen, without=without, swap=swap)
        asked = ruled.changed(users, history=taken, without=without, swap=swap)
        if taken is not None:
            return asked._recommend_after(taken, users or [], k, filter_seen)
        numbers = self._users(users)
        hidden = [self._taken_by(number) for number in numbers.tolist()] if filter_seen else None
        return asked._table(numbers.tolist(), asked.lists(numbers, k, hidden))

    def _recommend_after(self, history: list[Id], users: list[Id], k: int, filter_seen: bool) -> Table:
        if len(users) > 1:
            raise UserError("a history belongs to one person: ask for one user at a time")
        if not self.capabilities.warm:
            raise UserError(
                "this recommender knows the people of its training alone: name a user, without a history"
            )
        items = self._items(history)
        numbers = [self.catalogue.users.index(user) for user in users]
        hidden = np.concatenate([items, *map(self._taken_by, numbers)])
        lists = self._knowing(items).lists_after(Histories.of([items]), k, [hidden] if filter_seen else None)
        return self._table(numbers or [None], lists)

    def _knowing(self, history: Ints) -> "Recommender":
        """This recommender; of somebody without a history, whom nobody has met, what most people took."""
        if len(history) or self.newcomer is not None:
            return self
        return PopularityRecommender(self.catalogue).under(self.rules)

    def score(self, users: Id | Sequence[Id], items: Id | Sequence[Id]) -> Scores:
        """[n] scores of pairs users[k], items[k]; a single id stands for all rows.

        Cost: one pass over the catalogue per distinct user, or less where a method can score some items alone.

        Raises:
            UserError: unknown id, or two lists of different lengths.
        """
        left, right = self._users(users), self._items(items)
        if len(left) != len(right) and 1 not in (len(left), len(right)):
            raise UserError(f"{len(left)} users for {len(right)} items: give as many, or one of either")
        left, right = np.broadcast_arrays(left, right)
        people, row = np.unique(left, return_inverse=True)
        asked, column = np.unique(right, return_inverse=True)
        found = np.empty(len(left), dtype=np.float32)
        for start, block in _blocks(people, len(self.catalogue.items)):
            inside = (row >= start) & (row < start + len(block))
            found[inside] = self._scores_of(block, asked)[row[inside] - start, column[inside]]
        return found

    def because(self, user: Id | None, item: Id, *, history: Sequence[Id] | None = None) -> Because:
        """What carries the score of an item: shares of words, or of items of the history, as `kind` says.

        Raises:
            UserError: unknown id, a user this recommender can't serve, nobody named.
        """
        number = self.catalogue.items.index(item)
        if history is not None:
            items = self._items(history)
            return self._knowing(items)._because(None, number, items)
        (person,) = self._users(user).tolist()
        return self._because(person, number, self.catalogue.histories[person])

    def changed(
        self, users: Given = None, *, history: Given = None, without: Sequence[str] = (), swap: Swap = None
    ) -> Self:
        """This recommender, with these words of these people taken out or exchanged."""
        if not (without or swap):
            return self
        people = self._users(users).tolist() if history is None else [self._items(history)]
        return self._rewritten(people, without, swap)

    def under(self, rules: Rules | None) -> Self:
        """This recommender, whose lists keep to these rules too."""
        if rules is None:
            return self
        found = copy(self)
        found.rules = rules.also(self.rules)
        return found

    def served(self) -> list[Id]:
        """Users who can be named to it."""
        served = self._has_history() | self.capabilities.cold
        return [self.catalogue.users.values[user] for user in np.flatnonzero(served).tolist()]

    def newcomer_of(self, about: str, history: Sequence[Id] = ()) -> Newcomer:
        """Words of somebody new by a text about them and items that they took, and from whom each word came.

        Raises:
            UserError: a blank text, an unknown id, a recommender without text-first words.
        """
        return self._newcomer(about, self._items(history))

    def meeting(self, newcomer: Newcomer) -> Self:
        """This recommender, to whom any `history`, also an empty one, is that of this newcomer."""
        raise UserError("this recommender has no words of people; ask a run of because, which has some")

    def offering(self, text: str, named: str | None = None) -> tuple[Self, Newcomer]:
        """This recommender with an item more, the catalogue's last, which nobody took; and its words by its text.

        The first line of the text is its title; `named`: its id, else a new one. Raises as `newcomer_of`.
        """
        raise _reads_no("things: name an item")

    # --- how it is answered

    def _taken_by(self, user: int) -> Ints:
        known = [self.catalogue.histories, *([] if self.also_taken is None else [self.also_taken])]
        return np.concatenate([histories[user] for histories in known])

    def _users(self, users: Given) -> Ints:
        if users is None:
            raise UserError("nobody to recommend to: name a user, or give a history (a list of item ids)")
        users = ids_of(users, "user_id")
        numbers, known = [self.catalogue.users.index(user) for user in users], self._has_history()
        for user, number in zip(users, numbers, strict=True):
            if not (self.capabilities.cold or known[number]):
                raise UserError(
                    f"user {user!r} has no training interactions to know them by; "
                    "give a history (a list of item ids they took) instead"
                )
        return np.array(numbers, dtype=np.int64)

    def _items(self, items: Given) -> Ints:
        return np.array([self.catalogue.items.index(it) for it in ids_of(items, "item_id")], dtype=np.int64)

    def _best(self, people: int, score: Callable[[Ints], Scores], k: int, hidden: Hidden) -> list[Listed]:
        none = np.empty(0, dtype=np.int64)
        return [
            _top(scores, k, none if hidden is None else hidden[row], self.rules)
            for _, rows in _blocks(np.arange(people), len(self.catalogue.items))
            for row, scores in zip(rows, score(rows), strict=True)
        ]

    def _table(self, people: Sequence[int | None], lists: Sequence[Listed]) -> Table:
        users, items, titles = self.catalogue.users, self.catalogue.items, self.catalogue.titles
        rows = [
            (None if person is None else users.values[person], items.values[item], score, rank, titles[item])
            for person, (found, scores) in zip(people, lists, strict=True)
            for rank, (item, score) in enumerate(zip(found.tolist(), scores.tolist(), strict=True), start=1)
        ]
        user, item = (pl.Int64 if ids.whole else pl.String for ids in (users, items))
        schema = {"user_id": user, "item_id": item, "score": pl.Float32, "rank": pl.Int64, "title": pl.String}
        table = Table(rows, schema=schema, orient="row")
        table = table if any(titles) else Table(table.drop("title"))
        if self.rules is not None and self.rules.bonus_I.any():
            listed = np.concatenate([np.empty(0, np.int64), *(found for found, _ in lists)])
            table = Table(table.with_columns(boost=self.rules.bonus_I[listed]))
        return table


def _blocks(people: Ints, n_items: int) -> list[tuple[int, Ints]]:
    """People cut so that a block's scores fit into memory, with the place of each block's first."""
    size = max(1, BLOCK_SCORES // n_items)
    return [(start, people[start : start + size]) for start in range(0, len(people), size)]


def _top(scores: Scores, k: int, hidden: Ints, rules: Rules | None = None) -> Listed:
    """The k best items and their scores; equal scores in catalogue order."""
    open_I = np.ones(len(scores), dtype=bool) if rules is None else rules.open_I.copy()
    open_I[hidden] = False
    allowed = np.flatnonzero(open_I)
    values = (scores if rules is None else scores + rules.bonus_I)[allowed]
    if k < len(values):
        # All that reach the k-th score, so that a tie across the edge is cut by order, not by chance.
        reaching = np.flatnonzero(values >= np.partition(values, len(values) - k)[len(values) - k])
        allowed, values = allowed[reaching], values[reaching]
    order = np.argsort(-values, kind="stable")[:k]
    return allowed[order], values[order]


def _reads_no(remedy: str) -> UserError:
    return UserError(
        f"this recommender reads no text about {remedy}, or ask a run of because, or of beat with "
        "vocabulary.text_first = 3"
    )


class PopularityRecommender(Recommender):
    """The baseline that knows nobody: each item's score is the number of people who took it in training."""

    capabilities: ClassVar[Capabilities] = Capabilities(hot=True, warm=True, cold=True)
    counted: ClassVar[bool] = True

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
        """[B, I] equal rows, but for what taking again is worth."""
        return self._gained(np.repeat(self.counts[None], len(histories), axis=0), histories)

    def _because(self, user: int | None, item: int, history: Ints) -> Because:
        return Because("popularity", float(self.counts[item]), [])
