"""A log of who took what, of any length, to a data set: scan it, choose rows, split them, fetch the chosen texts.

The first pass takes every row as a few numbers (52 bytes), so that the filters see the whole log at once; the second
fetches texts and ids of the rows that stay. Polars' own readers of JSON lines name no row, hence `files.RowFile`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import Any, Literal

import polars as pl
from pydantic import Field

from forwhy.atomic import file_sha256
from forwhy.columns import FILE, ROW, SIDES, SPLITS, Side
from forwhy.data.bad_rows import BadRow, BadRows
from forwhy.data.checks import LONGEST_ID, Duplicates
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sources.files import RowFile, is_cut, plain_text
from forwhy.data.sources.rows import batches
from forwhy.data.split import k_core, one_per, sample_users, split_by_time, split_last, split_pairs
from forwhy.errors import UserError
from forwhy.options import Options

Review = tuple[str, str, float, int, Sequence[str]]
"""User, item, rating (NaN without), Unix time in seconds (0 without), and what was written: unclean, title first."""
Fact = tuple[str, Callable[[], Mapping[str, Any]]]
"""An item or user, and a function that gives the other columns of its table."""


class ReviewFilters(Options):
    """Which reviews stay, in the order of the fields, and how they are split."""

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
    split: Literal["leave-one-out", "time", "random", "none"] | None = None
    """Each user's last row is test and the one before valid; or one cut through time for all, 80/10/10; or at
    random, 80/10/10; or `none`: all rows are training, for live use once the recipe is measured, whatever the files
    say. Not given: as the files say, else leave-one-out, or random when there are no times."""
    seed: int = Field(default=0, ge=0)
    """Of the sample of users and of the random split."""


@dataclass(frozen=True)
class ReviewLog:
    """Files of rows about who took what, and of facts about whom and what."""

    files: Sequence[RowFile[Review]]
    ids: Mapping[Side, str]
    """What the files call the ids."""
    facts: Mapping[Side, Sequence[RowFile[Fact]]]
    rated: bool = True
    timed: bool = True
    splits: Sequence[str] | None = None
    """Split of each file, when the files say so."""

    def read(self, importer: str, name: str, filters: ReviewFilters, skip_bad: bool) -> Dataset:
        """Two passes over the log and over the facts; see `published.import_reviews`."""
        check_filters(filters, self.rated, self.timed)
        bad = BadRows(skip_bad)
        known = {side: _scan_facts(files, self.ids[side], bad) for side, files in self.facts.items()}
        rows, steps = narrowed(self._steps(filters, known, bad))
        tables, how = self._tables(rows, filters)
        for side, facts in known.items():
            about = facts.filter(pl.col("id").is_in(rows[side].unique().implode()))
            told = _picked(self.facts[side], about)
            tables[f"{side}s"] = _table({f"{side}_id": id_, **columns()} for id_, columns in told)
        paths = [file.path for file in self.files]
        paths += [file.path for files in self.facts.values() for file in files]
        source = {
            "importer": importer,
            "files": [{"name": path.name, "sha256": file_sha256(path)} for path in paths],
            "filters": filters.model_dump(mode="json"),
            "steps": steps,
            "bad_rows": bad.document(),
            "split": {"interactions": how, "seed": filters.seed},
        }
        del rows, known  # before the tables are checked: half of the memory
        repeated: Duplicates = "keep" if filters.duplicates == "keep" else "error"
        return make_dataset(name, tables, source, duplicates=repeated)

    def _steps(
        self, filters: ReviewFilters, known: Mapping[Side, pl.DataFrame], bad: BadRows
    ) -> Iterator[tuple[str, pl.DataFrame]]:
        rows = _scan(self.files, bad, filters.identical_texts != "keep")
        if rows.is_empty():
            raise UserError(f"{self.files[0].path}: no rows that can be read; give a file with at least one")
        yield "read", rows
        for side, facts in known.items():
            told = rows[side].is_in(facts["id"].implode())
            wrong = BadRow(f"no row about this {side}", self.ids[side], f"add one to the {side} file")
            for file, row in rows.filter(~told).select("file", "row").iter_rows():
                bad.add(self.files[file].path, row, wrong)
            yield f"unknown {side}s", (rows := rows.filter(told))
        yield from filtered(rows, filters)

    def _tables(self, rows: pl.DataFrame, filters: ReviewFilters) -> tuple[dict[str, pl.DataFrame], str]:
        """Interactions, and reviews where there are texts; and how they were split."""
        reviews = ((user, item, _said(texts)) for user, item, _, _, texts in _picked(self.files, rows))
        paths = pl.Series(FILE, [str(file.path) for file in self.files], dtype=pl.Categorical)
        said = _table(reviews, dict.fromkeys(("user_id", "item_id", "text"), pl.String))
        said = said.with_columns(paths[rows["file"]], rows["row"].alias(ROW))
        if filters.split is None and self.splits is not None:
            splits, how = pl.Series("split", self.splits)[rows["file"]], "as given"
        else:
            splits, how = split_rows(rows, filters, self.timed)
        columns = {"timestamp": rows["time"]} if self.timed else {}
        columns |= {"rating": rows["rating"]} if self.rated else {}
        tables = {"interactions": said.drop("text").with_columns(splits, **columns)}
        said = said.filter(pl.col("text") != "")
        return tables | ({"reviews": said} if said.height else {}), how


# --- The first pass. A scanned row is: file (position among the files), row, user, item (digests), rating, time.

SCANNED = {
    "file": pl.Int32, "row": pl.Int64, "user": pl.UInt64, "item": pl.UInt64, "rating": pl.Float64, "time": pl.Int64,
    "text": pl.UInt64,
}  # fmt: skip


def digest(text: str) -> int:
    """64 bits of BLAKE2b: ten million ids share one, and are then filtered as one, with a chance of 3 in a million."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _scan(files: Sequence[RowFile[Review]], bad: BadRows, with_texts: bool) -> pl.DataFrame:
    """Every good row, checked, as numbers; `text` is 0 where there is none or nobody asks. About 15 us a row."""
    rows = (
        (place, row, digest(user), digest(item), rating, seconds, digest("\n".join(said)) if said else 0)
        for place, file in enumerate(files)
        for row, (user, item, rating, seconds, texts) in file.rows(bad)
        for said in [texts if with_texts else ()]
    )
    return _table(rows, SCANNED)


def _scan_facts(files: Sequence[RowFile[Fact]], column: str, bad: BadRows) -> pl.DataFrame:
    """File and row of the facts about each `id` (a digest); a second row about the same is a bad one."""
    rows = ((place, row, digest(id_)) for place, file in enumerate(files) for row, (id_, _) in file.rows(bad))
    frame = _table(rows, {"file": pl.Int32, "row": pl.Int64, "id": pl.UInt64})
    first = frame["id"].is_first_distinct()
    for place, row, _ in frame.filter(~first).iter_rows():
        bad.add(files[place].path, row, BadRow("told of in an earlier row", column, "drop one of the two"))
    return frame.filter(first)


def _table(rows: Iterable[Any], schema: pl.Schema | Mapping[str, Any] | None = None) -> pl.DataFrame:
    """A table of rows (tuples or dicts), of which only some at once are Python objects."""
    frames = [] if schema is None else [pl.DataFrame(schema=schema)]
    frames += [pl.DataFrame(some, schema, orient="row", infer_schema_length=None) for some in batches(rows)]
    return pl.concat(frames, how="vertical_relaxed")


def id_of(value: object, column: str) -> str:
    """An id as text: 12 and "12" are the same one, as in `data.ids.Ids`; raises `BadRow`."""
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        raise BadRow("not an id", column, value=value)
    if not value.strip() or value.lower() == "nan":
        raise BadRow("empty", column)
    if len(value) > LONGEST_ID:
        raise BadRow(f"an id of more than {LONGEST_ID} characters", column, value=value)
    if is_cut(value):
        raise BadRow("half of a surrogate pair in an id", column, value=value)
    return value


# --- Choosing rows.


def check_filters(filters: ReviewFilters, rated: bool, timed: bool) -> None:
    """Refuse what rows without ratings or times, or these options together, cannot do."""
    if filters.users is not None and filters.share is not None:
        raise UserError("--users and --sample both say how many users to draw; give one")
    if filters.min_rating is not None and not rated:
        raise UserError("--min-rating: there are no ratings; leave it out")
    if not timed and (filters.since or filters.until or filters.split in ("leave-one-out", "time")):
        raise UserError("--since, --until and --split by time: there are no times; use --split random")


def narrowed(steps: Iterable[tuple[str, pl.DataFrame]]) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """What the last step leaves, and an account of every step: rows, dropped ones, users, items."""
    rows, told = pl.DataFrame(), list[dict[str, Any]]()
    for step, left in steps:
        if left.is_empty():
            raise UserError(f"{step}: no row is left; relax this filter or give more rows")
        dropped = rows.height - left.height if told else 0
        counts = {f"{side}s": left[side].n_unique() for side in SIDES}
        told.append({"step": step, "rows": left.height, "dropped": dropped, **counts})
        rows = left
    return rows, told


def split_rows(rows: pl.DataFrame, filters: ReviewFilters, timed: bool) -> tuple[pl.Series, str]:
    """A split for each row by user and time, and how it was made."""
    users, times = rows["user"].to_numpy(), rows["time"].to_numpy()
    if filters.split == "none":
        return pl.repeat(SPLITS[0], rows.height, eager=True).alias("split"), "none: all rows are training"
    if filters.split == "random" or (filters.split is None and not timed):
        return split_pairs(len(users), filters.seed, keep=users), "80/10/10, seeded"
    if filters.split == "time":
        return split_by_time(times), "one cut through time, 80/10/10"
    return split_last(users, times), "last test, the one before valid, by user"


def filtered(rows: pl.DataFrame, filters: ReviewFilters) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every filter that is asked for, in the order of its field, with the rows that it leaves."""
    time = pl.col("time")
    if filters.since is not None:
        yield f"since {filters.since}", (rows := rows.filter(time >= pl.lit(filters.since).dt.epoch("s")))
    if filters.until is not None:
        yield f"until {filters.until}", (rows := rows.filter(time < pl.lit(filters.until).dt.epoch("s")))
    if (which := filters.duplicates) in ("first", "last"):
        yield f"{which} of each pair", (rows := rows.filter(one_per(rows, SIDES, which)))
    if filters.identical_texts != "keep":
        keys = ("user", "text") if filters.identical_texts == "user" else ("text",)
        yield "identical texts", (rows := rows.filter(one_per(rows, keys, "first") | (rows["text"] == 0)))
    if filters.min_rating is not None:
        rated = pl.col("rating") >= filters.min_rating
        yield f"rating {filters.min_rating:g} or more", (rows := rows.filter(rated))
    if filters.users is not None or filters.share is not None:
        users = rows["user"].unique()
        count = filters.users or max(1, round((filters.share or 1.0) * len(users)))
        drawn = sample_users(users, count, filters.seed)
        yield "sample of users", (rows := rows.filter(pl.col("user").is_in(drawn.implode())))
    if filters.core > 1:
        yield f"{filters.core}-core", k_core(rows, filters.core)


# --- The second pass.


def _picked(files: Sequence[RowFile[Any]], rows: pl.DataFrame) -> Iterator[Any]:
    for place, file in enumerate(files):
        yield from file.pick(rows.filter(pl.col("file") == place)["row"].to_numpy())


def _said(texts: Sequence[str]) -> str:
    """One line of plain text; a title that the text begins with is not said twice."""
    *before, text = [plain_text(part) for part in texts] or [""]
    title = " ".join(before)
    if not title or text.startswith(title.rstrip(".…")):
        return text
    return f"{title}{'' if title[-1] in '.!?…' else '.'} {text}".strip()
