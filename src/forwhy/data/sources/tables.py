"""Plain tables (CSV, JSON lines, parquet, a database's rows) under anybody's column names."""

import difflib
import logging
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, filterfalse
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
from numpy.typing import NDArray
from polars import selectors
from pydantic import Field

from forwhy.atomic import file_sha256
from forwhy.columns import FILE, KEYS, OPEN_TABLES, PAIR, ROW, SIDES, TABLES, TERMS, Kind
from forwhy.data.bad_rows import BadRows
from forwhy.data.checks import COUNTED, Duplicates, RawTable, about, as_terms, lacking, own_columns, typed
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sources.files import clean_text
from forwhy.data.sources.headers import guess
from forwhy.data.sources.reviews import ReviewFilters, check_filters, filtered, narrowed, split_rows
from forwhy.data.sources.rows import blocks, with_origin
from forwhy.data.split import FRACTIONS, carve_valid, split_pairs
from forwhy.data.values import date_format
from forwhy.errors import UserError
from forwhy.options import checked

log = logging.getLogger(__name__)

NONE = "-"
"""Their name of a column that is to be left out, whatever fits."""
LATER = ("split", "rank")
"""Columns that are made here where a file has none."""
TEXTS = ("title", "brand", "description", "categories", "attributes", "text", "phrase")
"""Columns that lose their HTML and the brackets of lists."""
UNCOUNTED: Sequence[Kind] = [*filterfalse(COUNTED.__contains__, get_args(Kind))]
Rows = Mapping[str, tuple[str, Iterator[pl.DataFrame]]]
MARKED = r"<[A-Za-z/!]|&[#A-Za-z]|^\s*\["


class TableOptions(ReviewFilters):
    """How plain tables are read, which rows stay, and how they are split."""

    duplicates: Literal["first", "last", "keep", "error"] = "first"  # type: ignore[assignment]
    """Which of several interactions of one user with one item stays: the first or the last by time, all (`keep`), or
    none may be repeated (`error`). Of other tables' repeated rows the first stays, or `error` refuses them too."""
    columns: Mapping[str, str] = Field(default_factory=dict)
    """Their column name by ours, such as ``{"interactions.user_id": "customer"}``, or ``{"user_id": "customer"}`` for
    all tables that have it; ``-`` says that there is none. What is not given is guessed."""
    unknown_ids: Literal["error", "allow"] = "error"
    """Ids that another table lacks: `error` refuses them; `allow` keeps users and items of the interactions without
    facts, and drops other tables' rows about anyone else."""
    date_format: str | None = None
    """How days are written, such as `%d/%m/%Y`; found out when not given."""
    validation: float = Field(default=FRACTIONS[1], ge=0, lt=1)
    """Share of the train rows that become valid when a file has train and test only."""
    skip_bad: bool = False
    """Leave rows out that cannot be read: counted, the first few named."""


def import_tables(
    interactions: Path | str,
    items: Path | str | None = None,
    users: Path | str | None = None,
    reviews: Path | str | None = None,
    explanations: Path | str | None = None,
    intents: Path | str | None = None,
    profiles: Path | str | None = None,
    *,
    name: str | None = None,
    **options: Any,  # noqa: ANN401 - fields of TableOptions
) -> Dataset:
    """Read one file per table (`columns.TABLES` says what each holds); the extension names the format.

    Interactions without a `split`: each user's last one is test and the one before valid or, without times, 80/10/10 at
    random (every user keeps one in train); with train and test only, valid is carved out of train. An explanation
    without a split has that of its interaction; if one of them has no interaction, all explanations are split 80/10/10.
    Intents without `rank` are ranked in file order. Ratings may be empty; reviews, explanations and profiles without
    a text are left out. Interactions without ratings take those of the reviews. Memory: 130 bytes an interaction.

    `items` and `users`, when given, say which exist. The label is the interactions' folder by default; `options` are
    fields of `TableOptions`, such as ``columns={"interactions.user_id": "who"}`` or ``min_rating=4``. What is wrong is
    told by file, row (the first row of data is 1), column and remedy.
    """
    given = locals()  # the parameters that are called as tables are
    paths = {table: Path(given[table]) for table in TABLES if given.get(table) is not None}
    chosen = checked(TableOptions, options, "")
    bad = BadRows(chosen.skip_bad)
    rows = {table: (str(path), blocks(path, bad)) for table, path in paths.items()}

    def source() -> dict[str, Any]:
        files = {table: {"name": path.name, "sha256": file_sha256(path)} for table, path in paths.items()}
        return {"importer": "tables", "files": files}

    return read_tables(name or paths["interactions"].absolute().parent.name, rows, chosen, bad, source)


def read_tables(
    name: str, rows: Rows, options: TableOptions, bad: BadRows, source: Callable[[], Mapping[str, Any]]
) -> Dataset:
    """A data set of `rows` by table: their place and numbered blocks of them; `source` is asked for in the end."""
    heads = {table: (place, next(left), left) for table, (place, left) in rows.items()}
    names = _names(options.columns, {table: (place, head) for table, (place, head, _) in heads.items()})
    counts, frames = Counter[str](), dict[str, pl.DataFrame]()
    for table, (place, head, left) in heads.items():
        first = RawTable(table, head, names[table], bad, options.date_format)
        frames[table] = _read(first, place, left, counts)
    _rate(frames)
    if options.duplicates != "error":
        _once(frames, counts)
    if options.unknown_ids == "allow":
        _allow_unknown(frames, counts)
    steps, how = _filter(frames, options, counts)
    notes = {note: count for note, count in counts.items() if count}
    for note, count in notes.items():
        log.warning("%s: %d", note, count)
    record = {
        **source(),
        "columns": {f"{table}.{ours}": it for table, found in names.items() for ours, it in found.items()},
        "filters": options.model_dump(mode="json", exclude={"columns"}),
        "steps": steps,
        "bad_rows": bad.document(),
        "split": how | {"seed": options.seed},
        "notes": notes,
    }
    repeated: Duplicates = "error" if options.duplicates == "error" else "keep"
    return make_dataset(name, frames, record, names=names, duplicates=repeated)


# --- Whose column is whose


def _names(
    given: Mapping[str, str], heads: Mapping[str, tuple[str, pl.DataFrame]]
) -> dict[str, dict[str, str]]:
    """Their names by table and ours, given or guessed; what is missing in all tables is told at once."""
    wanted = _wanted(given, list(heads))
    found: dict[str, dict[str, str]] = {}
    missing, remedies = list[str](), list[str]()
    for table, (place, head) in heads.items():
        columns = own_columns(head)
        has = ", ".join(columns)
        for ours, theirs in wanted[table].items():
            if theirs not in (*columns, NONE):
                wrong = f"no column {theirs!r} to read as {ours} (it has: {has})"
                raise UserError(f"{place}: {wrong}; correct the mapping")
        taken = {ours: theirs for other in found.values() for ours, theirs in other.items()}
        named = wanted[table] | guess(table, place, columns, taken, wanted[table])
        found[table] = named = {ours: theirs for ours, theirs in named.items() if theirs != NONE}
        if absent := lacking(table, (*named, *LATER)):
            missing.append(f"{place}: no column for {' and '.join(absent)} (it has: {has})")
            free = [column for column in columns if column not in named.values()]
            pairs = zip(absent, free, strict=False)
            remedies += [f"--map {table}.{ours}={shlex.quote(theirs)}" for ours, theirs in pairs]
        elif any(ours != theirs for ours, theirs in named.items()):
            read = ", ".join(f"{ours} = {theirs}" for ours, theirs in named.items())
            log.info("%s: %s (another: --map %s.OURS=THEIRS)", place, read, table)
    if missing:
        remedy = f"say which it is, e.g. {' '.join(remedies)}" if remedies else "add it"
        raise UserError(f"{'; '.join(missing)}; {remedy}")
    return found


def _wanted(given: Mapping[str, str], tables: list[str]) -> dict[str, dict[str, str]]:
    """The caller's mapping by table; a key that names no column is refused with the nearest."""
    known = [f"{table}.{column.name}" for table, listed in TABLES.items() for column in listed]
    names: dict[str, dict[str, str]] = {table: {} for table in tables}
    for key, theirs in given.items():
        table, _, ours = key.rpartition(".")
        concerned = [it for it in tables if f"{it}.{ours}" in known and table in ("", it)]
        if concerned:
            names |= {it: names[it] | {ours: theirs} for it in concerned}
        elif key in known:
            wrong = f"no file given for {table}; give one or drop the mapping"
            raise UserError(f"column mapping {key!r}: {wrong}")
        else:
            near = difflib.get_close_matches(key, [*known, *(it.partition(".")[2] for it in known)], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"write OURS=THEIRS, e.g. {known[0]}=user"
            raise UserError(f"column mapping {key!r}: no such column; {hint}")
    return names


def _read(first: RawTable, place: str, left: Iterator[pl.DataFrame], notes: Counter[str]) -> pl.DataFrame:
    """A table's good rows under our names and with our types; how numbers are written is decided for whole columns."""
    names, days, parts = first.names, first.days, []
    for block in chain([first.frame], left):
        frame = _ours(first.name, block, names)
        if "text" in names:
            told = frame.filter(replace(first, frame=frame).text("text").str.contains(r"\S"))
            notes[f"{first.name}: rows without a text, left out"] += frame.height - told.height
            frame = told
        parts.append(typed(replace(first, frame=with_origin(frame, place)), UNCOUNTED).frame)
    whole = pl.concat(parts, how="diagonal_relaxed")
    if "timestamp" in names:
        days = date_format(whole["timestamp"], f"{place}: column {names['timestamp']!r}", days)
    whole = typed(replace(first, frame=whole, days=days), COUNTED).frame
    if whole.is_empty():
        raise UserError(f"{place}: no row is left; give a file with at least one good row")
    return whole


def _ours(table: str, block: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """A block under our names: mapped columns, and the caller's own where the table keeps them; clean texts."""
    known = {column.name for column in TABLES[table]}
    own = [column for column in block.columns if column not in (*names.values(), *known, ROW)]
    mapped = [pl.col(theirs).alias(ours) for ours, theirs in names.items() if theirs in block.columns]
    frame = block.select(ROW, *mapped, *(own if table in OPEN_TABLES else ()))
    if table == "items":  # before their texts are cleaned: a mark that JSON escapes would end its text
        frame = frame.with_columns(map(as_terms, frame.select(selectors.by_name(*TERMS, require_all=False))))
    for text in frame.select(selectors.string() & selectors.by_name(*TEXTS, require_all=False)):
        marked = text.str.contains(MARKED).fill_null(False)
        cleaned = pl.Series(map(clean_text, text.filter(marked)), dtype=pl.String)
        frame = frame.with_columns(text.clone().scatter(marked.arg_true(), cleaned))
    return frame


# --- What becomes of the tables together; all of these change `frames`


def _rate(frames: dict[str, pl.DataFrame]) -> None:
    """Gives interactions without ratings those that stand in the reviews."""
    said, edges = frames.get("reviews", pl.DataFrame()), frames["interactions"]
    if "rating" in said.columns:
        ratings = said.drop_nulls("rating").unique(PAIR, keep="last").select(*PAIR, "rating")
        if "rating" not in edges.columns:
            frames["interactions"] = edges.join(ratings, on=PAIR, how="left", maintain_order="left")


def _once(frames: dict[str, pl.DataFrame], notes: Counter[str]) -> None:
    for table in frames.keys() & KEYS.keys() - {"interactions"}:
        once = frames[table].unique(list(KEYS[table]), keep="first", maintain_order=True)
        notes[f"{table}: repeated rows, of which the first is kept"] += frames[table].height - once.height
        frames[table] = once


def _allow_unknown(frames: dict[str, pl.DataFrame], notes: Counter[str]) -> None:
    """Completes `items` and `users`, drops rows about strangers."""
    for side in SIDES:
        key, home = f"{side}_id", f"{side}s"
        seen = frames["interactions"].select(key, FILE, ROW).unique(key, keep="first", maintain_order=True)
        if home in frames:
            missing = seen.join(frames[home].select(key), on=key, how="anti", maintain_order="left")
            if missing.height < seen.height:
                frames[home] = pl.concat([frames[home], missing], how="diagonal_relaxed")
                notes[f"{home} in interactions only, kept without facts"] += missing.height
        known = frames.get(home, seen)[key].unique()
        for table in sorted(frames.keys() - {home, "interactions"}):
            strange = about(frames[table], side, known, others=True)
            if not strange.all():
                frames[table] = frames[table].filter(~strange)
                notes[f"{table}: rows about unknown {side}s, dropped"] += int(strange.sum())


def _filter(
    frames: dict[str, pl.DataFrame], options: TableOptions, notes: Counter[str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Filters all tables and splits what is left; an account of the steps, and how each table was split."""
    edges = frames["interactions"]
    rated, timed = ("rating" in edges.columns), ("timestamp" in edges.columns)
    check_filters(options, rated, timed)
    rows = edges.select(
        *(pl.col(f"{side}_id").hash().alias(side) for side in SIDES),
        rating=pl.col("rating").fill_null(math.nan) if rated else pl.lit(math.nan),
        time=pl.col("timestamp") if timed else pl.lit(0, pl.Int64),
        place=pl.int_range(pl.len(), dtype=pl.UInt32),
    )
    rows, steps = narrowed(chain([("read", rows)], filtered(rows, options)))
    how: dict[str, str] = {}
    if rows.height < edges.height:
        frames["interactions"] = edges[rows["place"]]
        _follow(frames, edges, notes)
        edges = frames["interactions"]
    if options.split is None and "split" in edges.columns:
        splits, how["interactions"] = _as_given(edges["split"], options, rows["user"].to_numpy())
    else:
        splits, how["interactions"] = split_rows(rows, options, timed)
    frames["interactions"] = edges.with_columns(splits)
    if "explanations" in frames:
        frames["explanations"], how["explanations"] = _explained(frames, options)
    if "intents" in frames and "rank" not in frames["intents"].columns:
        rank = pl.int_range(1, pl.len() + 1).over("side", "entity_id")
        frames["intents"] = frames["intents"].with_columns(rank=rank)
    return steps, how


def _follow(frames: dict[str, pl.DataFrame], before: pl.DataFrame, notes: Counter[str]) -> None:
    left = frames["interactions"]
    pairs = before.select(PAIR).join(left, on=PAIR, how="anti")
    keys = {side: f"{side}_id" for side in SIDES}
    gone = {side: before.select(key).unique().join(left, key, "anti")[key] for side, key in keys.items()}
    for table in sorted(frames.keys() - {"interactions"}):
        frame = frames[table]
        if set(PAIR) <= set(frame.columns):
            frame = frame.join(pairs, on=PAIR, how="anti", maintain_order="left")
        for side, ids in gone.items():
            frame = frame.filter(~about(frame, side, ids))
        notes[f"{table}: rows about what the filters dropped"] += frames[table].height - frame.height
        frames[table] = frame


def _explained(frames: Mapping[str, pl.DataFrame], options: TableOptions) -> tuple[pl.DataFrame, str]:
    told, splits = frames["explanations"], frames["interactions"].select(*PAIR, "split")
    if "split" in told.columns and options.split != "none":
        names, how = _as_given(told["split"], options, None)
        return told.with_columns(names), how
    if options.split == "none":
        return told.with_columns(split=pl.lit("train")), "none: all rows are training"
    followed = told.join(splits.unique(PAIR, keep="first"), on=PAIR, how="left", maintain_order="left")
    if followed["split"].null_count():
        return told.with_columns(split_pairs(told.height, options.seed)), "80/10/10, seeded"
    return followed, "that of their interaction"


def _as_given(splits: pl.Series, options: TableOptions, owners: NDArray[Any] | None) -> tuple[pl.Series, str]:
    """A file's own splits; train and test alone give up a share of train as valid."""
    if "valid" in set(splits) or options.validation == 0:
        return splits, "as given"
    names = carve_valid(splits, options.validation, options.seed, owners)
    return names, f"as given, {options.validation:.0%} of train carved out as valid"
