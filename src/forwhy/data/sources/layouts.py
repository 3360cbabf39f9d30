"""Field names of published review files, and what a row of one must hold.

Sources: Amazon Reviews 2023 (Hou et al., 2024), Amazon Review Data 2018 (Ni et al., 2019), the Yelp Open Dataset,
Google Local Data 2021 (Li et al., 2022). Average ratings and counts in item facts are not read: they were
taken over all reviews, the held-out ones too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from forwhy.data.sources.cleaning import clean_text, plain_text
from forwhy.data.sources.lines import BadRow, json_object

__all__ = ["LAYOUTS", "Fact", "FactLayout", "Review", "ReviewLayout", "id_in", "number_in", "seconds_in"]

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
