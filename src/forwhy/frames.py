"""What people hand in and get back: ids and tables of any library; how what is large is shown, and read in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from forwhy.columns import TABLES
from forwhy.documents import AGAIN, HALF, require_file
from forwhy.errors import UserError, need

Id = str | int


class Table(pl.DataFrame):
    """A polars frame that also becomes a pandas one."""

    def to_pandas(self, *args: Any, **how: Any) -> Any:  # noqa: ANN401 - as of polars
        """As a pandas frame; a `UserError` says how to install pandas and pyarrow where one is missing."""
        for library in ("pandas", "pyarrow"):
            need(library, "pandas")
        return super().to_pandas(*args, **how)


BROKEN = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What polars raises for a file that is none of its kind."""
Tables = Mapping[str, pl.DataFrame]
FOLDED = 256
"""Rows of a parquet file for each of its bytes, at most: ids and texts never fold so small."""


def scan_parquet(path: Path, remedy: str = AGAIN) -> tuple[pl.LazyFrame, int]:
    """A parquet file, by its own name and no pattern, and its rows; refused where they would unfold out of nothing.

    What is wrong with its content shows when it is collected (`BROKEN`).
    """
    require_file(path)
    if HALF.search(str(path)):
        raise UserError(f"{path}: its name is no text in UTF-8, which parquet's reader needs; rename it")
    try:
        lazy = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        rows = int(lazy.select(pl.len()).collect().item())
    except BROKEN as error:
        raise unreadable(path, error, remedy) from error
    if rows > 1_000_000 + FOLDED * (size := path.stat().st_size):
        raise UserError(f"{path}: {rows:,} rows in {size:,} bytes, which no table of ours has; {remedy}")
    return lazy, rows


def read_parquet(path: Path, remedy: str = AGAIN) -> pl.DataFrame:
    """A whole parquet file; a UserError where it is none, cut, or a folded one (`scan_parquet`)."""
    return _collected(scan_parquet(path, remedy)[0], path, remedy)


def _collected(lazy: pl.LazyFrame, path: Path, remedy: str) -> pl.DataFrame:
    try:
        return lazy.collect()
    except BROKEN as error:
        raise unreadable(path, error, remedy) from error


def unreadable(path: Path, error: BaseException, remedy: str) -> UserError:
    """What is said of a file that raised one of `BROKEN`."""
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{path}: truncated or not parquet ({reason}); {remedy}")


def ids_of(given: Any, column: str) -> list[Id]:  # noqa: ANN401 - of any library
    """Ids as they are handed in: one, a list, an array or a series; of a pandas or polars frame those of a column.

    Whole numbers that a gap in a column has made decimals (`17.0`) are whole again; a row without an id is named.
    """
    if isinstance(given, pl.LazyFrame):
        given = given.collect()
    if hasattr(given, "columns"):
        if column not in given.columns:
            raise UserError(f"a frame has no column {column!r}; it has {', '.join(map(str, given.columns))}")
        given = given[column]
    for how in ("to_list", "tolist"):
        given = getattr(given, how)() if hasattr(given, how) else given
    if isinstance(given, str | int):
        return [given]
    return [_id(value, row, column) for row, value in enumerate(given, start=1)]


def _id(value: Any, row: int, column: str) -> Id:  # noqa: ANN401 - of any library
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str | int):
        raise UserError(f"row {row}: {value!r} is no {column}; give text or a whole number, or leave it out")
    return value


def pairs_of(given: Any) -> list[tuple[Id, Id]]:  # noqa: ANN401 - of any library
    """Pairs of a user and an item, from a list of them or a frame with `user_id` and `item_id`."""
    if hasattr(given, "columns"):
        return list(zip(ids_of(given, "user_id"), ids_of(given, "item_id"), strict=True))
    pairs = [ids_of(pair, "id") for pair in given]
    if wrong := [row for row, pair in enumerate(pairs, start=1) if len(pair) != 2]:
        raise UserError(f"row {wrong[0]}: {given[wrong[0] - 1]!r} is no pair; give (user, item)")
    return [(user, item) for user, item in pairs]


# --- how it is shown


class Shown:
    """Something large that is shown by its name and what it holds, never whole; a notebook shows a small table."""

    def _shown(self) -> Mapping[str, int | str]:
        """What is told: counts and texts by name."""
        return {"entries": len(self)} if isinstance(self, Sized) else {}

    def __repr__(self) -> str:
        shown = self._shown().items()
        told = [f"{it:,} {name}" if isinstance(it, int) else f"{name} {it!r}" for name, it in shown]
        return f"<{type(self).__name__}{': ' if told else ''}{', '.join(told)}>"

    def _repr_html_(self) -> str:
        """As notebooks ask for it: two columns of text, which may be anybody's."""
        shown = self._shown().items()
        texts = [(name, f"{it:,}" if isinstance(it, int) else it) for name, it in shown]
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in texts)
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"


# --- The tables of a data set: frames in memory or, where they are large, left in the files of its folder

HELD_ROWS = 1 << 24
"""A table of a folder with more rows stays in its file: 10^8 interactions would take 4 GiB."""
ROWS_AT_ONCE = 1 << 20
"""Rows of a table that are worked on together."""


class StoredTables(Tables):
    """The tables of a folder; one of more than `HELD_ROWS` rows is read whenever it is asked for, and not kept.

    Its file must stay as it is; one that has changed since is refused.
    """

    def __init__(self, folder: Path, names: Sequence[str], remedy: str) -> None:
        self._held, self._left = dict[str, pl.DataFrame](), dict[str, tuple[Path, tuple[int, ...]]]()
        self._remedy = remedy
        for name in names:
            lazy, rows = scan_parquet(path := folder / f"{name}.parquet", remedy)
            if rows > HELD_ROWS:
                self._left[name] = path, _stamp(path)
            else:
                self._held[name] = _collected(lazy, path, remedy)

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self._held[name] if name in self._held else self.scan(name).collect()

    def __contains__(self, name: object) -> bool:
        return name in self._held or name in self._left

    def __iter__(self) -> Iterator[str]:
        return iter((*self._held, *self._left))

    def __len__(self) -> int:
        return len(self._held) + len(self._left)

    def scan(self, name: str) -> pl.LazyFrame:
        """A table whose rows are read as far as they are used."""
        if name in self._held:
            return self._held[name].lazy()
        path, stamp = self._left[name]
        if not path.is_file() or _stamp(path) != stamp:
            raise UserError(f"{path}: was replaced after the data set was opened; run the command again")
        return scan_parquet(path, self._remedy)[0]


def _stamp(path: Path) -> tuple[int, ...]:
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def scanned(tables: Tables, name: str) -> pl.LazyFrame:
    """A table by its name, without rows where the data set has none; a large one is read as far as it is used."""
    if name in tables:
        return tables.scan(name) if isinstance(tables, StoredTables) else tables[name].lazy()
    visits = scanned(tables, "interactions").collect_schema()
    kinds: Mapping[str, Any] = {**visits, "rank": pl.Int64, "shipped": pl.Int64}
    required = (column.name for column in TABLES[name] if column.required)
    return pl.LazyFrame(schema={column: kinds.get(column, pl.String) for column in required})


def slices(tables: Tables, name: str) -> Iterator[pl.DataFrame]:
    """The rows of a table in order, `ROWS_AT_ONCE` at a time."""
    lazy = scanned(tables, name)
    for start in range(0, height(tables, name), ROWS_AT_ONCE):
        yield lazy.slice(start, ROWS_AT_ONCE).collect()


def height(tables: Tables, name: str) -> int:
    """The rows of a table."""
    return int(scanned(tables, name).select(pl.len()).collect().item())
