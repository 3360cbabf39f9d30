"""Every check a table goes through before it is part of a data set; errors name file, row, column, remedy."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import polars as pl

from forwhy.columns import (
    FILE,
    KEYS,
    OPEN_TABLES,
    ROW,
    SIDES,
    SPLIT_ALIASES,
    TABLES,
    TERMS,
    Column,
    Kind,
    Side,
)
from forwhy.data.bad_rows import BadRow, BadRows, short
from forwhy.data.values import date_format, numbers, seconds, terms, terms_in
from forwhy.errors import UserError
from forwhy.frames import Tables

Duplicates = Literal["error", "first", "keep"]
Names = Mapping[str, Mapping[str, str]]

LONGEST_ID = 200
"""Characters of an id; a longer one is a text in the wrong place."""

LARGEST_ID = 2.0**53
"""Decimals from here on no longer tell neighbouring whole numbers apart."""
WHOLE_NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"


@dataclass(frozen=True)
class RawTable:
    """A frame under check, with what its columns are called in the caller's file."""

    name: str
    frame: pl.DataFrame
    names: Mapping[str, str]
    bad: BadRows = field(default_factory=BadRows)
    """Where rows that cannot be read are counted, if they may be left out."""
    days: str | None = None
    """How days are written (`values.date_format`), when that is known."""

    def theirs(self, column: str) -> str:
        """What the caller calls this column."""
        return self.names.get(column, column)

    def file(self, row: int = 0) -> str:
        """The file that a row came from, or the table's name when there is none."""
        known = FILE in self.frame.columns and self.frame.height > row
        return str(self.frame[FILE][row]) if known else f"table {self.name}"

    def number(self, row: int) -> int:
        """The number in its file (the first row of data is 1) of the row at this position."""
        return int(self.frame[ROW][row]) if ROW in self.frame.columns else row + 1

    def place(self, row: int, column: str) -> str:
        """``FILE: row R, column 'C'`` of the row at this position."""
        return f"{self.file(row)}: row {self.number(row)}, column {self.theirs(column)!r}"

    def text(self, column: str) -> pl.Series:
        """A column as text (`as_text`); one that cannot be is refused by its place."""
        try:
            return as_text(self.frame[column])
        except UserError as error:
            raise UserError(f"{self.file()}: {error}") from None

    def without(self, wrong: pl.Series, column: str, message: str) -> "RawTable":
        """The rows where `wrong` is false, not null; others are bad. ``{}`` in ``reason; remedy`` shows the value."""
        wrong = wrong.fill_null(True)
        rows = wrong.arg_true()
        if len(rows) == 0:
            return self
        if not self.bad.skip:
            more = f" ({len(rows):,} rows like it)" if len(rows) > 1 else ""
            row = int(rows[0])
            said = message.replace("{}", short(repr(self.frame[column][row])))
            raise UserError(f"{self.place(row, column)}: {said}{self.bad.option}{more}")
        reason, _, remedy = message.partition("; ")
        reason, shows = reason.replace("{} is ", "").replace("{} ", ""), "{}" in message
        for row in rows.to_list():
            value = self.frame[column][row] if shows else None
            self.bad.add(self.file(row), self.number(row), BadRow(reason, self.theirs(column), remedy, value))
        return replace(self, frame=self.frame.filter(~wrong))

    def refuse(self, wrong: pl.Series, column: str, message: str) -> None:
        """Raise for the first row where `wrong` is true or null, whether or not bad rows are skipped."""
        replace(self, bad=BadRows()).without(wrong, column, message)

    def with_column(self, values: pl.Series, column: str) -> "RawTable":
        """This table with one column replaced."""
        return replace(self, frame=self.frame.with_columns(values.alias(column)))


def lacking(table: str, columns: Collection[str]) -> list[str]:
    """The columns that a table must have and that are not among these."""
    return [it.name for it in TABLES[table] if it.required and it.name not in columns]


def own_columns(frame: pl.DataFrame) -> list[str]:
    """The columns of a frame without those that say where its rows came from."""
    return [name for name in frame.columns if name not in (FILE, ROW)]


def check_tables(tables: Tables, names: Names, duplicates: Duplicates) -> dict[str, pl.DataFrame]:
    """Checked frames with our column types, without provenance columns; see `dataset.make_dataset`."""
    for name in tables:
        if name not in TABLES:
            raise UserError(f"table {name!r} is not one of {', '.join(TABLES)}; rename or drop it")
    if "interactions" not in tables or tables["interactions"].height == 0:
        raise UserError("table interactions: no rows; give at least one user_id, item_id, split row")
    held = (name for name in TABLES if name in tables)  # always in this order: equal data are equal files
    checked = {name: _whole(RawTable(name, tables[name], names.get(name, {}))) for name in held}
    for side in SIDES:
        _unify_ids(checked, f"{side}_id")
    unique = {name: _without_duplicates(table, duplicates) for name, table in checked.items()}
    for side in SIDES:
        _refuse_strangers(unique, side)
    return {name: _clean(table) for name, table in unique.items()}


def _whole(table: RawTable) -> RawTable:
    if missing := lacking(table.name, table.frame.columns):
        wrong = f"no column {' and '.join(missing)} (it has: {', '.join(own_columns(table.frame)) or 'none'})"
        raise UserError(f"{table.file()}: {wrong}; rename or add it")
    for name in TERMS if table.name == "items" else ():
        if name in table.frame.columns:
            table = table.with_column(as_terms(table.frame[name]), name)
    return typed(table)


COUNTED: tuple[Kind, ...] = ("integer", "number")


def typed(table: RawTable, kinds: Collection[Kind] = get_args(Kind)) -> RawTable:
    """The table with our column types, of these kinds; a row with a value that does not fit is bad."""
    for column in TABLES[table.name]:
        if column.name in table.frame.columns and column.kind in kinds:
            table = _typed_column(table, column)
    return table


def _typed_column(table: RawTable, column: Column) -> RawTable:
    name = column.name
    if column.kind in ("user", "item", "entity"):
        return with_ids(table, name)
    if column.kind in COUNTED:
        return _with_numbers(table, column)
    table = table.with_column(table.text(name), name)
    if column.filled:  # a search, as strip_chars would copy every text
        table = table.without(~table.frame[name].str.contains(r"\S"), name, "empty; fill it or drop the row")
    if column.kind == "split":
        table = table.with_column(table.frame[name].str.strip_chars().str.to_lowercase(), name)
        unknown = ~table.frame[name].is_in(list(SPLIT_ALIASES))
        table = table.without(unknown, name, "{} is not train, valid or test; rename it")
        return table.with_column(table.frame[name].replace(dict(SPLIT_ALIASES)), name)
    if column.kind == "side":
        neither = ~table.frame[name].is_in(SIDES)
        table = table.without(neither, name, "{} is neither 'user' nor 'item'; rename it")
    return table.with_column(table.frame[name].fill_null(""), name)


DAYS = {"": 1.0, "ms": 864e5, "us": 864e8, "ns": 864e11}
FARTHEST = 700_000.0
"""Days from 1970 to what can still be a date: polars panics far beyond the year 9999."""
_PLAIN = (pl.Int64, pl.Int32, pl.Float64, pl.Float32, pl.Boolean, pl.String)


def as_text(values: pl.Series) -> pl.Series:
    """Any column as text: lists joined by commas, records as JSON, spans of time as in ISO 8601."""
    dtype = values.dtype
    if "Binary" in str(dtype) or "Object" in str(dtype):
        raise UserError(f"column {values.name!r} holds {dtype}, which is no text; convert it or drop it")
    if isinstance(dtype, pl.List) and dtype.inner in _PLAIN:
        return values.list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
    if dtype.is_nested():
        return _told(values)
    if dtype in (pl.Date, pl.Datetime):
        days = values.to_physical().cast(pl.Float64) / DAYS[getattr(dtype, "time_unit", "")]
        if (days.abs() > FARTHEST).any():
            raise UserError(
                f"column {values.name!r} holds a day that is none; correct it, or drop the column"
            )
    return values.dt.to_string("iso") if dtype == pl.Duration else values.cast(pl.String)


def as_terms(values: pl.Series) -> pl.Series:
    """A column whose lists and records, nested or written as text, are their terms with commas between them."""
    if values.dtype.is_nested() and "Binary" not in str(values.dtype):
        told = [None if value is None else ", ".join(terms_in(value)) for value in values.to_list()]
        return pl.Series(values.name, told, pl.String)
    if values.dtype != pl.String:
        return values
    written = values.str.contains(r"^\s*[\[{]").fill_null(False)
    told = [", ".join(terms(cell)) for cell in values.filter(written)]
    return values.clone().scatter(written.arg_true(), pl.Series(told, dtype=pl.String))


def _told(values: pl.Series) -> pl.Series:
    """Lists and records that polars cannot cast, one by one."""

    def text(value: object) -> str | None:
        if isinstance(value, pl.Series | list):
            return ", ".join(filter(None, map(text, value)))
        said = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict) else str(value)
        return None if value is None else said

    return pl.Series(values.name, [text(value) for value in values.to_list()], pl.String)


def with_ids(table: RawTable, name: str) -> RawTable:
    """The table with an id column as text; empty, NaN, fractional and overlong ids are bad."""
    missing = "NaN is not an id; fill it or drop the row"
    if table.frame[name].dtype.is_float():
        table = table.without(table.frame[name].is_nan(), name, missing)
        whole = table.frame[name].abs() < LARGEST_ID
        broken = ~whole | (table.frame[name] != table.frame[name].round(0))
        table = table.without(broken, name, "{} is not an id; use whole numbers or text")
        table = table.with_column(table.frame[name].cast(pl.Int64), name)
    table = table.with_column(table.text(name), name)
    empty = table.frame[name].str.strip_chars() == ""
    table = table.without(empty, name, "empty id; fill it or drop the row")
    table = table.without(table.frame[name].str.to_lowercase() == "nan", name, missing)
    long = table.frame[name].str.len_chars() > LONGEST_ID
    return table.without(long, name, f"an id of more than {LONGEST_ID} characters; use a shorter one")


def _with_numbers(table: RawTable, column: Column) -> RawTable:
    """The table with a column of numbers; where a column may have gaps, an empty value stays empty."""
    name, times = column.name, column.name == "timestamp"
    kind = table.frame[name].dtype
    if isinstance(kind, pl.Categorical | pl.Enum):
        kind = pl.String()
        table = table.with_column(table.frame[name].cast(pl.String), name)
    counted = kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Null)
    if not (counted or (times and kind in (pl.Date, pl.Datetime))):
        what = "times" if times else "numbers"
        raise UserError(f"{table.place(0, name)}: holds {kind}, not {what}; convert or drop the column")
    if column.filled:
        empty = table.frame[name].is_null()
        table = table.without(empty, name, "empty; fill it, or drop the row or the column")
    elif table.frame[name].dtype.is_float():
        table = table.with_column(table.frame[name].fill_nan(None), name)  # pandas' empty value
    values = table.frame[name]
    if times:
        text = values.dtype == pl.String
        form = date_format(values, table.place(0, name), table.days) if text else table.days
        found, what = seconds(values, form), "a time like the first ones"
    else:
        found, what = numbers(values), "a number"
    fits = found.is_finite() if column.kind == "number" else found.cast(pl.Int64, strict=False).is_not_null()
    wrong = ~fits.fill_null(False) & values.is_not_null()
    table = table.without(wrong, name, f"{{}} is not {what}; correct it, or drop the row or the column")
    found = found.filter(~wrong)
    return table.with_column(found if column.kind == "number" else found.cast(pl.Int64), name)


def _unify_ids(tables: dict[str, RawTable], name: str) -> None:
    """Whole numbers when every id of a side, in every table, is one; entity columns stay text."""
    held = {key: table for key, table in tables.items() if name in table.frame.columns}
    if all(table.frame[name].str.contains(WHOLE_NUMBER).all() for table in held.values()):
        for key, table in held.items():
            tables[key] = table.with_column(table.frame[name].cast(pl.Int64), name)


def about(frame: pl.DataFrame, side: Side, ids: pl.Series, others: bool = False) -> pl.Series:
    """[rows] which rows speak of one of these users (items); `others`: of one that is not among them."""
    if f"{side}_id" in frame.columns:
        return frame[f"{side}_id"].is_in(ids.implode()) != others
    if "side" in frame.columns:
        return (frame["side"] == side) & (frame["entity_id"].is_in(ids.cast(pl.String).implode()) != others)
    return pl.repeat(False, frame.height, eager=True)


def _refuse_strangers(tables: Mapping[str, RawTable], side: Side) -> None:
    home = tables.get(f"{side}s", tables["interactions"])
    known = home.frame[f"{side}_id"].unique()
    remedy = "add it there or drop the row (plain tables: or allow such rows with --unknown-ids allow)"
    message = f"{side} {{}} is not in {home.file()} ({len(known):,} {side}s); {remedy}"
    for table in tables.values():
        column = f"{side}_id" if f"{side}_id" in table.frame.columns else "entity_id"
        table.refuse(about(table.frame, side, known, others=True), column, message)


def _without_duplicates(table: RawTable, duplicates: Duplicates) -> RawTable:
    keys = KEYS.get(table.name)
    if keys is None or (duplicates == "keep" and table.name == "interactions"):
        return table
    again = ~table.frame.select(pl.struct(keys).is_first_distinct()).to_series()
    if not again.any():
        return table
    if duplicates == "first":
        return RawTable(table.name, table.frame.filter(~again), table.names)
    row = int(again.arg_true()[0])
    same = pl.all_horizontal(pl.col(key) == table.frame[key][row] for key in keys)
    first = int(table.frame.select(same).to_series().arg_true()[0])
    ids = ", ".join(f"{table.theirs(key)} {table.frame[key][row]!r}" for key in keys)
    same_as = f"duplicate of row {table.number(first)} of {table.file(first)} ({ids})"
    remedy = "drop one, or keep the first of each with --duplicates first"
    raise UserError(f"{table.place(row, keys[-1])}: {same_as}; {remedy} ({int(again.sum()):,} such rows)")


def _clean(table: RawTable) -> pl.DataFrame:
    """Only storable columns, in a fixed order: ours first, then the caller's own in an open table."""
    ours = [column.name for column in TABLES[table.name] if column.name in table.frame.columns]
    if table.name not in OPEN_TABLES:
        return table.frame.select(ours).rechunk()
    theirs = [name for name in own_columns(table.frame) if name not in ours]
    return table.frame.select(*ours, *(_storable(table.frame[name]) for name in theirs)).rechunk()


def _storable(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        return values.cast(pl.Float64).fill_nan(None)
    if values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == values.null_count() else as_text(values).fill_null("")
    return values if values.dtype == pl.Boolean else as_text(values).fill_null("")
