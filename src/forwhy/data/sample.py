"""The little town: a generated data set whose right answers are known.

Every person and every place has hidden attributes: a quarter, two tastes, a moment. They alone (and chance)
decide who visits what, which phrases describe whom, and every word of an explanation. `town_truth` gives
them back, so a test can ask whether a model found them. The town's language is in `town.toml`.

Legend: U users, I items, T tastes.
"""

import tomllib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from string import capwords
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SIDES, SPLITS, Side
from forwhy.data.dataset import Dataset, Ints, make_dataset
from forwhy.errors import UserError

Hidden = NDArray[np.void]
"""The hidden attributes of one side, by internal number: positions in `QUARTERS` (`quarter`, [n]), in `MOMENTS`
(`moment`, [n]) and in `TASTES` (`tastes`, stronger first, [n, 2])."""

TOWN: dict[str, Any] = tomllib.loads(Path(__file__).with_name("town.toml").read_text(encoding="utf-8"))
QUARTERS, TASTES, MOMENTS = TOWN["quarters"], TOWN["tastes"], TOWN["moments"]

SAME_QUARTER, NEXT_QUARTER, SAME_MOMENT, SAME_TASTE = 2.0, 0.8, 1.0, 2.2
"""What a match adds to the wish to visit; chance adds a Gumbel draw of scale `CHANCE`."""
WEIGHTS = (1.0, 0.7)
"""Of a person's, and of a place's, first and second taste."""
CHANCE = 0.35
BLOCK = 1024
"""Users whose visits are drawn at once: bounds memory at BLOCK x I floats."""


@dataclass(frozen=True)
class TownTruth:
    """What only the town knows: hidden attributes by internal number, and what follows from them."""

    users: Hidden
    items: Hidden

    def affinity(self, users: Sequence[int] | Ints | slice = slice(None)) -> NDArray[np.float32]:
        """The wish of each user (all by default) to visit each item, [U, I]: the best ranking there is."""
        who = self.users[users]
        apart = (who["quarter"][:, None] - self.items["quarter"]) % len(QUARTERS)
        near = SAME_QUARTER * (apart == 0) + NEXT_QUARTER * ((apart == 1) | (apart == len(QUARTERS) - 1))
        moment = SAME_MOMENT * (who["moment"][:, None] == self.items["moment"])
        taste = SAME_TASTE * (_strengths(who) @ _strengths(self.items).T)
        return np.asarray(near + moment + taste, dtype=np.float32)

    def shared_taste(self, user: int, item: int) -> int | None:
        """The taste that brings this person to this place: their strongest that it has; None without one."""
        there = set(self.items["tastes"][item].tolist())
        return next((taste for taste in self.users["tastes"][user].tolist() if taste in there), None)

    def explanation(self, user: int, item: int) -> str:
        """The right explanation of a pair that shares a taste; KeyError for one that does not."""
        taste = self.shared_taste(user, item)
        if taste is None:
            raise KeyError(f"user {user} and item {item} share no taste")
        opening = MOMENTS[self.users["moment"][user]]["openings"][taste % 2]
        opening = opening.format(want=TASTES[taste]["want"])
        quarter = self.items["quarter"][item]
        home = "near you " if self.users["quarter"][user] == quarter else ""
        offer = TASTES[taste]["offers"][self.items["moment"][item]]
        if taste != self.items["tastes"][item, 0]:
            offer = f"has {TASTES[taste]['room']} that {offer}"
        return f"{opening}, and this {self.kind(item)} {home}{QUARTERS[quarter]['where']} {offer}."

    def review(self, user: int, item: int) -> str:
        """What this person writes after a visit."""
        taste = self.shared_taste(user, item)
        want = TASTES[self.items["tastes"][item, 0] if taste is None else taste]["want"]
        where = QUARTERS[self.items["quarter"][item]]["where"]
        praise = MOMENTS[self.items["moment"][item]]["item"][(user + item) % 3]
        praise = praise[0].upper() + praise[1:]
        return f"I came to this {self.kind(item)} {where} for {want}. {praise}, I will be back."

    def kind(self, item: int) -> str:
        """What kind of place it is: one of three that live from its first taste."""
        kinds: list[str] = TASTES[self.items["tastes"][item, 0]]["kinds"]
        return kinds[int(self.items["quarter"][item] + self.items["moment"][item]) % len(kinds)]


def little_town(
    seed: int = 0,
    users: int = 600,
    items: int = 400,
    visits: int = 20,
    explanations: tuple[int, int, int] = (900, 60, 60),
) -> Dataset:
    """Generate the town: interactions, items, users, reviews, explanations and intents.

    At least 4 `users` and 12 `items`; `visits` is the mean of a user's, at most a third of the town. `explanations` in
    train, valid and test are about interactions of the same split, so nothing leaks; a small town may have fewer. Same
    arguments, same bytes. O(users x items), a second at the default size.
    """
    if users < 4 or items < 12 or visits < 4:
        town = f"little town of {users} users, {items} items, {visits} visits"
        raise UserError(f"{town}: needs at least 4, 12 and 4")
    rng = np.random.default_rng(seed)
    truth = TownTruth(_hidden(rng, users), _hidden(rng, items))
    visited = _visits(rng, truth, min(visits, items // 3))
    told: set[str] = set()
    parts = []
    for split, count in zip(SPLITS, explanations, strict=True):
        parts.append(_explained(rng, truth, visited.filter(split=split), count, told))
        told = told or set(parts[-1]["text"])
    explained = pl.concat(parts)
    written = [truth.review(user, item) for user, item in explained.select("user", "item").iter_rows()]
    people = [f"{first} {last}" for first in TOWN["first_names"] for last in TOWN["last_names"]]
    places = [f"The {adjective} {noun}" for adjective in TOWN["adjectives"] for noun in TOWN["nouns"]]
    kinds = [truth.kind(item) for item in range(items)]
    names = {"user": _names(rng, people, users), "item": _names(rng, places, items)}
    titled = map(capwords, kinds)
    names["item"] = [f"{name} {kind}" for name, kind in zip(names["item"], titled, strict=True)]
    visited, explained = (_with_ids(frame, names) for frame in (visited, explained))
    quarters = [QUARTERS[quarter]["name"] for quarter in truth.items["quarter"]]
    about = [f"{kind}, {quarter} quarter" for kind, quarter in zip(kinds, quarters, strict=True)]
    facts = {"item_id": map(_slug, names["item"]), "title": names["item"], "categories": about}
    hidden = zip(SIDES, (truth.users, truth.items), strict=True)
    tables = {
        "interactions": visited.drop("user", "item"),
        "users": pl.DataFrame({"user_id": map(_slug, names["user"]), "name": names["user"]}),
        "items": pl.DataFrame(facts),
        "reviews": explained.with_columns(pl.Series("text", written, dtype=pl.String)),
        "explanations": explained,
        "intents": pl.concat(_intents(rng, them, names[side], side) for side, them in hidden),
    }
    options = dict(seed=seed, users=users, items=items, visits=visits, explanations=[*explanations])
    how = {"interactions": "80/10/10 by user, seeded", "explanations": "that of their interaction"}
    return make_dataset("little-town", tables, {"importer": "little_town", "options": options, "split": how})


def town_truth(dataset: Dataset) -> TownTruth:
    """The hidden attributes behind a little town, in the internal numbers of `dataset`; a UserError for others."""
    if dataset.source.get("importer") != "little_town":
        raise UserError(f"data set {dataset.name!r}: not a little town, so nobody knows its truth")
    options = dataset.source["options"]
    rng = np.random.default_rng(options["seed"])
    people, places = _hidden(rng, options["users"]), _hidden(rng, options["items"])
    born_users = np.argsort(dataset.users.numbers(dataset.tables["users"]["user_id"]))
    born_items = np.argsort(dataset.items.numbers(dataset.tables["items"]["item_id"]))
    return TownTruth(people[born_users], places[born_items])


def _hidden(rng: np.random.Generator, n: int) -> Hidden:
    """Attributes of n people or places; the two tastes of each differ."""
    first = rng.integers(len(TASTES), size=n)
    second = (first + rng.integers(1, len(TASTES), size=n)) % len(TASTES)
    found = np.empty(n, [("quarter", int), ("moment", int), ("tastes", int, 2)])
    found["tastes"] = np.stack([first, second], axis=1)
    found["quarter"] = rng.integers(len(QUARTERS), size=n)
    found["moment"] = rng.integers(len(MOMENTS), size=n)
    return found


def _strengths(hidden: Hidden) -> NDArray[np.float32]:
    """How much each wants or offers each taste, [n, T]."""
    strengths = np.zeros((len(hidden), len(TASTES)), dtype=np.float32)
    np.put_along_axis(strengths, hidden["tastes"], np.asarray(WEIGHTS, dtype=np.float32)[None, :], axis=1)
    return strengths


def _visits(rng: np.random.Generator, truth: TownTruth, mean: int) -> pl.DataFrame:
    """Who visits what, with a split: each user's top places under affinity plus chance."""
    users, items = len(truth.users), len(truth.items)
    counts = np.minimum(rng.integers(max(3, mean // 2), mean + mean // 2 + 1, size=users), items // 2)
    frames = []
    for start in range(0, users, BLOCK):
        rows = np.arange(start, min(start + BLOCK, users))
        wish = truth.affinity(rows)
        wish += CHANCE * rng.gumbel(size=wish.shape).astype(np.float32)
        most = int(counts[rows].max())
        best = np.argsort(-wish, axis=1)[:, :most]
        item = best[np.arange(most)[None, :] < counts[rows][:, None]]
        splits = [split for count in counts[rows].tolist() for split in _user_splits(rng, count)]
        frames.append(pl.DataFrame({"user": np.repeat(rows, counts[rows]), "item": item, "split": splits}))
    return pl.concat(frames)


def _user_splits(rng: np.random.Generator, count: int) -> list[str]:
    """Of a user's visits a tenth, at least one, is test, as many are valid, the rest train."""
    held = max(1, round(count / 10))
    given = [SPLITS[2]] * held + [SPLITS[1]] * held + [SPLITS[0]] * (count - 2 * held)
    return [given[place] for place in rng.permutation(count)]


def _explained(
    rng: np.random.Generator, truth: TownTruth, visits: pl.DataFrame, count: int, told: Set[str]
) -> pl.DataFrame:
    """Visits that a shared taste explains in words not yet `told` (these would measure memory), in random order."""
    users, items = visits["user"].to_numpy(), visits["item"].to_numpy()
    shared = truth.users["tastes"][users][:, :, None] == truth.items["tastes"][items][:, None, :]
    pairs = visits[rng.permutation(np.flatnonzero(shared.any(axis=(1, 2))))]
    texts = [truth.explanation(user, item) for user, item in pairs.select("user", "item").iter_rows()]
    fresh = pl.Series([text not in told for text in texts], dtype=pl.Boolean)
    return pairs.with_columns(pl.Series("text", texts, dtype=pl.String)).filter(fresh).head(count)


def _with_ids(pairs: pl.DataFrame, names: dict[str, list[str]]) -> pl.DataFrame:
    return pairs.with_columns(pl.Series(f"{side}_id", map(_slug, names[side]))[pairs[side]] for side in SIDES)


def _intents(rng: np.random.Generator, hidden: Hidden, names: list[str], side: Side) -> pl.DataFrame:
    """Six phrases each, strongest first: two of the first taste, quarter, two of the second, moment."""
    rows = []
    for number, name in enumerate(names):
        first, second = (TASTES[taste][side] for taste in hidden["tastes"][number])
        quarter, moment = QUARTERS[hidden["quarter"][number]][side], MOMENTS[hidden["moment"][number]][side]
        pools = ((first, 2), (quarter, 1), (second, 2), (moment, 1))
        drawn = [pool[place] for pool, count in pools for place in rng.permutation(len(pool))[:count]]
        rows += [(side, _slug(name), rank, phrase) for rank, phrase in enumerate(drawn, start=1)]
    return pl.DataFrame(rows, schema=["side", "entity_id", "rank", "phrase"], orient="row")


def _names(rng: np.random.Generator, pool: list[str], n: int) -> list[str]:
    """Different names in random order; a number is added once the pool is used up."""
    order = rng.permutation(len(pool))
    rounds = (divmod(k, len(pool)) for k in range(n))
    return [pool[order[place]] + (f" {again + 1}" if again else "") for again, place in rounds]


def _slug(name: str) -> str:
    return name.removeprefix("The ").lower().replace("é", "e").replace(" ", "-")
