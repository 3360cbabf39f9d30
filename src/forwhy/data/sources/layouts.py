"""Field names of published review files, and what a row of one must hold.

Sources: Amazon Reviews 2023 (Hou et al., 2024), Amazon Review Data 2018 (Ni et al., 2019), the Yelp Open Dataset,
Google Local Data 2021 (Li et al., 2022). Average ratings and counts in item facts are not read: they were
taken over all reviews, the held-out ones too.
"""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from forwhy.data.sources.files import clean_text, plain_text
from forwhy.data.sources.lines import BadRow, BadRows, RowFile, json_object

CORRECT = "correct the row"
LONGEST_ID = 200
"""Characters of an id; a longer one is a text in the wrong place."""

MILLISECONDS = 100_000_000_000
"""Times from here on are milliseconds: as seconds they would lie after the year 5138, and as milliseconds the
smaller ones would lie before March 1973."""

LATEST = 253_402_300_800
"""Seconds at which the year 10000 begins."""


class Review(NamedTuple):
    """One row of a log."""

    user: str
    item: str
    rating: float
    """NaN when the file has none."""
    seconds: int
    """Unix time; 0 when the file has none."""
    texts: tuple[str, ...] = ()
    """What was written, title first; unclean."""

    def text(self) -> str:
        """One line of plain text; a title that the text begins with is not said twice."""
        *before, text = [plain_text(part) for part in self.texts] or [""]
        title = " ".join(before)
        if not title or text.startswith(title.rstrip(".…")):
            return text
        return f"{title}{'' if title[-1] in '.!?…' else '.'} {text}".strip()


class Fact(NamedTuple):
    """One row about an item or user."""

    id: str
    values: Mapping[str, Any]
    """As in the file; see `FactLayout.clean`."""


@dataclass(frozen=True)
class FactLayout:
    """Where the facts about an item stand in a JSON row."""

    id: str
    title: str
    description: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    own: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the items table, by our name."""

    def parse(self, line: bytes) -> Fact:
        """The row, its types checked; raises `BadRow`."""
        row = json_object(line)
        for column in (self.title, *self.description, *self.categories, *self.own.values()):
            if not _is_text(row.get(column)):
                raise BadRow(column, "neither text nor a list of texts", CORRECT, row[column])
        return Fact(id_in(row, self.id), row)

    def clean(self, fact: Fact) -> dict[str, str]:
        """`title`, `description`, `categories` and own columns as plain text."""
        row = fact.values
        description = (clean_text(row.get(column)) for column in self.description)
        named = (name for column in self.categories for name in _names(row.get(column)))
        return {
            "title": clean_text(row.get(self.title)),
            "description": " ".join(part for part in description if part),
            "categories": ", ".join(dict.fromkeys(named)),
            **{ours: clean_text(row.get(theirs)) for ours, theirs in self.own.items()},
        }


@dataclass(frozen=True)
class ReviewLayout:
    """Where who, what, when and why stand in a JSON row."""

    user: str
    item: str
    rating: str
    time: str
    """A number of seconds or milliseconds, or a date as text."""
    texts: tuple[str, ...]
    """Title or summary first; may be absent or null: many rate without a word."""
    facts: FactLayout

    def parse(self, line: bytes) -> Review:
        """The row, its types checked; raises `BadRow`."""
        row = json_object(line)
        for column in self.texts:
            if type(row.get(column)) not in (str, type(None)):
                raise BadRow(column, "not text", CORRECT, row[column])
        return Review(
            id_in(row, self.user),
            id_in(row, self.item),
            number_in(row, self.rating),
            seconds_in(row, self.time),
            tuple(row[column] for column in self.texts if row.get(column)),
        )


def id_in(row: Mapping[str, Any], column: str) -> str:
    """An id as text: 12 and "12" are the same one, as in `data.ids`; raises `BadRow`."""
    value = row.get(column)
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        if value is None:
            raise BadRow(column, "missing" if column not in row else "empty", CORRECT)
        raise BadRow(column, "not an id", CORRECT, value)
    if not value.strip() or value.lower() == "nan":
        raise BadRow(column, "empty", CORRECT)
    if len(value) > LONGEST_ID:
        raise BadRow(column, f"an id of more than {LONGEST_ID} characters", CORRECT, value)
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadRow(column, "half of a surrogate pair in an id", CORRECT, value)
    return value


def number_in(row: Mapping[str, Any], column: str) -> float:
    """A finite number; raises `BadRow`."""
    value = row.get(column)
    if not isinstance(value, int | float) or isinstance(value, bool):
        if value is None:
            raise BadRow(column, "missing" if column not in row else "empty", CORRECT)
        raise BadRow(column, "not a number", CORRECT, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadRow(column, "not a finite number", CORRECT)
    return number


def seconds_in(row: Mapping[str, Any], column: str) -> int:
    """Whole seconds from a number of seconds or milliseconds, or from ``2018-07-07 22:09:11`` (UTC); `BadRow`."""
    value = row.get(column)
    if type(value) is str:
        seconds = _from_date(value, column)
    else:
        number = number_in(row, column)
        seconds = int(number if abs(number) < MILLISECONDS else number / 1000)
    if not 0 <= seconds < LATEST:
        raise BadRow(column, "no time after 1970 in seconds or milliseconds", CORRECT, value)
    return seconds


def _from_date(value: str, column: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise BadRow(
            column, "neither a number nor a date like 2018-07-07 22:09:11", CORRECT, value
        ) from error
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


def _is_text(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_text(part) for part in value)
    return value is None or isinstance(value, str)


def _names(value: object) -> list[str]:
    """Category names: of a list, or one text with commas of its own."""
    parts = value if isinstance(value, list) else [value]
    return [name for part in parts if (name := clean_text(part))]


LAYOUTS: Mapping[str, ReviewLayout] = MappingProxyType(
    {
        "amazon-2023": ReviewLayout(
            user="user_id",
            item="parent_asin",
            rating="rating",
            time="timestamp",
            texts=("title", "text"),
            facts=FactLayout(
                id="parent_asin",
                title="title",
                description=("features", "description"),
                categories=("main_category", "categories"),
                own={"brand": "store"},
            ),
        ),
        "amazon-2018": ReviewLayout(
            user="reviewerID",
            item="asin",
            rating="overall",
            time="unixReviewTime",
            texts=("summary", "reviewText"),
            facts=FactLayout(
                id="asin",
                title="title",
                description=("feature", "description"),
                categories=("main_cat", "category"),
                own={"brand": "brand"},
            ),
        ),
        "yelp": ReviewLayout(
            user="user_id",
            item="business_id",
            rating="stars",
            time="date",
            texts=("text",),
            facts=FactLayout(
                id="business_id",
                title="name",
                categories=("categories",),
                own={"city": "city", "state": "state"},
            ),
        ),
        "google": ReviewLayout(
            user="user_id",
            item="gmap_id",
            rating="rating",
            time="time",
            texts=("text",),
            facts=FactLayout(
                id="gmap_id",
                title="name",
                description=("description",),
                categories=("category",),
                own={"address": "address"},
            ),
        ),
    }
)
"""Layouts by name."""


# --- The first pass over a log: every row as a few numbers, so that millions of them fit into memory.
#
# Legend: n rows, U users, I items, F files.


T = TypeVar("T")

NOTHING = bytes(8)
"""Digest of a review without a text."""


@dataclass(frozen=True)
class Places(Generic[T]):
    """Where rows stand: position in the scan against file and row."""

    files: tuple[RowFile[T], ...]
    starts_F: NDArray[np.int64]
    """Position of each file's first row."""
    rows_n: NDArray[np.int64]

    def by_file(self, positions: NDArray[np.int64]) -> Iterator[tuple[RowFile[T], NDArray[np.int64]]]:
        """Each file with the rows that rising positions have in it."""
        bounds = np.searchsorted(positions, np.append(self.starts_F, len(self.rows_n)))
        for number, file in enumerate(self.files):
            yield file, self.rows_n[positions[bounds[number] : bounds[number + 1]]]

    def place(self, position: int) -> tuple[RowFile[T], int]:
        """File and row of a position."""
        number = int(np.searchsorted(self.starts_F, position, side="right")) - 1
        return self.files[number], int(self.rows_n[position])


@dataclass(frozen=True)
class Scan:
    """A log of n rows in file order; 44 bytes a row, 8 more with text digests."""

    places: Places[Review]
    users_n: NDArray[np.int32]
    items_n: NDArray[np.int32]
    users_U: NDArray[np.uint64]
    """Digest of each user's id."""
    items_I: NDArray[np.uint64]
    ratings_n: NDArray[np.float64]
    times_n: NDArray[np.int64]
    texts_n: NDArray[np.uint64] | None
    """Digest of each text, 0 for none; None when nobody asked for it."""

    def __len__(self) -> int:
        """How many rows."""
        return len(self.times_n)


@dataclass(frozen=True)
class FactIndex:
    """Which row tells about which item (or user): the first one about each."""

    places: Places[Fact]
    ids: NDArray[np.uint64]
    """Distinct digests, sorted."""
    positions: NDArray[np.int64]
    """Where each of them is told of."""


def digest(text: str) -> bytes:
    """64 bits of BLAKE2b.

    Ten million ids share one with a chance of 3 in a million; two such users would be filtered as one. Tables
    hold the ids themselves.
    """
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def scan_reviews(files: Sequence[RowFile[Review]], bad: BadRows, with_texts: bool) -> Scan:
    """Read and check every row once; `bad` counts what is not a row. About 15 us a row."""
    users, items, texts = bytearray(), bytearray(), bytearray()
    ratings, times, rows = array("d"), array("q"), array("q")
    starts = []
    for file in files:
        starts.append(len(rows))
        for row, review in file.rows(bad):
            users += digest(review.user)
            items += digest(review.item)
            ratings.append(review.rating)
            times.append(review.seconds)
            rows.append(row)
            if with_texts:
                texts += digest("\n".join(review.texts)) if review.texts else NOTHING
    user_codes, user_digests = _coded(users)
    item_codes, item_digests = _coded(items)
    return Scan(
        Places(tuple(files), np.array(starts, dtype=np.int64), np.frombuffer(rows, dtype=np.int64)),
        user_codes,
        item_codes,
        user_digests,
        item_digests,
        np.frombuffer(ratings, dtype=np.float64),
        np.frombuffer(times, dtype=np.int64),
        np.frombuffer(texts, dtype="<u8") if with_texts else None,
    )


def index_facts(files: Sequence[RowFile[Fact]], column: str, bad: BadRows) -> FactIndex:
    """Read and check every row about items (or users) once; a second one about the same is a bad row."""
    ids, rows, starts = bytearray(), array("q"), []
    for file in files:
        starts.append(len(rows))
        for row, fact in file.rows(bad):
            ids += digest(fact.id)
            rows.append(row)
    places = Places(tuple(files), np.array(starts, dtype=np.int64), np.frombuffer(rows, dtype=np.int64))
    digests = np.frombuffer(ids, dtype="<u8")
    unique, first = np.unique(digests, return_index=True)
    repeated = np.ones(len(digests), dtype=bool)
    repeated[first] = False
    for position in np.flatnonzero(repeated).tolist():
        file, row = places.place(position)
        bad.add(file.path, row, BadRow(column, "told of in an earlier row", "drop one of the two"))
    return FactIndex(places, unique, first)


def _coded(digests: bytearray) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """Numbers from 0 for digests, and the distinct digests by number; frees the buffer."""
    unique, codes = np.unique(np.frombuffer(bytes(digests), dtype="<u8"), return_inverse=True)
    digests.clear()
    return codes.astype(np.int32), unique
