"""Amazon Reviews 2023 and 2018, Yelp, Google Local: raw review files as they are published."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forwhy.data.dataset import Dataset
from forwhy.data.sources.layouts import LAYOUTS
from forwhy.data.sources.lines import BadRows, RowFile, json_object
from forwhy.data.sources.reviews import FactFiles, ReviewFilters, ReviewLog
from forwhy.errors import UserError

__all__ = ["import_amazon", "import_google", "import_yelp"]

Paths = Sequence[Path | str]


def import_amazon(
    reviews: Paths,
    meta: Paths = (),
    *,
    filters: ReviewFilters | None = None,
    name: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read Amazon Reviews 2023 or 2018 (JSON lines, plain or gzip); the first row tells which.

    An item is a `parent_asin` (2023) or `asin` (2018). Two passes: one over all rows as numbers (100
    bytes each at most), one for the texts and ids of the rows that stay. About 12 us a row.

    Args:
        reviews: Files of reviews.
        meta: Files of item facts; when given, reviews of items they lack are bad rows.
        filters: Which reviews stay, and the split.
        name: Label; the first file's by default.
        skip_bad: Count bad rows, name the first few in `source`, and leave them out.

    Raises:
        UserError: the first bad row (file, row, column, remedy); a missing or empty file; nothing is left.
    """
    edition = "amazon-2018" if "reviewerID" in _first_row(reviews) else "amazon-2023"
    return _import(edition, reviews, meta, filters, name, skip_bad)


def import_yelp(
    reviews: Paths,
    meta: Paths = (),
    *,
    filters: ReviewFilters | None = None,
    name: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read Yelp's review and business files (JSON lines, plain or gzip); see `import_amazon`."""
    return _import("yelp", reviews, meta, filters, name, skip_bad)


def import_google(
    reviews: Paths,
    meta: Paths = (),
    *,
    filters: ReviewFilters | None = None,
    name: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read Google Local's review and meta files (JSON lines, plain or gzip); see `import_amazon`."""
    return _import("google", reviews, meta, filters, name, skip_bad)


def _import(
    edition: str, reviews: Paths, meta: Paths, filters: ReviewFilters | None, name: str | None, skip_bad: bool
) -> Dataset:
    if not reviews:
        raise UserError(f"{edition}: no file of reviews; name at least one with --reviews")
    layout = LAYOUTS[edition]
    facts = FactFiles(
        [RowFile(Path(path), layout.facts.parse) for path in meta], layout.facts.id, layout.facts.clean
    )
    files = [RowFile(Path(path), layout.parse) for path in reviews]
    log = ReviewLog(
        edition, files, {"user": layout.user, "item": layout.item}, {"item": facts} if meta else {}
    )
    return log.read(name or files[0].path.name.partition(".")[0], filters or ReviewFilters(), skip_bad)


def _first_row(reviews: Paths) -> dict[str, Any]:
    """The first readable row; empty when there is none, which the import itself will say."""
    files = (RowFile(Path(path), json_object) for path in reviews)
    return next((row for file in files for _, row in file.rows(BadRows(skip=True))), {})
