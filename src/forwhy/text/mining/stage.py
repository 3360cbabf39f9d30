"""What is mined, of whom, and what may be read of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
from pydantic import Field, NonNegativeInt

from forwhy.columns import PAIR, SIDES, SPLITS, Side, Split
from forwhy.data.dataset import Dataset, Ints
from forwhy.errors import UserError
from forwhy.options import Options
from forwhy.text.hostile import clean

Kind = Literal["intents", "profiles", "explanations"]


class MiningConfig(Options):
    """What is mined, about whom, and how much of their text is read."""

    kind: Kind
    """`intents`: ranked short phrases (BEAT eq. 7); `profiles`: one text each (XRec eq. 2, 3); `explanations`:
    one text for each reviewed pair, from its review alone (XRec A.1)."""
    side: Literal["user", "item", "both"] = "both"
    """Whose; items come first, so that user profiles read them. No matter for explanations."""
    limit: int | None = Field(default=None, ge=1)
    """Most entities of each side, or pairs, drawn by seed; a larger limit holds the smaller one's."""
    seed: NonNegativeInt = 0
    """Of all draws; those of one entity do not depend on another's."""
    reviews: int = Field(default=20, ge=1)
    """Reviews read of one entity, a sample of them when there are more."""
    characters: int = Field(default=1_000, ge=20)
    """Read of one review, or of one item's description; the rest is cut off."""
    items: int = Field(default=10, ge=0)
    """Training items read of a user for a profile, a sample of them when there are more."""
    phrases: int = Field(default=10, ge=1)
    """Most phrases of an entity; BEAT's code keeps 10."""
    phrase_words: int = Field(default=12, ge=1)
    """Most words of a phrase; `data.intents` cuts longer ones."""
    profile_words: int = Field(default=60, ge=5)
    """Most words of a profile; XRec's have 35 on average."""
    explanation_words: int = Field(default=50, ge=5)
    """Most words of an explanation; 50 in both papers."""
    use_profiles: bool = False
    """User profiles also read item profiles that nobody knows the sources of, such as shipped ones. What is
    mined with them is marked as possibly leaking."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """Whose, in the order of mining; explanations are about pairs and have one turn."""
        if self.kind == "explanations":
            return ("item",)
        return tuple(side for side in reversed(SIDES) if self.side in (side, "both"))

    @property
    def words(self) -> int:
        """Most words of what is written: of a phrase, a profile or an explanation."""
        most = (self.phrase_words, self.profile_words, self.explanation_words)
        return most[get_args(Kind).index(self.kind)]


# --- Words of texts in any script: in those written without spaces each sign is one.

_SIGNS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SIGNS += "\U00020000-\U0003134f"
"""Thai, Lao, Burmese, Khmer, kana and Han."""
_WORD = re.compile(rf"[{_SIGNS}]|[^\s{_SIGNS}]+")
_SIGN = re.compile(rf"[{_SIGNS}]")


def is_sign(word: str) -> bool:
    """Whether a word is a sign of a script written without spaces."""
    return _SIGN.match(word) is not None


def count_words(text: str) -> int:
    """How many; marks count with the word they touch."""
    return sum(1 for _ in _WORD.finditer(text))


def first_words(text: str, count: int) -> str:
    """The text up to its `count`-th word, marks of that word included."""
    ends = [0, *(word.end() for word in _WORD.finditer(text))]
    return text if len(ends) <= count + 1 else text[: ends[count]]


# --- Who is asked about, and all that a question about them may show. Nothing held out leaks into it.
# Texts of users and items come from `Dataset.training_texts`, which has none of a held-out pair; those of pairs that
# were rated low say no preference and are left out. Items of a user come from the leak-free training graph. An
# explanation is the one exception: it is the reference of its pair, so it is written from that pair's own review, held
# out or not, which no other question shows. Legend: R rows.

NOBODY: Ints = np.empty(0, np.int64)


@dataclass(frozen=True)
class Entity:
    """A user, an item or a pair, by id, with the clean texts that a question may show."""

    side: Literal["user", "item", "pair"]
    id: str
    """The user's of a pair."""
    reviews: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """The other end of the pair that each review is about: users of an item, items of a user."""
    metadata: tuple[str, ...] = ()
    """What the `items` table says of an item, in one text."""
    items: tuple[str, ...] = ()
    """Descriptions or profiles of a user's items."""
    profiles: tuple[str, ...] = ()
    """Items of which it was the profile."""
    shipped: int = 0
    """How many of those profiles nobody knows the sources of."""
    item: str = ""
    """The item's of a pair."""
    split: Split = "train"
    """Of a pair's interaction."""


@dataclass(frozen=True)
class MiningStage:
    """One step of mining: the entities of a side, or the pairs, that can be asked about, and how many cannot."""

    config: MiningConfig
    side: Side
    """No matter for explanations."""
    dataset: Dataset
    entities: list[Entity]
    nothing: int
    """Without any text that may be read."""
    skipped: Mapping[str, int]
    """Reason -> pairs that have a review but no place in the data set's split."""

    @property
    def about(self) -> str:
        """``users``, ``items`` or ``pairs``."""
        return "pairs" if self.config.kind == "explanations" else f"{self.side}s"


def stage_of(dataset: Dataset, side: Side, config: MiningConfig) -> MiningStage:
    """The stage of a side, with the entities that it is about; O(R log R)."""
    return _pairs(dataset, config) if config.kind == "explanations" else _entities(dataset, side, config)


def source_table(dataset: Dataset) -> Literal["reviews", "explanations"]:
    """Where texts are read: `reviews`, or the training explanations of a data set without any."""
    return "reviews" if "reviews" in dataset.tables else "explanations"


def _entities(dataset: Dataset, side: Side, config: MiningConfig) -> MiningStage:
    """Every user (item), or `config.limit` of them, with a sample of their texts; user profiles read items'."""
    pairs, texts = dataset.training_texts(source_table(dataset)), dataset.item_texts()
    pairs = pairs.select(np.flatnonzero(~dataset.is_disliked(pairs.users, pairs.items)))
    ids = {"user": dataset.users.values, "item": dataset.items.values}
    ends = {"user": pairs.users, "item": pairs.items}
    other: Side = "item" if side == "user" else "user"
    rows = _grouped(ends[side], np.arange(len(pairs)))
    described = texts if side == "item" else [""] * len(dataset.users)
    vouched, beside, profiles = dataset.vouched("profiles", "item"), dict[int, Ints](), dict[int, str]()
    if config.kind == "profiles" and side == "user":
        every = dataset.profiles("item").items()
        profiles = {item: text for item, text in every if item in vouched or config.use_profiles}
        known = np.array([bool(text) or item in profiles for item, text in enumerate(texts)], bool)
        edges = dataset.edges("train")
        beside = _grouped(*edges[known[edges[:, 1]]].T)
    told = np.array([n for n, text in enumerate(described) if n in rows or text or n in beside], np.int64)
    found, most = list[Entity](), config.characters
    asked = _sample(_order(side, config), told, config.limit).tolist()
    for number in asked:
        rng = np.random.default_rng((config.seed, SIDES.index(side), number))
        shown = _sample(rng, rows.get(number, NOBODY), config.reviews)
        cleaned = [(clean(pairs.texts[row], most), str(ids[other][ends[other][row]])) for row in shown]
        read = [(text, end) for text, end in cleaned if text]
        chosen = _sample(rng, beside.get(number, NOBODY), config.items).tolist()
        entity = Entity(
            side,
            str(ids[side][number]),
            reviews=tuple(text for text, _ in read),
            sources=tuple(end for _, end in read),
            metadata=tuple(filter(None, [clean(described[number], most)])),
            items=tuple(filter(None, (clean(profiles.get(item, texts[item]), most) for item in chosen))),
            profiles=tuple(str(ids["item"][item]) for item in chosen if item in profiles),
            shipped=sum(item in profiles and item not in vouched for item in chosen),
        )
        if entity.reviews or entity.metadata or entity.items:
            found.append(entity)
    silent = len(described) - len(told)
    return MiningStage(config, side, dataset, found, silent + len(asked) - len(found), {})


def _pairs(dataset: Dataset, config: MiningConfig) -> MiningStage:
    """Every reviewed pair that has a split (`_splits`), or `config.limit` of them, with its first review."""
    frame = dataset.tables.get("reviews")
    if frame is None:
        wrong = "no table reviews, so there is nothing to write explanations from"
        raise UserError(f"data set '{dataset.name}': {wrong}; import the reviews with it")
    first = frame.unique(PAIR, keep="first", maintain_order=True)
    known = first.join(_splits(dataset.tables), on=PAIR, how="left", maintain_order="left")
    kept = known.filter(pl.col("split").is_not_null() & (pl.col("split") != "withheld"))
    kept = kept[_sample(_order("pair", config), np.arange(kept.height), config.limit)]
    most = config.characters
    found = [
        Entity("pair", str(user), (clean(text, most),), (str(item),), item=str(item), split=split)
        for user, item, text, split in kept.select(*PAIR, "text", "split").iter_rows()
    ]
    skipped = {
        "no interaction": known["split"].null_count(),
        "withheld": int((known["split"] == "withheld").sum()),
        "further reviews": frame.height - first.height,
    }
    filled = [entity for entity in found if entity.reviews[0]]
    counted = {why: count for why, count in skipped.items() if count}
    return MiningStage(config, "item", dataset, filled, len(found) - len(filled), counted)


def _grouped(keys: Ints, values: Ints) -> dict[int, Ints]:
    """Values by key, in their order; O(R log R)."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(values[order], starts[1:]), strict=False))


def _order(side: Side | Literal["pair"], config: MiningConfig) -> np.random.Generator:
    return np.random.default_rng((config.seed, 2 + ("user", "item", "pair").index(side)))


def _sample(rng: np.random.Generator, rows: Ints, most: int | None) -> Ints:
    """All rows, or the first `most` of a random order, as they were sorted."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.sort(rng.permutation(len(rows))[:most])]


def _splits(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The split of each pair that has one: `withheld`, else of its explanation, else of its last interaction."""
    order = pl.col("split").replace_strict({split: place for place, split in enumerate(SPLITS)})
    last_first = tables["interactions"].sort(order, descending=True, maintain_order=True)
    found = [tables[name] for name in ("withheld", "explanations") if name in tables]
    if "withheld" in tables:
        found[0] = found[0].with_columns(split=pl.lit("withheld"))
    columns = [frame.select(*PAIR, "split") for frame in (*found, last_first)]
    return pl.concat(columns).unique(PAIR, keep="first", maintain_order=True)
