"""The names and types of every table column (polars frames in memory, parquet on disk).

Ids are the user's own, text or whole numbers; ``entity_id``, which holds users and items, is always text. Columns that
are not listed here are kept as they are in `items`, `users` and `interactions`, and dropped elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Split = Literal["train", "valid", "test"]
Side = Literal["user", "item"]
Graph = Literal["leak-free", "as-published"]
PAIR = ["user_id", "item_id"]
Kind = Literal["user", "item", "entity", "side", "split", "text", "integer", "number"]

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
SIDES: tuple[Side, ...] = ("user", "item")
SPLIT_ALIASES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), SPLITS[0]),
    **dict.fromkeys(("valid", "validation", "val", "dev"), SPLITS[1]),
    **dict.fromkeys(("test", "testing", "tst"), SPLITS[2]),
}
"""What others call a split -> our name of it."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    """What the values are; ``user``, ``item`` and ``entity`` are ids."""
    required: bool = True
    """A table without this column is refused; an optional one may be absent."""
    filled: bool = True
    """Empty and missing values are refused; otherwise they become ``""``, of numbers null."""


_USER, _ITEM, _ENTITY = Column("user_id", "user"), Column("item_id", "item"), Column("entity_id", "entity")
_RATING = Column("rating", "number", required=False, filled=False)
_FACT, _RANK = Column("title", "text", required=False, filled=False), Column("rank", "integer")
_SIDE, _SPLIT, _TEXT = Column("side", "side"), Column("split", "split"), Column("text", "text")
TABLES: Mapping[str, tuple[Column, ...]] = {
    "interactions": (_USER, _ITEM, _RATING, Column("timestamp", "integer", required=False), _SPLIT),
    "items": (_ITEM, _FACT, replace(_FACT, name="description"), replace(_FACT, name="categories")),
    "users": (_USER,),
    "reviews": (_USER, _ITEM, _TEXT, _RATING),
    "explanations": (_USER, _ITEM, _TEXT, _SPLIT, replace(_FACT, name="features")),
    "withheld": (_USER, _ITEM, Column("text", "text", filled=False)),
    "profiles": (_SIDE, _ENTITY, _TEXT),
    "intents": (_SIDE, _ENTITY, _RANK, Column("phrase", "text"), replace(_FACT, name="attitude")),
    "mined": (
        Column("table", "text"),
        Column("side", "text"),
        _ENTITY,
        Column("pair_item", "text", filled=False),
        Column("model", "text"),
        Column("prompt", "text", filled=False),
        Column("read", "text", filled=False),
        Column("sources", "text"),
        Column("profiles", "text"),
        Column("shipped", "integer"),
    ),
}

OPEN_TABLES = frozenset({"interactions", "items", "users"})
"""Tables that keep columns of the user's own."""

ATTRIBUTES = ("brand", "categories", "attributes")
"""Columns of items that say what kind of thing each is."""
TERMS = ATTRIBUTES[1:]
"""Those that hold terms between commas; their lists and records become such (`data.values.terms`)."""

FILE, ROW = "__file", "__row"
"""Where a row came from, while a table is being checked; importers add them, no saved table has them."""

KEYS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("interactions", "explanations", "withheld"), ("user_id", "item_id")),
    "items": ("item_id",),
    "users": ("user_id",),
    "profiles": ("side", "entity_id"),
    "mined": ("table", "side", "entity_id", "pair_item"),
}
"""What one row of a table is about; two rows about the same thing are duplicates. A person may review a
thing twice, and intents repeat an entity, so those tables have no key."""
