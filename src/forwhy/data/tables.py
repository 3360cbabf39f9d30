"""The tables of a data set by name: frames in memory or, where they are large, left in the files of its folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from forwhy.columns import TABLES
from forwhy.errors import UserError
from forwhy.frames import read_parquet, scan_parquet

PAIR = ["user_id", "item_id"]
Tables = Mapping[str, pl.DataFrame]

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
            path = folder / f"{name}.parquet"
            if scan_parquet(path, remedy)[1] > HELD_ROWS:
                self._left[name] = path, _stamp(path)
            else:
                self._held[name] = read_parquet(path, remedy)

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
