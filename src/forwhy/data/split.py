"""Who is trained and tested on what: seeded splits of rows, which rows of a log stay, and the protocols of runs.

The same rows and seed give the same choice on every machine. A protocol says what a run may know of its data set
(`ProtocolConfig`); of text about held-out pairs nothing. The zero-shot split of BEAT is not published: our draw.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, NonNegativeInt, model_validator

from forwhy.columns import SIDES, SPLITS, Graph, Side
from forwhy.data.dataset import Dataset, Ints
from forwhy.errors import UserError
from forwhy.frames import Tables
from forwhy.options import Options

FRACTIONS = (0.8, 0.1, 0.1)
"""Train, valid, test: what the papers use."""


def split_pairs(
    n: int, seed: int = 0, fractions: Sequence[float] = FRACTIONS, keep: Ints | None = None
) -> pl.Series:
    """A split name for each of n rows; sizes are the rounded fractions.

    With `keep`, the owner of each row, a row of each owner stays in train, at the cost of valid and test.
    """
    valid, test = _sizes(n, fractions)
    order = np.random.default_rng(seed).permutation(n)
    if keep is not None:
        order = order[~pl.Series(keep[order]).is_first_distinct().to_numpy()]
    return _named(n, order[test : test + valid], order[:test])


def split_last(users_n: Ints, times_n: Ints) -> pl.Series:
    """Each user's latest row is test, the one before valid, the rest train, as all of fewer than three; ties by row."""
    order = np.lexsort((times_n, users_n))
    users = users_n[order]
    ends = np.flatnonzero(np.append(users[1:] != users[:-1], True))[: len(users)]
    last = ends[np.diff(ends, prepend=-1) >= 3]
    return _named(len(users), order[last - 1], order[last])


def split_by_time(times_n: Ints, fractions: Sequence[float] = FRACTIONS) -> pl.Series:
    """One cut through time for everybody: the latest rows are test, those before them valid.

    Nothing in train is later than anything held out; users and items that appear late are cold. Sizes are
    the rounded fractions, valid what test leaves of it; ties in time go by row order. O(n log n).
    """
    n = len(times_n)
    valid, test = _sizes(n, fractions)
    order = np.argsort(times_n, kind="stable")
    return _named(n, order[max(n - test - valid, 0) : n - test], order[n - test :])


def carve_valid(splits: pl.Series, share: float, seed: int = 0, keep: Ints | None = None) -> pl.Series:
    """Turn a share of the train rows into valid rows; every owner in `keep` keeps one row in train."""
    if not 0 <= share < 1:
        raise UserError(f"validation share {share}: give a number from 0 up to, not including, 1")
    train = (splits == SPLITS[0]).arg_true()
    owners = None if keep is None else keep[train]
    chosen = split_pairs(len(train), seed, (1 - share, share, 0.0), owners) == SPLITS[1]
    return splits.clone().scatter(train.filter(chosen), SPLITS[1])


def _sizes(n: int, fractions: Sequence[float]) -> tuple[int, int]:
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UserError(f"split fractions {tuple(fractions)}: give three shares, 0 or more, that sum to 1")
    return round(n * fractions[1]), round(n * fractions[2])


def _named(n: int, valid: Ints, test: Ints) -> pl.Series:
    numbers = np.zeros(n, np.uint8)
    numbers[valid], numbers[test] = 1, 2
    return pl.Series("split", SPLITS).gather(numbers)


def k_core(rows: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest set of rows, maybe none, in which every `user` and `item` has `k` rows; O(n) per round."""
    left, count = rows.select(SIDES).with_row_index(), -1
    while count != left.height:
        count = left.height
        left = left.filter(*(pl.len().over(side) >= k for side in SIDES))
    return rows[left["index"]]


def one_per(rows: pl.DataFrame, keys: Sequence[str], which: Literal["first", "last"]) -> pl.Series:
    """Whether a row is the earliest (latest) by `time` of its combination of `keys`; ties go by row order."""
    # numpy sorts in a third of the memory that polars takes
    order = np.lexsort([rows[name].to_numpy() for name in ("time", *reversed(keys))])
    edge, stays = np.zeros(len(order) + 1, dtype=bool), np.zeros(len(order), dtype=bool)
    edge[[0, -1]] = True
    for key in keys:
        ordered = rows[key].to_numpy()[order]
        edge[1:-1] |= ordered[1:] != ordered[:-1]
    stays[order[edge[:-1] if which == "first" else edge[1:]]] = True
    return pl.Series(stays)


def sample_users(users_U: pl.Series, count: int, seed: int) -> pl.Series:
    """`count` users (all, when there are fewer) by their ids' digests alone; a larger sample holds a smaller one.

    They are sorted by SplitMix64's finaliser (Steele, Lea and Flood, 2014) over digest plus a seeded odd step.
    """
    step = np.random.default_rng(seed).integers(2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = users_U.to_numpy() + step
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return users_U[np.argsort(mixed ^ (mixed >> np.uint64(31)))[:count]]


# --- Protocols

ProtocolName = Literal["leak-free", "as-published", "zero-shot"]


class ProtocolConfig(Options):
    """Which interactions the graph may hold, and whose text is read."""

    protocol: ProtocolName = "leak-free"
    """`leak-free` drops training interactions whose explanation is held out; `as-published` keeps them, as
    the papers do (about 80% of XRec's test pairs are then edges of the graph); `zero-shot` is leak-free with
    drawn users and items stripped of all text, and tested on their pairs only."""
    zero_shot_users: float = Field(0.1, ge=0, le=1)
    """`zero-shot`: share of the users of test pairs with text to lose; a larger share holds the smaller one."""
    zero_shot_items: float = Field(0.0, ge=0, le=1)
    """`zero-shot`: share of the items of test pairs with text to lose; a larger share holds the smaller one."""
    seed: NonNegativeInt = 0
    """`zero-shot`: who is drawn."""

    @model_validator(mode="before")
    @classmethod
    def _former_name(cls, values: object) -> object:
        """`graph` was the key's name; the resolved recipes of older runs say it."""
        if not isinstance(values, Mapping) or "graph" not in values or "protocol" in values:
            return values
        return {"protocol" if key == "graph" else key: value for key, value in values.items()}

    @model_validator(mode="after")
    def _somebody_is_drawn(self) -> "ProtocolConfig":
        if self.protocol == "zero-shot" and not self.zero_shot_users + self.zero_shot_items:
            remedy = "give zero_shot_users or zero_shot_items a share above 0"
            raise ValueError(f"zero-shot draws nobody; {remedy}")
        return self

    @property
    def graph(self) -> Graph:
        """Which training edges the graph holds (`Dataset.edges`)."""
        return "as-published" if self.protocol == "as-published" else "leak-free"


def apply_protocol(dataset: Dataset, config: ProtocolConfig) -> Dataset:
    """The data set as the protocol lets a run see it; unchanged unless the protocol is ``zero-shot``.

    Drawn users and items lose the training explanations and reviews they are part of, their profiles and their intents;
    the `items` table stays. Test holds the test pairs with someone drawn. Validation pairs with someone drawn, and test
    pairs with nobody drawn (`Dataset.warm_pairs`), are withheld: in no split, and still cut from the graph, so edges
    are those of the whole data set. `source["protocol"]` has counts of who was drawn and what was removed. Refused:
    nobody to draw, nothing left to learn or to select from, another protocol applied before. O(rows).
    """
    settings = config.model_dump(include=set(ProtocolConfig.model_fields))
    applied, name = dataset.source.get("protocol"), f"data set '{dataset.name}'"
    if applied is not None:
        if applied["settings"] == settings:
            return dataset
        raise UserError(f"{name}: made by protocol {applied['settings']}; apply another to the whole one")
    if config.protocol != "zero-shot":
        return dataset
    if not len(dataset.pairs("test")):
        remedy = "use protocol = 'leak-free' or add explanations"
        raise UserError(f"{name}: no test explanations, so zero-shot has nothing to test; {remedy}")
    could: dict[Side, list[str | int]] = {side: _with_text(dataset, side) for side in SIDES}
    shares = {"user": config.zero_shot_users, "item": config.zero_shot_items}
    drawn = {side: _drawn(dataset, side, could[side], shares[side], config.seed) for side in SIDES}
    tables = _without_text(dataset.tables, drawn)
    record = {
        "settings": settings,
        **{f"{side}s_drawn": len(drawn[side]) for side in SIDES},
        **{f"{side}s_among": len(could[side]) for side in SIDES},
        **_counts(dataset.tables, tables),
    }
    stripped = dataset.derive(tables, {**dataset.source, "protocol": record})
    for split in ("train", "valid"):
        if len(dataset.pairs(split)) and not len(stripped.pairs(split)):
            remedy = "draw smaller shares with data.zero_shot_users and data.zero_shot_items"
            raise UserError(f"{name}: zero-shot leaves no {split} explanation; {remedy}")
    return stripped


def _with_text(dataset: Dataset, side: Side) -> list[str | int]:
    """Ids of those in test pairs about whom a stage could read something, sorted."""
    texts = (dataset.pairs("test"), dataset.pairs("train"), dataset.training_reviews())
    tested, *told = ((pairs.users if side == "user" else pairs.items).tolist() for pairs in texts)
    phrased = (dataset.phrases(side, "like"), dataset.phrases(side, "dislike"), dataset.profiles(side))
    readable = set().union(*phrased, *told)
    return [dataset.ids(side).values[number] for number in sorted(readable & set(tested))]


def _drawn(dataset: Dataset, side: Side, could: list[str | int], share: float, seed: int) -> list[str | int]:
    """The first of a seeded order of all who could be drawn: so a larger share holds a smaller."""
    if not share:
        return []
    if not could:
        remedy = f"set data.zero_shot_{side}s = 0 or use protocol = 'leak-free'"
        raise UserError(f"data set '{dataset.name}': no {side} of a test pair has text to lose; {remedy}")
    order = np.random.default_rng((seed, SIDES.index(side))).permutation(len(could))
    return [could[place] for place in order[: max(1, round(share * len(could)))]]


def _without_text(tables: Tables, drawn: Mapping[Side, list[str | int]]) -> dict[str, pl.DataFrame]:
    """The tables without the drawn users' and items' text; pairs that are set aside become `withheld`."""
    of_pair = pl.col("user_id").is_in(drawn["user"]) | pl.col("item_id").is_in(drawn["item"])
    concerned = ((side, pl.col("entity_id").is_in([*map(str, ids)])) for side, ids in drawn.items())
    of_entity = pl.any_horizontal((pl.col("side") == side) & named for side, named in concerned)
    touched = {"reviews": of_pair, "profiles": of_entity, "intents": of_entity, "mined": of_entity}
    found = dict(tables)
    found |= {name: found[name].filter(~rows) for name, rows in touched.items() if name in found}
    split, told = pl.col("split"), tables["explanations"]
    found["explanations"] = told.filter(of_pair == (split == "test"))
    # Validation text of the drawn goes; test text of the others is kept for comparison.
    aside = told.filter((split == "valid") & of_pair | (split == "test") & ~of_pair)
    text = pl.when(split == "test").then("text").otherwise(pl.lit(""))
    found["withheld"] = aside.select("user_id", "item_id", text=text)
    return found


def _counts(before: Tables, after: Tables) -> dict[str, Any]:
    """Texts removed by table, and pairs tested, as plain JSON values."""
    old, new = (Counter(tables["explanations"]["split"]) for tables in (before, after))
    read = [name for name in ("reviews", "profiles", "intents") if name in before]
    removed = {f"{split}_explanations": old[split] - new[split] for split in ("train", "valid")}
    removed |= {name: before[name].height - after[name].height for name in read}
    return {"removed": removed, "test_pairs": new["test"], "warm_pairs": old["test"] - new["test"]}
