"""Every check a table goes through before it is part of a data set; errors name file, row, column, remedy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from forwhy.columns import FILE, KEYS, OPEN_TABLES, ROW, SIDES, SPLIT_ALIASES, TABLES, Column, Side
from forwhy.errors import UserError

Duplicates = Literal["error", "first", "keep"]
Names = Mapping[str, Mapping[str, str]]

WHOLE_NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"


@dataclass(frozen=True)
class RawTable:
    """A frame under check, with what its columns are called in the caller's file."""

    name: str
    frame: pl.DataFrame
    names: Mapping[str, str]

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

    def refuse(self, wrong: pl.Series, column: str, message: str) -> None:
        """Raise for the first row where `wrong` is true or null; ``{}`` in the message shows the value."""
        rows = wrong.fill_null(True).arg_true()
        if len(rows) == 0:
            return
        row = int(rows[0])
        value = repr(self.frame[column][row])
        shown = value if len(value) <= 60 else value[:57] + "..."
        more = f" ({len(rows):,} rows like it)" if len(rows) > 1 else ""
        raise UserError(f"{self.place(row, column)}: {message.replace('{}', shown)}{more}")

    def require(self, *later: str) -> None:
        """Refuse a table without a column that it must have, but for those that are made `later`."""
        for column in TABLES[self.name]:
            if column.required and column.name not in {*self.frame.columns, *later}:
                has = ", ".join(c for c in self.frame.columns if c not in (FILE, ROW)) or "none"
                raise UserError(
                    f"{self.file()}: no column {self.theirs(column.name)!r} (it has: {has}); "
                    f"rename one or map it: {self.name}.{column.name}=THEIR_NAME"
                )

    def with_column(self, values: pl.Series, column: str) -> "RawTable":
        """This table with one column replaced."""
        return RawTable(self.name, self.frame.with_columns(values.alias(column)), self.names)


def check_tables(
    tables: Mapping[str, pl.DataFrame], names: Names, duplicates: Duplicates
) -> dict[str, pl.DataFrame]:
    """Checked frames with our column types, without provenance columns; see `dataset.make_dataset`."""
    for name in tables:
        if name not in TABLES:
            raise UserError(f"table {name!r} is not one of {', '.join(TABLES)}; rename or drop it")
    if "interactions" not in tables or tables["interactions"].height == 0:
        raise UserError("table interactions: no rows; give at least one user_id, item_id, split row")
    checked = {name: _typed(RawTable(name, frame, names.get(name, {}))) for name, frame in tables.items()}
    for side in SIDES:
        _unify_ids(checked, f"{side}_id")
    unique = {name: _without_duplicates(table, duplicates) for name, table in checked.items()}
    for side in SIDES:
        _refuse_strangers(unique, side)
    return {name: _clean(table) for name, table in unique.items()}


def _typed(table: RawTable) -> RawTable:
    table.require()
    for column in TABLES[table.name]:
        if column.name in table.frame.columns:
            table = _typed_column(table, column)
    return table


def _typed_column(table: RawTable, column: Column) -> RawTable:
    name = column.name
    if column.kind in ("user", "item", "entity"):
        return table.with_column(id_text(table, name), name)
    if column.kind in ("integer", "number"):
        return table.with_column(_numeric(table, column), name)
    text = as_text(table.frame[name])
    if column.filled:
        # A search instead of strip_chars, which would copy every text.
        table.refuse(~text.str.contains(r"\S"), name, "empty; fill it or drop the row")
    if column.kind == "split":
        text = text.str.strip_chars().str.to_lowercase()
        table.refuse(~text.is_in(list(SPLIT_ALIASES)), name, "{} is not train, valid or test; rename it")
        text = text.replace_strict(dict(SPLIT_ALIASES), return_dtype=pl.String)
    if column.kind == "side":
        table.refuse(~text.is_in(SIDES), name, "{} is neither 'user' nor 'item'; rename it")
    return table.with_column(text.fill_null(""), name)


def as_text(values: pl.Series) -> pl.Series:
    """Any column as text: lists joined by commas, records as JSON, numbers as written."""
    dtype = values.dtype
    if isinstance(dtype, pl.List):
        return values.list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
    if isinstance(dtype, pl.Struct):
        return values.struct.json_encode()
    return values.cast(pl.String)


def id_text(table: RawTable, name: str) -> pl.Series:
    """An id column as text; empty, NaN, fractional and overlong ids are refused by row."""
    values = table.frame[name]
    if values.dtype.is_float():
        table.refuse(values.is_nan(), name, "NaN is not an id; fill it or drop the row")
        table.refuse(values != values.round(0), name, "{} is not an id; use whole numbers or text")
        values = values.cast(pl.Int64)
    text = as_text(values)
    table.refuse(text.str.strip_chars() == "", name, "empty id; fill it or drop the row")
    table.refuse(text.str.to_lowercase() == "nan", name, "NaN is not an id; fill it or drop the row")
    table.refuse(text.str.len_chars() > 200, name, "an id of more than 200 characters; use a shorter one")
    return text


def _numeric(table: RawTable, column: Column) -> pl.Series:
    values = table.frame[column.name]
    table.refuse(values.is_null(), column.name, "empty; fill it, or drop the row or the column")
    if values.dtype.is_temporal():
        values = values.cast(pl.Datetime("ms")).dt.epoch("s")
    number = values.cast(pl.Float64 if column.kind == "number" else pl.Int64, strict=False)
    if column.kind == "integer" and values.dtype == pl.String and number.null_count() > values.null_count():
        number = values.str.to_datetime(strict=False, time_unit="ms").dt.epoch("s")
    wrong = ~number.is_finite()
    table.refuse(wrong, column.name, "{} is not a number; correct it, or drop the row or the column")
    return number


def _unify_ids(tables: dict[str, RawTable], name: str) -> None:
    """Whole numbers when every id of a side, in every table, is one; entity columns stay text."""
    held = {key: table for key, table in tables.items() if name in table.frame.columns}
    if all(table.frame[name].str.contains(WHOLE_NUMBER).all() for table in held.values()):
        for key, table in held.items():
            tables[key] = table.with_column(table.frame[name].cast(pl.Int64), name)


def strangers(frame: pl.DataFrame, side: Side, known: pl.Series) -> pl.Series:
    """[rows] which rows speak of a user (item) that is not among the known ids."""
    if f"{side}_id" in frame.columns:
        return ~frame[f"{side}_id"].is_in(known.implode())
    if {"side", "entity_id"} <= set(frame.columns):
        return (frame["side"] == side) & ~frame["entity_id"].is_in(known.cast(pl.String).implode())
    return pl.repeat(False, frame.height, eager=True)


def _refuse_strangers(tables: Mapping[str, RawTable], side: Side) -> None:
    home = tables.get(f"{side}s", tables["interactions"])
    known = home.frame[f"{side}_id"].unique()
    for table in tables.values():
        table.refuse(
            strangers(table.frame, side, known),
            f"{side}_id" if f"{side}_id" in table.frame.columns else "entity_id",
            f"{side} {{}} is not in {home.file()} ({len(known):,} {side}s); add it there "
            "or drop the row (plain tables: or set unknown_ids=allow)",
        )


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
    raise UserError(
        f"{table.place(row, keys[-1])}: duplicate of row {table.number(first)} of {table.file(first)} ({ids}); "
        f"drop one, or keep the first of each with duplicates=first ({int(again.sum()):,} such rows)"
    )


def _clean(table: RawTable) -> pl.DataFrame:
    """Only storable columns, in a fixed order: ours first, then the caller's own in an open table."""
    ours = [column.name for column in TABLES[table.name] if column.name in table.frame.columns]
    if table.name not in OPEN_TABLES:
        return table.frame.select(ours).rechunk()
    theirs = [name for name in table.frame.columns if name not in ours and name not in (FILE, ROW)]
    return table.frame.select(*ours, *(_storable(table.frame[name]) for name in theirs)).rechunk()


def _storable(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        return values.cast(pl.Float64).fill_nan(None)
    if values.dtype.is_integer():
        return values.cast(pl.Int64)
    return values if values.dtype == pl.Boolean else as_text(values).fill_null("")
