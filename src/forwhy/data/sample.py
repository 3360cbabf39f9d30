"""The little town: a generated data set whose right answers are known.

Every person and every place has hidden attributes: a quarter, two tastes, a moment. They alone (and chance)
decide who visits what, which phrases describe whom, and every word of an explanation. `town_truth` gives
them back, so a test can ask whether a model found them.

Legend: U users, I items, T tastes.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SPLITS, Side
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.town_words import (
    ADJECTIVES,
    FIRST_NAMES,
    LAST_NAMES,
    MOMENTS,
    NOUNS,
    QUARTERS,
    TASTES,
)
from forwhy.errors import UserError

__all__ = ["Hidden", "TownTruth", "little_town", "town_truth"]

Ints = NDArray[np.int64]

SAME_QUARTER, NEXT_QUARTER, SAME_MOMENT, SAME_TASTE = 2.0, 0.8, 1.0, 2.2
"""What a match adds to the wish to visit; chance adds a Gumbel draw of scale `CHANCE`."""
WEIGHTS = (1.0, 0.7)
"""Of a person's, and of a place's, first and second taste."""
CHANCE = 0.35
BLOCK = 1024
"""Users whose visits are drawn at once: bounds memory at BLOCK x I floats."""


@dataclass(frozen=True)
class Hidden:
    """The hidden attributes of one side, by internal number."""

    quarter: Ints
    """Position in `town_words.QUARTERS`, [n]."""
    tastes: Ints
    """Positions in `town_words.TASTES`, stronger first, [n, 2]."""
    moment: Ints
    """Position in `town_words.MOMENTS`, [n]."""

    def take(self, rows: Ints) -> "Hidden":
        """The attributes at these rows, in this order."""
        return Hidden(self.quarter[rows], self.tastes[rows], self.moment[rows])

    def weights(self) -> NDArray[np.float32]:
        """Taste strengths, [n, T]."""
        strength = np.zeros((len(self.quarter), len(TASTES)), dtype=np.float32)
        np.put_along_axis(strength, self.tastes, np.asarray(WEIGHTS, dtype=np.float32)[None, :], axis=1)
        return strength


@dataclass(frozen=True)
class TownTruth:
    """What only the town knows: hidden attributes by internal number, and what follows from them."""

    users: Hidden
    items: Hidden

    def affinity(self, users: Sequence[int] | Ints | None = None) -> NDArray[np.float32]:
        """The wish of each user (all by default) to visit each item, [U, I]: the best ranking there is."""
        rows = np.arange(len(self.users.quarter)) if users is None else np.asarray(users, dtype=np.int64)
        return _affinity(self.users.take(rows), self.items)

    def shared_taste(self, user: int, item: int) -> int | None:
        """The taste that brings this person to this place; None when they share none."""
        return _shared(self.users, self.items, user, item)

    def explanation(self, user: int, item: int) -> str:
        """The right explanation of a pair that shares a taste; KeyError for one that does not."""
        return _explanation(self.users, self.items, user, item)


def little_town(
    seed: int = 0,
    users: int = 600,
    items: int = 400,
    visits: int = 20,
    explanations: tuple[int, int, int] = (900, 60, 60),
) -> Dataset:
    """Generate the town: interactions, items, users, reviews, explanations and intents.

    Explanations of train, valid and test are about interactions of the same split, so nothing leaks. Sizes
    are upper bounds: a small town may have fewer pairs that share a taste. Same arguments, same bytes.
    Cost: O(users x items) time, a second at the default size.

    Args:
        seed: Of everything.
        users: People, at least 4.
        items: Places, at least 12.
        visits: Mean number of places that a person visits (at most a third of the town).
        explanations: Explained pairs in train, valid, test.
    """
    if users < 4 or items < 12 or visits < 4:
        raise UserError(
            f"little town of {users} users, {items} items, {visits} visits: needs at least 4, 12 and 4"
        )
    rng = np.random.default_rng(seed)
    people, places = _hidden(rng, users), _hidden(rng, items)
    visited = _visits(rng, people, places, min(visits, items // 3))
    chosen: dict[str, pl.DataFrame] = {}
    told: set[str] = set()
    for split, count in zip(SPLITS, explanations, strict=True):
        chosen[split] = _explained(rng, people, places, visited, split, count, told)
        told = told or set(_said(chosen[split], people, places, _explanation))
    user_ids, item_ids = _people_names(rng, users), _place_names(rng, places)
    tables = {
        "interactions": _pair_frame(visited.select("user", "item"), user_ids, item_ids, visited["split"]),
        "users": pl.DataFrame({"user_id": [_slug(name) for name in user_ids], "name": user_ids}),
        "items": _items(places, item_ids),
        "reviews": _texts(chosen, people, places, user_ids, item_ids, _review).drop("split"),
        "explanations": _texts(chosen, people, places, user_ids, item_ids, _explanation),
        "intents": pl.concat(
            [_intents(rng, people, user_ids, "user"), _intents(rng, places, item_ids, "item")]
        ),
    }
    source = {
        "importer": "little_town",
        "options": {
            "seed": seed,
            "users": users,
            "items": items,
            "visits": visits,
            "explanations": list(explanations),
        },
        "split": {"interactions": "80/10/10 by user, seeded", "explanations": "that of their interaction"},
    }
    return make_dataset("little-town", tables, source)


def town_truth(dataset: Dataset) -> TownTruth:
    """The hidden attributes behind a little town, in the internal numbers of `dataset`.

    Raises:
        UserError: `dataset` is not a little town.
    """
    if dataset.source.get("importer") != "little_town":
        raise UserError(f"data set {dataset.name!r}: not a little town, so nobody knows its truth")
    options: dict[str, Any] = dict(dataset.source["options"])
    rng = np.random.default_rng(options["seed"])
    people, places = _hidden(rng, options["users"]), _hidden(rng, options["items"])
    born_users = np.argsort(dataset.users.numbers(dataset.tables["users"]["user_id"]))
    born_items = np.argsort(dataset.items.numbers(dataset.tables["items"]["item_id"]))
    return TownTruth(people.take(born_users), places.take(born_items))


def _hidden(rng: np.random.Generator, n: int) -> Hidden:
    first = rng.integers(len(TASTES), size=n)
    second = (first + rng.integers(1, len(TASTES), size=n)) % len(TASTES)
    tastes = np.stack([first, second], axis=1)
    return Hidden(rng.integers(len(QUARTERS), size=n), tastes, rng.integers(len(MOMENTS), size=n))


def _affinity(users: Hidden, items: Hidden) -> NDArray[np.float32]:
    apart = (users.quarter[:, None] - items.quarter[None, :]) % len(QUARTERS)
    near = SAME_QUARTER * (apart == 0) + NEXT_QUARTER * ((apart == 1) | (apart == len(QUARTERS) - 1))
    moment = SAME_MOMENT * (users.moment[:, None] == items.moment[None, :])
    taste = SAME_TASTE * (users.weights() @ items.weights().T)
    return np.asarray(near + moment + taste, dtype=np.float32)


def _visits(rng: np.random.Generator, users: Hidden, items: Hidden, mean: int) -> pl.DataFrame:
    """Who visits what, with a split: each user's top places under affinity plus chance."""
    counts = rng.integers(max(3, mean // 2), mean + mean // 2 + 1, size=len(users.quarter))
    counts = np.minimum(counts, len(items.quarter) // 2)
    frames = []
    for start in range(0, len(counts), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(counts)))
        wish = _affinity(users.take(rows), items)
        wish += CHANCE * rng.gumbel(size=wish.shape).astype(np.float32)
        most = int(counts[rows].max())
        top = np.argpartition(-wish, most - 1, axis=1)[:, :most]
        best = np.take_along_axis(top, np.argsort(-np.take_along_axis(wish, top, 1), axis=1), 1)
        taken = np.arange(best.shape[1])[None, :] < counts[rows][:, None]
        user = np.repeat(rows, counts[rows])
        frames.append(
            pl.DataFrame({"user": user, "item": best[taken], "split": _user_splits(rng, counts[rows])})
        )
    return pl.concat(frames)


def _user_splits(rng: np.random.Generator, counts: Ints) -> list[str]:
    """Of each user's visits a tenth, at least one, is test, as many are valid, the rest train."""
    names: list[str] = []
    for count in counts:
        held = max(1, round(count / 10))
        given = [SPLITS[2]] * held + [SPLITS[1]] * held + [SPLITS[0]] * (count - 2 * held)
        names.extend(given[place] for place in rng.permutation(count))
    return names


def _explained(
    rng: np.random.Generator,
    users: Hidden,
    items: Hidden,
    visits: pl.DataFrame,
    split: str,
    count: int,
    told: Set[str],
) -> pl.DataFrame:
    """Visits of a split that a shared taste explains in words not yet `told`, at most `count`, in random order.

    A held-out text that training holds too would measure memory.
    """
    pairs = visits.filter(pl.col("split") == split)
    user, item = pairs["user"].to_numpy(), pairs["item"].to_numpy()
    shared = (users.tastes[user][:, :, None] == items.tastes[item][:, None, :]).any(axis=(1, 2))
    pairs = pairs[rng.permutation(np.flatnonzero(shared))]
    fresh = [text not in told for text in _said(pairs, users, items, _explanation)]
    return pairs.filter(pl.Series(fresh, dtype=pl.Boolean)).head(count)


def _shared(users: Hidden, items: Hidden, user: int, item: int) -> int | None:
    """The user's strongest taste that the place has."""
    there = set(items.tastes[item].tolist())
    return next((taste for taste in users.tastes[user].tolist() if taste in there), None)


def _explanation(users: Hidden, items: Hidden, user: int, item: int) -> str:
    taste = _shared(users, items, user, item)
    if taste is None:
        raise KeyError(f"user {user} and item {item} share no taste")
    opening = MOMENTS[users.moment[user]].openings[taste % 2].format(want=TASTES[taste].want)
    home = "near you " if users.quarter[user] == items.quarter[item] else ""
    where = QUARTERS[items.quarter[item]].where
    offer = TASTES[taste].offers[items.moment[item]]
    return f"{opening}, and this {_kind(items, item)} {home}{where} {offer}."


def _review(users: Hidden, items: Hidden, user: int, item: int) -> str:
    taste = _shared(users, items, user, item)
    want = TASTES[items.tastes[item, 0] if taste is None else taste].want
    where = QUARTERS[items.quarter[item]].where
    praise = MOMENTS[items.moment[item]].item[(user + item) % 3]
    praise = praise[0].upper() + praise[1:]
    return f"I came to this {_kind(items, item)} {where} for {want}. {praise}, I will be back."


def _kind(items: Hidden, item: int) -> str:
    """What kind of place it is: one of three that live from its first taste."""
    kinds = TASTES[items.tastes[item, 0]].kinds
    return kinds[int(items.quarter[item] + items.moment[item]) % len(kinds)]


def _texts(
    chosen: dict[Any, pl.DataFrame],
    users: Hidden,
    items: Hidden,
    user_ids: list[str],
    item_ids: list[str],
    say: Callable[[Hidden, Hidden, int, int], str],
) -> pl.DataFrame:
    pairs = pl.concat(list(chosen.values()))
    texts = pl.Series("text", _said(pairs, users, items, say), dtype=pl.String)
    return _pair_frame(pairs, user_ids, item_ids, pairs["split"]).with_columns(texts)


def _said(
    pairs: pl.DataFrame, users: Hidden, items: Hidden, say: Callable[[Hidden, Hidden, int, int], str]
) -> list[str]:
    return [say(users, items, user, item) for user, item in pairs.select("user", "item").iter_rows()]


def _pair_frame(
    pairs: pl.DataFrame, user_ids: list[str], item_ids: list[str], split: pl.Series
) -> pl.DataFrame:
    users = [_slug(user_ids[user]) for user in pairs["user"]]
    items = [_slug(item_ids[item]) for item in pairs["item"]]
    text = {"user_id": pl.String, "item_id": pl.String}
    return pl.DataFrame({"user_id": users, "item_id": items, "split": split}, schema_overrides=text)


def _items(places: Hidden, names: list[str]) -> pl.DataFrame:
    quarters = [QUARTERS[quarter].name for quarter in places.quarter]
    kinds = [_kind(places, item) for item in range(len(names))]
    return pl.DataFrame(
        {
            "item_id": [_slug(name) for name in names],
            "title": names,
            "categories": [
                f"{kind}, {quarter} quarter" for kind, quarter in zip(kinds, quarters, strict=True)
            ],
        }
    )


def _intents(rng: np.random.Generator, hidden: Hidden, names: list[str], side: Side) -> pl.DataFrame:
    """Six phrases each, strongest first: two of the first taste, quarter, two of the second, moment."""
    rows = []
    for number, name in enumerate(names):
        first, second = (getattr(TASTES[taste], side) for taste in hidden.tastes[number])
        quarter = getattr(QUARTERS[hidden.quarter[number]], side)
        moment = getattr(MOMENTS[hidden.moment[number]], side)
        phrases = [
            *_pick(rng, first, 2),
            *_pick(rng, quarter, 1),
            *_pick(rng, second, 2),
            *_pick(rng, moment, 1),
        ]
        rows += [(side, _slug(name), rank, phrase) for rank, phrase in enumerate(phrases, start=1)]
    return pl.DataFrame(rows, schema=["side", "entity_id", "rank", "phrase"], orient="row")


def _pick(rng: np.random.Generator, phrases: Sequence[str], count: int) -> list[str]:
    return [phrases[place] for place in rng.permutation(len(phrases))[:count]]


def _people_names(rng: np.random.Generator, n: int) -> list[str]:
    return _unique(rng, [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES], n)


def _place_names(rng: np.random.Generator, places: Hidden) -> list[str]:
    stems = _unique(
        rng, [f"The {adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS], len(places.quarter)
    )
    return [f"{stem} {_titled(_kind(places, item))}" for item, stem in enumerate(stems)]


def _titled(kind: str) -> str:
    return " ".join(word[0].upper() + word[1:] for word in kind.split())


def _unique(rng: np.random.Generator, pool: list[str], n: int) -> list[str]:
    """Different names in random order; a number is added once the pool is used up."""
    order = rng.permutation(len(pool))
    return [
        pool[order[k % len(pool)]] + (f" {k // len(pool) + 1}" if k >= len(pool) else "") for k in range(n)
    ]


def _slug(name: str) -> str:
    return name.removeprefix("The ").lower().replace("é", "e").replace(" ", "-")
