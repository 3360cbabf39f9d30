"""Amazon Reviews 2023 and 2018, Yelp, Google Local: raw review files as they are published.

Sources: Amazon Reviews 2023 (Hou et al., 2024), Amazon Review Data 2018 (Ni et al., 2019), the Yelp Open Dataset,
Google Local Data 2021 (Li et al., 2022). Average ratings and counts of items are not read: they hold held-out reviews.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from forwhy.data.bad_rows import BadRow, BadRows
from forwhy.data.dataset import Dataset
from forwhy.data.sources.files import RowFile, clean_text, json_object
from forwhy.data.sources.reviews import Fact, Review, ReviewFilters, ReviewLog, id_of
from forwhy.data.values import MILLISECONDS
from forwhy.errors import UserError

Paths = Sequence[Path | str]

LATEST = 253_402_300_800
"""Seconds at which the year 10000 begins."""


@dataclass(frozen=True)
class Layout:
    """What the fields are called in a JSON row about a review, and in one about an item."""

    user: str
    item: str
    """The item's id, in both kinds of rows."""
    rating: str
    time: str
    """A number of seconds or milliseconds, or a date as text."""
    texts: Sequence[str]
    """Title or summary first; may be absent or null: many rate without a word."""
    title: str
    """This and the following are about items."""
    description: Sequence[str] = ()
    categories: Sequence[str] = ()
    own: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the items table, by our name."""

    def review(self, line: bytes) -> Review:
        """A row of a review file, its types checked; raises `BadRow`."""
        row = json_object(line)
        for column in self.texts:
            if type(row.get(column)) not in (str, type(None)):
                raise BadRow("not text", column, value=row[column])
        texts = tuple(row[column] for column in self.texts if row.get(column))
        user, item = (id_of(_value(row, column), column) for column in (self.user, self.item))
        return user, item, _number(row, self.rating), _seconds(row, self.time), texts

    def fact(self, line: bytes) -> Fact:
        """A row of a file about items, its types checked; raises `BadRow`."""
        row = json_object(line)
        for column in (self.title, *self.description, *self.categories, *self.own.values()):
            if not _is_text(row.get(column)):
                raise BadRow("neither text nor a list of texts", column, value=row[column])
        return id_of(_value(row, self.item), self.item), lambda: self._clean(row)

    def _clean(self, row: Mapping[str, Any]) -> dict[str, str]:
        """`title`, `description`, `categories` and own columns as plain text."""
        description = (clean_text(row.get(column)) for column in self.description)
        kinds = [row.get(column) for column in self.categories]
        named = [clean_text(name) for kind in kinds for name in (kind if isinstance(kind, list) else [kind])]
        return {
            "title": clean_text(row.get(self.title)),
            "description": " ".join(filter(None, description)),
            "categories": ", ".join(filter(None, dict.fromkeys(named))),
            **{ours: clean_text(row.get(theirs)) for ours, theirs in self.own.items()},
        }


def import_reviews(
    edition: str,
    reviews: Paths,
    meta: Paths = (),
    *,
    filters: ReviewFilters | None = None,
    name: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read raw review files and, if there are any, files of facts about the items (JSON lines, plain or gzip).

    Two passes: over all rows as numbers (100 bytes each), and for texts and ids of those that stay; 12 us a row.

    `edition` is a table of `layouts.toml`, or ``amazon``: 2023 or 2018, the first row tells which. Amazon's item is a
    `parent_asin` (2023) or `asin` (2018). Reviews of items that `meta` lacks are bad rows. `filters` say which reviews
    stay, and the split; nothing left is refused, as is the first bad row (by file, row, column, with a remedy) unless
    `skip_bad`: then they are counted, the first few named in `source`, and left out.
    """
    if not reviews:
        raise UserError(f"{edition}: no file of reviews; name at least one with --reviews")
    if edition == "amazon":
        files = (RowFile(Path(path), json_object) for path in reviews)
        first = next((row for file in files for _, row in file.rows(BadRows(skip=True))), {})
        edition = "amazon-2018" if "reviewerID" in first else "amazon-2023"
    layout = Layout(**tomllib.loads(Path(__file__).with_name("layouts.toml").read_text("utf-8"))[edition])
    log = ReviewLog(
        [RowFile(Path(path), layout.review) for path in reviews],
        {"user": layout.user, "item": layout.item},
        {"item": [RowFile(Path(path), layout.fact) for path in meta]} if meta else {},
    )
    label = name or Path(reviews[0]).name.partition(".")[0]
    return log.read(edition, label, filters or ReviewFilters(), skip_bad)


import_amazon = partial(import_reviews, "amazon")
import_yelp = partial(import_reviews, "yelp")
import_google = partial(import_reviews, "google")


# --- Values of a row. One that cannot be read is a `BadRow`.


def _value(row: Mapping[str, Any], column: str) -> Any:  # noqa: ANN401 - JSON is any of these
    if row.get(column) is None:
        raise BadRow("empty" if column in row else "missing", column)
    return row[column]


def _number(row: Mapping[str, Any], column: str) -> float:
    value = _value(row, column)
    if type(value) not in (int, float):
        raise BadRow("not a number", column, value=value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadRow("not a finite number", column)
    return number


def _seconds(row: Mapping[str, Any], column: str) -> int:
    """Whole seconds from a number of seconds or milliseconds, or from ``2018-07-07 22:09:11`` (UTC)."""
    value = row.get(column)
    if type(value) is str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            reason = "neither a number nor a date like 2018-07-07 22:09:11"
            raise BadRow(reason, column, value=value) from error
        seconds = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
    else:
        number = _number(row, column)
        seconds = int(number if abs(number) < MILLISECONDS else number / 1000)
    if not 0 <= seconds < LATEST:
        raise BadRow("no time after 1970 in seconds or milliseconds", column, value=value)
    return seconds


def _is_text(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_text(part) for part in value)
    return value is None or isinstance(value, str)
