"""The recommender's contract, and the part of it that does not depend on the method.

Shapes: B people, I items.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.data.dataset import Ids
from forwhy.errors import UserError

Id = str | int
Ints = NDArray[np.int64]
Scores = NDArray[np.float32]
Listed = tuple[Ints, Scores]
"""Items and their scores, best first."""
Warmth = Literal["hot", "warm", "cold"]

BLOCK_SCORES = 1 << 22
"""Scores held at once (4 bytes each): 16 MiB, whatever the catalogue."""


@dataclass(frozen=True)
class Reach:
    """Whom and what a recommender serves: *hot* was in training, *warm* brings a history, *cold* nothing."""

    users: frozenset[Warmth]
    items: frozenset[Warmth]


class Recommender(Protocol):
    """Scores items for people and lists the best."""

    @property
    def reach(self) -> Reach:
        """Whom and what it can serve."""

    def recommend(
        self,
        users: Id | Sequence[Id] | None = None,
        *,
        history: Sequence[Id] | None = None,
        k: int = 10,
        filter_seen: bool = True,
    ) -> pl.DataFrame:
        """The `k` best items of each person: user_id, item_id, score, rank (and title when known)."""

    def score(self, users: Id | Sequence[Id], items: Id | Sequence[Id]) -> Scores:
        """[n] scores of pairs users[k], items[k]; a single id stands for all rows."""

    def scores(self, users: Ints) -> Scores:
        """[B, I] scores of all items for internal users, in new memory: what full ranking asks for."""


class CatalogueRecommender(ABC):
    """A recommender that scores the whole catalogue: ids, masks, top lists and tables live here."""

    reach: ClassVar[Reach]

    def __init__(self, users: Ids, items: Ids, titles: Sequence[str], seen: Ints) -> None:
        """`seen` [E, 2]: internal training pairs, left out of lists under `filter_seen`."""
        self.users, self.items, self.titles = users, items, list(titles)
        self._seen_keys = np.unique(seen[:, 0] * np.int64(len(items)) + seen[:, 1])

    @abstractmethod
    def scores(self, users: Ints) -> Scores:
        """[B, I] scores of all items for internal users, in new memory."""

    @abstractmethod
    def history_scores(self, items: Ints) -> Scores:
        """[I] scores of all items for a person who took these internal items."""

    def check_user(self, user: Id, number: int) -> None:  # noqa: B027 (serving everyone is a choice)
        """Raise UserError when this known user can't be served; every user can by default."""

    def recommend(
        self,
        users: Id | Sequence[Id] | None = None,
        *,
        history: Sequence[Id] | None = None,
        k: int = 10,
        filter_seen: bool = True,
    ) -> pl.DataFrame:
        """The `k` best items of each person: user_id, item_id, score, rank (and title when known).

        `users`: an id or a list of ids. `history`: item ids of one person, used instead of what training
        knows of them; without a user the rows' user_id is null. `filter_seen` leaves out training items and
        the history. Best first; equal scores in catalogue order; fewer rows when the catalogue ends.
        Cost: one pass over the catalogue per person.

        Raises:
            UserError: unknown id, a user this recommender can't serve, nobody named, k below 1.
        """
        if k < 1:
            raise UserError(f"k is {k}: ask for at least one item")
        if history is not None:
            return self._recommend_by_history(users, history, k, filter_seen)
        if users is None:
            raise UserError("nobody to recommend to: name a user, or give a history (a list of item ids)")
        numbers = self._user_numbers(_listed(users))
        hidden = [self._seen(int(number)) if filter_seen else numbers[:0] for number in numbers]
        lists = self._lists_of(numbers, k, hidden)
        return self._table([self.users.values[number] for number in numbers], lists)

    def score(self, users: Id | Sequence[Id], items: Id | Sequence[Id]) -> Scores:
        """[n] scores of pairs users[k], items[k]; a single id stands for all rows.

        Cost: one pass over the catalogue per distinct user.

        Raises:
            UserError: unknown id, or two lists of different lengths.
        """
        left, right = self._user_numbers(_listed(users)), self._item_numbers(_listed(items))
        if len(left) != len(right) and 1 not in (len(left), len(right)):
            raise UserError(f"{len(left)} users for {len(right)} items: give as many, or one of either")
        left, right = np.broadcast_arrays(left, right)
        distinct, position = np.unique(left, return_inverse=True)
        found = np.empty(len(left), dtype=np.float32)
        size = max(1, BLOCK_SCORES // len(self.items))
        for start in range(0, len(distinct), size):
            inside = (position >= start) & (position < start + size)
            rows = self.scores(distinct[start : start + size])
            found[inside] = rows[position[inside] - start, right[inside]]
        return found

    def _recommend_by_history(
        self, users: Id | Sequence[Id] | None, history: Sequence[Id], k: int, filter_seen: bool
    ) -> pl.DataFrame:
        people = [] if users is None else _listed(users)
        if len(people) > 1:
            raise UserError("a history belongs to one person: ask for one user at a time")
        items = self._item_numbers(_listed(history))
        numbers = [self.users.index(person) for person in people]
        hidden = np.concatenate([items, *(self._seen(number) for number in numbers)])
        found = self._list_after(items, k, hidden if filter_seen else items[:0])
        return self._table([self.users.values[number] for number in numbers] or [None], [found])

    def _lists_of(self, users: Ints, k: int, hidden: Sequence[Ints]) -> list[Listed]:
        """The `k` best of each internal user, best first, without what their list hides."""
        size = max(1, BLOCK_SCORES // len(self.items))
        found: list[Listed] = []
        for start in range(0, len(users), size):
            block = slice(start, start + size)
            found += [
                _top(row, k, items)
                for row, items in zip(self.scores(users[block]), hidden[block], strict=True)
            ]
        return found

    def _list_after(self, items: Ints, k: int, hidden: Ints) -> Listed:
        """The same after a history."""
        if not len(items):
            raise UserError("the history is empty: give at least one item id")
        return _top(self.history_scores(items), k, hidden)

    def _user_numbers(self, users: Sequence[Id]) -> Ints:
        numbers = [self.users.index(user) for user in users]
        for user, number in zip(users, numbers, strict=True):
            self.check_user(user, number)
        return np.array(numbers, dtype=np.int64)

    def _item_numbers(self, items: Sequence[Id]) -> Ints:
        return np.array([self.items.index(item) for item in items], dtype=np.int64)

    def _seen(self, user: int) -> Ints:
        """Internal items of a user's training pairs."""
        start, stop = np.searchsorted(self._seen_keys, [user * len(self.items), (user + 1) * len(self.items)])
        return np.asarray(self._seen_keys[start:stop] % len(self.items))

    def _table(self, people: Sequence[Id | None], tops: Sequence[Listed]) -> pl.DataFrame:
        lengths = [len(chosen) for chosen, _ in tops]
        items = [int(item) for chosen, _ in tops for item in chosen]
        owners = [person for person, length in zip(people, lengths, strict=True) for _ in range(length)]
        scores = [float(score) for _, found in tops for score in found]
        ranks = [rank for length in lengths for rank in range(1, length + 1)]
        columns = {
            "user_id": pl.Series(owners, dtype=_column_type(self.users)),
            "item_id": pl.Series([self.items.values[item] for item in items], dtype=_column_type(self.items)),
            "score": pl.Series(scores, dtype=pl.Float32),
            "rank": pl.Series(ranks, dtype=pl.Int64),
        }
        if any(self.titles):
            columns["title"] = pl.Series([self.titles[item] for item in items], dtype=pl.String)
        return pl.DataFrame(columns)


def _top(scores: Scores, k: int, hidden: Ints) -> Listed:
    """The k best items and their scores; equal scores in catalogue order."""
    open_i = np.ones(len(scores), dtype=bool)
    open_i[hidden] = False
    allowed = np.flatnonzero(open_i)
    values = scores[allowed]
    if k < len(values):
        # All that reach the k-th score, so that a tie across the edge is cut by order, not by chance.
        reaching = np.flatnonzero(values >= np.partition(values, len(values) - k)[len(values) - k])
        allowed, values = allowed[reaching], values[reaching]
    order = np.argsort(-values, kind="stable")[:k]
    return allowed[order], values[order]


def _listed(ids: Id | Sequence[Id]) -> list[Id]:
    return [ids] if isinstance(ids, str | int) else list(ids)


def _column_type(ids: Ids) -> type[pl.DataType]:
    return pl.Int64 if ids.values and not isinstance(ids.values[0], str) else pl.String
