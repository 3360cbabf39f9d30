"""What a run may know of its data set, one name for each protocol.

``leak-free``: the training graph without held-out explained pairs; text of held-out pairs is nobody's to read.
``as-published``: that graph with them, as BEAT and XRec have it.
``zero-shot``: leak-free, and some users and items lose all their text but keep their interactions; the test is
what can still be said of them (BEAT, "users or items that have interaction data but lack any explicit textual
reviews"; its split is not published, so the draw is ours).
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from forwhy.columns import SIDES, Graph, Side
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError

__all__ = ["ProtocolConfig", "ProtocolName", "apply_protocol"]

ProtocolName = Literal["leak-free", "as-published", "zero-shot"]
Ints = NDArray[np.int64]


class ProtocolConfig(BaseModel):
    """Which interactions the graph may hold, and whose text is read."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )

    protocol: ProtocolName = "leak-free"
    """`leak-free` drops training interactions whose explanation is held out; `as-published` keeps them, as
    the papers do (about 80% of XRec's test pairs are then edges of the graph); `zero-shot` is leak-free with
    drawn users and items stripped of all text, and tested on their pairs only."""
    zero_shot_users: float = Field(0.1, ge=0, le=1)
    """`zero-shot`: share of the users of test pairs with text to lose; a larger share holds the smaller one."""
    zero_shot_items: float = Field(0.0, ge=0, le=1)
    """`zero-shot`: the same of items."""
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
            raise ValueError(
                "zero-shot draws nobody; give zero_shot_users or zero_shot_items a share above 0"
            )
        return self

    @property
    def graph(self) -> Graph:
        """Which training edges the graph holds (`Dataset.edges`)."""
        return "as-published" if self.protocol == "as-published" else "leak-free"


class _Draw(NamedTuple):
    entities: Ints
    """Internal numbers of those who lose their text, sorted."""
    among: int
    """How many could have been drawn."""


def apply_protocol(dataset: Dataset, config: ProtocolConfig) -> Dataset:
    """The data set as the protocol lets a run see it; unchanged unless the protocol is ``zero-shot``.

    Drawn users and items lose the training explanations and reviews they are part of, their profiles and
    their intents; titles and other columns of the `items` table are no reviews and stay. Test holds the test
    pairs with someone drawn. Validation loses its pairs with someone drawn; these, and test pairs with
    nobody drawn (`Dataset.warm_pairs`), are withheld: in no split, and still cut from the graph. So edges
    are those of the whole data set. `source["protocol"]` says who was drawn and what was removed, in counts.

    Applied again it gives the same data set. O(rows).

    Raises:
        UserError: nobody to draw, nothing left to learn or to select from, or another protocol was applied.
    """
    settings = config.model_dump(include=set(ProtocolConfig.model_fields))
    applied = dataset.source.get("protocol")
    if applied is not None:
        if applied["settings"] == settings:
            return dataset
        raise UserError(
            f"data set '{dataset.name}': made by protocol {applied['settings']}; apply another to the whole one"
        )
    if config.protocol != "zero-shot":
        return dataset
    if not len(dataset.pairs("test")):
        raise UserError(
            f"data set '{dataset.name}': no test explanations, so zero-shot has nothing to test; "
            "use protocol = 'leak-free' or add explanations"
        )
    draws: dict[Side, _Draw] = {
        "user": _draw(dataset, "user", config.zero_shot_users, config.seed),
        "item": _draw(dataset, "item", config.zero_shot_items, config.seed),
    }
    tables = _without_text(dataset, draws)
    record = {"settings": settings, **_counts(dataset, tables, draws)}
    stripped = dataset.derive(tables, {**dataset.source, "protocol": record})
    _refuse_empty(dataset, stripped)
    return stripped


def _draw(dataset: Dataset, side: Side, share: float, seed: int) -> _Draw:
    """The first of a seeded order of all who are tested and have text: so a larger share holds a smaller."""
    test = dataset.pairs("test")
    could = np.intersect1d(test.users if side == "user" else test.items, _with_text(dataset, side))
    if share and not len(could):
        raise UserError(
            f"data set '{dataset.name}': no {side} of a test pair has text to lose; "
            f"set data.zero_shot_{side}s = 0 or use protocol = 'leak-free'"
        )
    order = np.random.default_rng((seed, SIDES.index(side))).permutation(could)
    count = max(1, round(share * len(could))) if share else 0
    return _Draw(np.sort(order[:count]), len(could))


def _with_text(dataset: Dataset, side: Side) -> Ints:
    """Internal numbers of those about whom a stage could read something."""
    told = [dataset.pairs("train"), dataset.training_reviews()]
    numbers = [pairs.users if side == "user" else pairs.items for pairs in told]
    described = [*dataset.phrases(side), *dataset.profiles(side)]
    return np.unique(np.concatenate([*numbers, np.array(described, dtype=np.int64)]))


def _without_text(dataset: Dataset, draws: Mapping[Side, _Draw]) -> dict[str, pl.DataFrame]:
    ids = {"user": dataset.users, "item": dataset.items}
    drawn = {side: [ids[side].values[entity] for entity in draws[side].entities] for side in SIDES}
    of_pair = pl.col("user_id").is_in(drawn["user"]) | pl.col("item_id").is_in(drawn["item"])
    of_entity = pl.any_horizontal(
        (pl.col("side") == side) & pl.col("entity_id").is_in([str(value) for value in drawn[side]])
        for side in SIDES
    )
    tables = dict(dataset.tables)
    touched = {"reviews": of_pair, "profiles": of_entity, "intents": of_entity, "mined": of_entity}
    for name, rows in touched.items():
        if name in tables:
            tables[name] = tables[name].filter(~rows)
    split, told = pl.col("split"), tables["explanations"]
    tables["explanations"] = told.filter(of_pair == (split == "test"))
    # Validation text of the drawn goes; test text of the others is kept for comparison.
    aside = told.filter((split == "valid") & of_pair | (split == "test") & ~of_pair)
    text = pl.when(split == "test").then("text").otherwise(pl.lit("")).alias("text")
    tables["withheld"] = aside.select("user_id", "item_id", text)
    return tables


def _counts(
    dataset: Dataset, tables: Mapping[str, pl.DataFrame], draws: Mapping[Side, _Draw]
) -> dict[str, Any]:
    """Who was drawn of how many, texts removed by table, and pairs tested, as plain JSON values."""
    after = dict(tables["explanations"].group_by("split").len().iter_rows())
    removed = {
        f"{split}_explanations": len(dataset.pairs(split)) - int(after.get(split, 0))
        for split in ("train", "valid")
    }
    for name in ("reviews", "profiles", "intents"):
        if name in tables:
            removed[name] = dataset.tables[name].height - tables[name].height
    return {
        **{f"{side}s_drawn": len(draws[side].entities) for side in SIDES},
        **{f"{side}s_among": draws[side].among for side in SIDES},
        "removed": removed,
        "test_pairs": int(after.get("test", 0)),
        "warm_pairs": len(dataset.pairs("test")) - int(after.get("test", 0)),
    }


def _refuse_empty(dataset: Dataset, stripped: Dataset) -> None:
    for split in ("train", "valid"):
        if len(dataset.pairs(split)) and not len(stripped.pairs(split)):
            raise UserError(
                f"data set '{dataset.name}': zero-shot leaves no {split} explanation; "
                "draw smaller shares with data.zero_shot_users and data.zero_shot_items"
            )
