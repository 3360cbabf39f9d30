"""Raw reviews to a data set: scan, choose rows, split, then fetch texts and ids of the chosen rows only."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from forwhy.artifact import file_sha256
from forwhy.columns import FILE, ROW, Side
from forwhy.data.checks import Duplicates
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sources.layouts import LAYOUTS, Fact, FactIndex, Review, Scan, index_facts, scan_reviews
from forwhy.data.sources.lines import BadRow, BadRows, RowFile, json_object
from forwhy.data.split import k_core, one_per, sample_users, split_by_time, split_last, split_pairs
from forwhy.errors import UserError

Positions = NDArray[np.int64]

AT_ONCE = 20_000
"""Rows of texts held as Python objects before they become columns."""


class ReviewFilters(BaseModel):
    """Which reviews stay, in the order of the fields, and how they are split."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    since: date | None = None
    """First day (UTC) that counts."""

    until: date | None = None
    """First day (UTC) that counts no more."""

    duplicates: Literal["first", "last", "keep"] = "last"
    """Which of several reviews of one item by one user stays, by time: the first opinion, the last, or all."""

    identical_texts: Literal["keep", "user", "anyone"] = "keep"
    """Whether the earliest of several reviews with the same text stays alone: of one user's, or of all. Reviews
    without a text are not compared."""

    min_rating: float | None = None
    """Least rating, in the file's own unit; those below are no interaction."""

    users: int | None = Field(default=None, ge=1)
    """How many users are drawn."""

    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the users that are drawn; not together with `users`."""

    core: int = Field(default=1, ge=1)
    """Least number of rows of each user and item in what is left, taken away round by round; the last filter, so
    fewer than the drawn users may remain."""

    split: Literal["leave-one-out", "time", "random"] | None = None
    """Each user's last row is test and the one before valid; or one cut through time for all, 80/10/10; or at
    random, 80/10/10. None: as the files say, else leave-one-out, or random when there are no times."""

    seed: int = Field(default=0, ge=0)
    """Of the sample of users and of the random split."""


@dataclass(frozen=True)
class FactFiles:
    """Files about items or users."""

    files: Sequence[RowFile[Fact]]
    column: str
    """Their name of the id."""
    clean: Callable[[Fact], Mapping[str, Any]]


@dataclass(frozen=True)
class ReviewLog:
    """Files of rows about who took what, and of facts about whom and what."""

    importer: str
    files: Sequence[RowFile[Review]]
    columns: Mapping[Side, str]
    """Their names of the ids."""
    facts: Mapping[Side, FactFiles]
    rated: bool = True
    timed: bool = True
    splits: Sequence[str] | None = None
    """Split of each file, when the files say so."""

    def read(self, name: str, filters: ReviewFilters, skip_bad: bool) -> Dataset:
        """Two passes over the log and over the facts; see `published.import_amazon`."""
        self._check(filters)
        tables, source = self._read(filters, skip_bad)  # the scan is freed before tables are checked
        repeated: Duplicates = "keep" if filters.duplicates == "keep" else "error"
        return make_dataset(name, tables, source, duplicates=repeated)

    def _read(self, filters: ReviewFilters, skip_bad: bool) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
        bad = BadRows(skip_bad)
        known = {side: index_facts(facts.files, facts.column, bad) for side, facts in self.facts.items()}
        scan = scan_reviews(self.files, bad, filters.identical_texts != "keep")
        if not len(scan):
            raise UserError(f"{self.files[0].path}: no rows that can be read; give a file with at least one")
        choice = _Choice(scan)
        choice.step("read", np.ones(len(scan), dtype=bool))
        for side, index in known.items():
            self._drop_strangers(choice, side, index, bad)
        _choose(choice, filters)
        splits, how = self._split(choice, filters)
        tables = self._tables(choice, splits)
        tables |= {f"{side}s": self._facts(choice, side, index) for side, index in known.items()}
        return tables, {
            "importer": self.importer,
            "files": [{"name": path.name, "sha256": file_sha256(path)} for path in self._paths()],
            "filters": filters.model_dump(mode="json"),
            "steps": choice.steps,
            "bad_rows": bad.document(),
            "split": {"interactions": how, "seed": filters.seed},
        }

    def _paths(self) -> list[Path]:
        of_facts = (file.path for facts in self.facts.values() for file in facts.files)
        return [*(file.path for file in self.files), *of_facts]

    def _check(self, filters: ReviewFilters) -> None:
        """Refuse what these files or these options cannot do, before anything is read."""
        if filters.users is not None and filters.share is not None:
            raise UserError("--users and --sample both say how many users to draw; give one")
        if filters.min_rating is not None and not self.rated:
            raise UserError("--min-rating: the files have no ratings; leave it out")
        if not self.timed and (filters.since or filters.until or filters.split in ("leave-one-out", "time")):
            raise UserError(
                "--since, --until and --split by time: the files have no times; use --split random"
            )

    def _drop_strangers(self, choice: "_Choice", side: Side, index: FactIndex, bad: BadRows) -> None:
        """Rows about users or items that the files of facts do not know are bad ones."""
        scan = choice.scan
        ids, codes = (scan.users_U, scan.users_n) if side == "user" else (scan.items_I, scan.items_n)
        known = np.isin(ids, index.ids)[codes[choice.kept]]
        for position in choice.kept[~known].tolist():
            file, row = scan.places.place(position)
            wrong = BadRow(self.columns[side], f"no row about this {side}", f"add one to the {side} file")
            bad.add(file.path, row, wrong)
        choice.step(f"unknown {side}s", known)

    def _split(self, choice: "_Choice", filters: ReviewFilters) -> tuple[NDArray[np.str_], str]:
        scan, kept = choice.scan, choice.kept
        kind = filters.split
        if kind is None and self.splits is not None:
            bounds = np.searchsorted(scan.places.starts_F, kept, side="right") - 1
            return np.array(self.splits)[bounds], "as given"
        users = scan.users_n[kept].astype(np.int64)
        if kind == "random" or (kind is None and not self.timed):
            return split_pairs(len(kept), filters.seed, keep=users), "80/10/10, seeded"
        if kind == "time":
            return split_by_time(scan.times_n[kept]), "one cut through time, 80/10/10"
        return split_last(users, scan.times_n[kept]), "last test, the one before valid, by user"

    def _tables(self, choice: "_Choice", splits: NDArray[np.str_]) -> dict[str, pl.DataFrame]:
        """Interactions, and reviews where there are texts."""
        scan, kept = choice.scan, choice.kept
        frames, paths, rows = [], [], []
        for file, wanted in scan.places.by_file(kept):
            frames += [_text_frame(some) for some in _chunks(file.pick(wanted))]
            paths.append(pl.repeat(str(file.path), len(wanted), dtype=pl.Categorical, eager=True))
            rows.append(wanted)
        said = pl.concat(frames).with_columns(
            pl.concat(paths).alias(FILE), pl.Series(ROW, np.concatenate(rows))
        )
        columns = {"split": pl.Series(splits.tolist(), dtype=pl.String)}
        if self.timed:
            columns["timestamp"] = pl.Series(scan.times_n[kept])
        if self.rated:
            columns["rating"] = pl.Series(scan.ratings_n[kept])
        interactions = said.drop("text").with_columns(**columns)
        reviews = said.filter(pl.col("text") != "")
        return {"interactions": interactions} | ({"reviews": reviews} if reviews.height else {})

    def _facts(self, choice: "_Choice", side: Side, index: FactIndex) -> pl.DataFrame:
        """One row about each user or item that is left."""
        scan, facts = choice.scan, self.facts[side]
        ids, codes = (scan.users_U, scan.users_n) if side == "user" else (scan.items_I, scan.items_n)
        left = ids[np.unique(codes[choice.kept])]
        positions = np.sort(index.positions[np.searchsorted(index.ids, left)])
        picked = (fact for file, wanted in index.places.by_file(positions) for fact in file.pick(wanted))
        rows = ({f"{side}_id": fact.id, **facts.clean(fact)} for fact in picked)
        return pl.concat(
            [pl.DataFrame(some, infer_schema_length=None) for some in _chunks(rows)], how="vertical_relaxed"
        )


@dataclass
class _Choice:
    """The rows that are left, and how they came to be."""

    scan: Scan
    steps: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept: Positions = np.arange(len(self.scan))

    def step(self, name: str, mask: NDArray[np.bool_]) -> None:
        """Keep the rows under the mask; refuses to keep none."""
        self.kept = self.kept[mask]
        if not len(self.kept):
            raise UserError(f"{name}: no review is left; relax this filter or give more files")
        users, items = (self.of(numbers) for numbers in (self.scan.users_n, self.scan.items_n))
        counts = {"users": _distinct(users), "items": _distinct(items)}
        self.steps.append({"step": name, "rows": len(self.kept), "dropped": int((~mask).sum()), **counts})

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values of the rows that are left."""
        return values[self.kept]


def _choose(choice: _Choice, filters: ReviewFilters) -> None:
    """Every filter that is asked for, in the order of `ReviewFilters`."""
    scan = choice.scan
    for name, day in (("since", filters.since), ("until", filters.until)):
        if day is not None:
            start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
            later = choice.of(scan.times_n) >= start
            choice.step(f"{name} {day}", later if name == "since" else ~later)
    if filters.duplicates != "keep":
        pairs = (choice.of(scan.users_n), choice.of(scan.items_n))
        one = one_per(pairs, choice.of(scan.times_n), filters.duplicates)
        choice.step(f"{filters.duplicates} of each pair", one)
    if scan.texts_n is not None:
        choice.step("identical texts", _distinct_texts(choice, scan.texts_n, filters.identical_texts))
    if filters.min_rating is not None:
        enough = choice.of(scan.ratings_n) >= filters.min_rating
        choice.step(f"rating {filters.min_rating:g} or more", enough)
    if filters.users is not None or filters.share is not None:
        choice.step("sample of users", _of_drawn_users(choice, filters))
    if filters.core > 1:
        core = k_core(choice.of(scan.users_n), choice.of(scan.items_n), filters.core)
        choice.step(f"{filters.core}-core", core)


def _distinct_texts(choice: _Choice, texts_n: NDArray[np.uint64], among: str) -> NDArray[np.bool_]:
    texts, users = choice.of(texts_n), choice.of(choice.scan.users_n)
    first = one_per((users, texts) if among == "user" else (texts,), choice.of(choice.scan.times_n), "first")
    return np.asarray(first | (texts == 0), dtype=bool)


def _of_drawn_users(choice: _Choice, filters: ReviewFilters) -> NDArray[np.bool_]:
    users = choice.of(choice.scan.users_n)
    left = np.unique(users)
    count = filters.users if filters.users is not None else max(1, round((filters.share or 1.0) * len(left)))
    drawn = left[sample_users(choice.scan.users_U[left], count, filters.seed)]
    return np.asarray(np.isin(users, drawn), dtype=bool)


def _distinct(numbers: NDArray[np.int32]) -> int:
    return int(np.count_nonzero(np.bincount(numbers)))


def _chunks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(rows)
    while some := list(islice(left, AT_ONCE)):
        yield some


def _text_frame(some: list[Review]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": [review.user for review in some],
            "item_id": [review.item for review in some],
            "text": [review.text() for review in some],
        }
    )


# --- Amazon Reviews 2023 and 2018, Yelp, Google Local: raw review files as they are published.


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
