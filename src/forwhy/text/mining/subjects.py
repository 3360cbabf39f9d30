"""Options of mining."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from forwhy.columns import SIDES, SPLITS, Side, Split
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.errors import UserError
from forwhy.text.hostile import clean

Kind = Literal["intents", "profiles", "explanations"]


class MiningConfig(BaseModel):
    """What is mined, about whom, and how much of their text is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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


# --- Words of texts in any script: in those written without spaces each sign is one.


_SIGNS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
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
    end = 0
    for number, word in enumerate(_WORD.finditer(text), 1):
        if number > count:
            return text[:end]
        end = word.end()
    return text


# --- Who is asked about, and all that a question about them may show: leak-free by construction.
#
# Texts of users and items come from `Dataset.training_texts` alone, which has no text of any pair that is held
# out as explanation or as interaction; items of a user from the leak-free training graph; beside them stand
# titles, categories and descriptions. The one exception is an explanation: it is the reference of its pair, so
# it is distilled from that pair's own review, held out or not, which no other question sees.
#
# Legend: E entities, P pairs, R rows.


Ints = NDArray[np.int64]
Source = Literal["reviews", "explanations"]

NOBODY: Ints = np.empty(0, np.int64)


@dataclass(frozen=True)
class Subject:
    """A user, an item or a pair, by internal numbers, with clean texts."""

    side: Literal["user", "item", "pair"]
    entity: int
    """The user of a pair."""
    texts: tuple[str, ...] = ()
    sources: tuple[int, ...] = ()
    """Whose: the other end of the pair that each text is about (users of an item, items of a user)."""
    metadata: str = ""
    """What the `items` table says of an item."""
    items: tuple[str, ...] = ()
    """Descriptions or profiles of a user's items."""
    profiles: tuple[int, ...] = ()
    """Items of which it was the profile."""
    shipped: int = 0
    """How many of those profiles nobody knows the sources of."""
    pair_item: int = -1
    split: Split = "train"
    """Of a pair's interaction."""

    def data(self, tag: str) -> tuple[str, ...]:
        """What stands at a place of a prompt."""
        places = {"reviews": self.texts, "items": self.items}
        return places.get(tag, (self.metadata,) if self.metadata else ())


class Chosen(NamedTuple):
    """Those that can be asked about, and how many cannot."""

    subjects: list[Subject]
    nothing: int
    """Without any text that may be read."""
    skipped: Mapping[str, int] = {}
    """Reason -> pairs that have a review but no place in the data set's split."""


def source_table(dataset: Dataset) -> Source:
    """Where texts are read: `reviews`, or the training explanations of a data set without any."""
    return "reviews" if "reviews" in dataset.tables else "explanations"


def entities(dataset: Dataset, side: Side, config: MiningConfig) -> Chosen:
    """Every user (item), or `config.limit` of them, with a sample of their texts; O(R log R).

    Items without a review have their description; users without one have, for profiles, their items.
    """
    pairs = dataset.training_texts(source_table(dataset))
    rows = _grouped(pairs.users if side == "user" else pairs.items, np.arange(len(pairs)))
    about = _ItemTexts(dataset, config) if config.kind == "profiles" and side == "user" else None
    described = dataset.item_texts() if side == "item" else [""] * len(dataset.users)
    beside = about.items if about is not None else {}
    told = [entity for entity, text in enumerate(described) if entity in rows or text or entity in beside]
    found = []
    for entity in np.array(told, np.int64)[_drawn(len(told), side, config)].tolist():
        rng = np.random.default_rng((config.seed, SIDES.index(side), entity))
        shown = _sample(rng, rows.get(entity, NOBODY), config.reviews)
        subject = _entity(side, entity, pairs.select(shown), config)
        if about is not None:
            subject = about.added(subject, rng)
        found.append(replace(subject, metadata=clean(described[entity], config.characters)))
    kept = [subject for subject in found if subject.texts or subject.metadata or subject.items]
    return Chosen(kept, len(described) - len(told) + len(found) - len(kept))


def reviewed_pairs(dataset: Dataset, config: MiningConfig) -> Chosen:
    """Every reviewed pair, or `config.limit` of them, with its first review and its split; O(R log R).

    The split is that of the pair's explanation where it has one, else of its interaction (of a repeated one
    the last: test before valid before train). Pairs that a protocol withheld and pairs without an
    interaction have none and are left out.

    Raises:
        UserError: the data set has no reviews.
    """
    frame = dataset.tables.get("reviews")
    if frame is None:
        raise UserError(
            f"data set '{dataset.name}': no table reviews, so there is nothing to write explanations from; "
            "import the reviews with it"
        )
    first = frame.unique(("user_id", "item_id"), keep="first", maintain_order=True)
    known = first.join(_splits(dataset), on=["user_id", "item_id"], how="left", maintain_order="left")
    outside = int(known["split"].null_count())
    kept = known.filter(pl.col("split").is_not_null() & (pl.col("split") != "withheld"))
    rows = _drawn(kept.height, "pair", config)
    kept = kept[rows]
    users, items = dataset.users.numbers(kept["user_id"]), dataset.items.numbers(kept["item_id"])
    found = [
        Subject("pair", user, (clean(text, config.characters),), (item,), pair_item=item, split=split)
        for user, item, text, split in zip(
            users.tolist(), items.tolist(), kept["text"], kept["split"], strict=True
        )
    ]
    withheld = known.height - outside - int((known["split"] != "withheld").sum())
    skipped = {
        "no interaction": outside,
        "withheld": withheld,
        "further reviews": frame.height - first.height,
    }
    filled = [subject for subject in found if subject.texts[0]]
    return Chosen(filled, len(found) - len(filled), {why: count for why, count in skipped.items() if count})


class _ItemTexts:
    """What a user's items are like: a profile that we know the sources of, else the description."""

    def __init__(self, dataset: Dataset, config: MiningConfig) -> None:
        self._config = config
        self._own = dataset.vouched("profiles", "item")
        profiles = dataset.profiles("item")
        self._profiles = {
            item: text for item, text in profiles.items() if item in self._own or config.use_profiles
        }
        self._texts = dataset.item_texts()
        edges = dataset.edges("train")
        known = [bool(text) or item in self._profiles for item, text in enumerate(self._texts)]
        edges = edges[np.array(known, bool)[edges[:, 1]]]
        self.items = _grouped(edges[:, 0], edges[:, 1])
        """Training items of each user of which something is known."""

    def added(self, subject: Subject, rng: np.random.Generator) -> Subject:
        """The subject with a sample of what is known of its user's items."""
        shown = _sample(rng, self.items.get(subject.entity, NOBODY), self._config.items).tolist()
        profiles = tuple(item for item in shown if item in self._profiles)
        texts = (
            clean(self._profiles.get(item, self._texts[item]), self._config.characters) for item in shown
        )
        shipped = sum(item not in self._own for item in profiles)
        return replace(subject, items=tuple(filter(None, texts)), profiles=profiles, shipped=shipped)


def _entity(side: Side, entity: int, pairs: Pairs, config: MiningConfig) -> Subject:
    other = pairs.items if side == "user" else pairs.users
    told = [(clean(text, config.characters), int(end)) for text, end in zip(pairs.texts, other, strict=True)]
    told = [(text, end) for text, end in told if text]
    return Subject(side, entity, tuple(text for text, _ in told), tuple(end for _, end in told))


def _grouped(keys: Ints, values: Ints) -> dict[int, Ints]:
    """Values by key, in their order; O(R log R)."""
    if not len(keys):
        return {}
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    parts = np.split(values[order], starts[1:])
    return dict(zip(distinct.tolist(), parts, strict=True))


def _drawn(count: int, side: Side | Literal["pair"], config: MiningConfig) -> Ints:
    """Numbers below `count`, sorted: all, or the first `config.limit` of a seeded order."""
    if config.limit is None or config.limit >= count:
        return np.arange(count)
    draw = np.random.default_rng((config.seed, 2 + ("user", "item", "pair").index(side)))
    return np.sort(draw.permutation(count)[: config.limit])


def _sample(rng: np.random.Generator, rows: Ints, most: int) -> Ints:
    """At most so many of the rows, in their order."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(rng.permutation(len(rows))[:most])]


def _splits(dataset: Dataset) -> pl.DataFrame:
    """The split of each pair that has one: `user_id`, `item_id`, `split`; `withheld` for those set aside."""
    pair, order = ["user_id", "item_id"], {split: place for place, split in enumerate(SPLITS)}
    visits = dataset.tables["interactions"].select(*pair, "split")
    visits = visits.sort(pl.col("split").replace_strict(order), descending=True, maintain_order=True)
    return pl.concat([*_split_frames(dataset.tables), visits]).unique(pair, keep="first", maintain_order=True)


def _split_frames(tables: Mapping[str, pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """What goes before the interaction's split."""
    columns = ("user_id", "item_id", "split")
    if "withheld" in tables:
        yield tables["withheld"].with_columns(pl.lit("withheld").alias("split")).select(columns)
    if "explanations" in tables:
        yield tables["explanations"].select(columns)
