"""What a shop wants of every list, whatever the scores say: items left out, only some items, a bonus for an item.

Shapes: I items, M items with a bonus, K places of a list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from os.path import isfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import ROW
from forwhy.data.checks import RawTable, own_columns
from forwhy.data.dataset import Ids
from forwhy.data.sources.headers import best
from forwhy.data.sources.rows import read_rows
from forwhy.data.values import numbers
from forwhy.errors import UserError
from forwhy.frames import ids_of

Listed = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Items and their scores, best first."""


@dataclass(frozen=True, eq=False)
class Rules:
    """Which items may be listed and what is added to their scores, before a list is cut to its length.

    A bonus is added and no factor: scores may be below zero, where a factor would lower what it should lift.
    """

    open_I: NDArray[np.bool_]
    """Whether each item may be listed."""
    bonus_I: NDArray[np.float32]
    """What is added to the score of each; 0: nothing."""

    @classmethod
    def of(cls, items: Ids, exclude: Any = None, only: Any = None, boost: Any = None) -> Self | None:  # noqa: ANN401
        """Rules as people give them; None without any.

        `exclude`: items that no list holds, such as unavailable ones: ids, a frame with `item_id`, or the `Path` of a
        CSV, TSV, JSONL or parquet file of such. `only`: the only ones that it may hold, given alike. `boost`: item ->
        what is added to its score, below zero to lower it; or a frame or file with `item_id` and `boost`.

        Raises:
            UserError: An unknown id or a bonus that is no number, with its file and row; no item is left.
        """
        if exclude is None and only is None and boost is None:
            return None
        open_I, bonus_I = np.full(len(items), only is None), np.zeros(len(items), np.float32)
        if only is not None:
            open_I[_numbers(items, *_rows("only", only, "item_id"))] = True
        if exclude is not None:
            open_I[_numbers(items, *_rows("exclude", exclude, "item_id"))] = False
        if boost is not None:
            place, rows = _rows("boost", boost, "item_id", "boost")
            bonus_I[_numbers(items, place, rows)] = _bonuses(place, rows)
        if not open_I.any():
            raise UserError("exclude and only leave no item to list; exclude fewer, or name more in only")
        return cls(open_I, bonus_I)

    def also(self, other: Self | None) -> Self:
        """Under others too: what both let through, with the bonuses of both."""
        if other is None:
            return self
        return replace(self, open_I=self.open_I & other.open_I, bonus_I=self.bonus_I + other.bonus_I)

    @cached_property
    def plain(self) -> NDArray[np.int64]:
        """Open items without a bonus."""
        return np.flatnonzero(self.open_I & (self.bonus_I == 0))

    @cached_property
    def boosted(self) -> NDArray[np.int64]:
        """[M] Open items with a bonus."""
        return np.flatnonzero(self.open_I & (self.bonus_I != 0))

    def with_boosted(
        self, listed: Listed, scores_M: NDArray[np.float32], hidden: NDArray[np.int64], k: int
    ) -> Listed:
        """The best `k` of a list of plain items and the boosted ones that are not hidden; of equals the listed."""
        shown = ~np.isin(self.boosted, hidden)
        items = np.append(listed[0], self.boosted[shown])
        scores = np.append(listed[1], (scores_M + self.bonus_I[self.boosted])[shown])
        order = np.argsort(-scores, kind="stable")[:k]
        return items[order], scores[order]


def _rows(option: str, given: Any, *columns: str) -> tuple[str, pl.DataFrame]:  # noqa: ANN401 - of any library
    """Where rules stand, for messages, and their rows as text, numbered."""
    if isinstance(given, Path):
        frame, option = read_rows(given), str(given)
        theirs = best("items", "item_id", own_columns(frame))
        if len(theirs) == 1:
            frame = frame.rename({theirs[0]: "item_id"})
        if missing := [name for name in columns if name not in frame.columns]:
            raise UserError(
                f"{option}: no column '{missing[0]}'; a file for this has {' and '.join(columns)}"
            )
        table = RawTable("rules", frame, {})
        told = [table.text(name).str.strip_chars().alias(name) for name in columns]
        return option, frame.select(*told, ROW)
    if isinstance(given, str) and isfile(given):
        raise UserError(
            f"{option}: {given!r} is an id here; of a file give its path: {option}=Path({given!r})"
        )
    by_item = isinstance(given, Mapping)
    if len(columns) > 1 and not by_item and "boost" not in getattr(given, "columns", ()):
        raise UserError(
            f"{option}: give numbers by item, such as {{'A1': 0.5}}, or a frame with {' and '.join(columns)}"
        )
    values = {"item_id": ids_of(list(given) if by_item else given, "item_id")}
    values |= {name: given.values() if by_item else given[name] for name in columns[1:]}
    texts = {name: list(map(str, column)) for name, column in values.items()}
    return option, pl.DataFrame(texts).with_row_index(ROW, 1)


def _numbers(items: Ids, place: str, rows: pl.DataFrame) -> NDArray[np.int64]:
    """Internal numbers; an unknown id is told by its row."""
    numbers = items.numbers(rows["item_id"])
    for unknown in np.flatnonzero(numbers < 0).tolist():
        try:
            items.index(rows["item_id"][unknown] or "")
        except UserError as error:
            raise UserError(f"{place}: row {rows[ROW][unknown]}: {error}") from None
    return numbers


def _bonuses(place: str, rows: pl.DataFrame) -> NDArray[np.float32]:
    """[rows] what is added; a row that is no number, or an item's second one, is told."""
    bonuses = numbers(rows["boost"]).cast(pl.Float32).fill_null(np.nan).to_numpy()
    if len(wrong := rows.filter(~np.isfinite(bonuses) | ~rows["item_id"].is_first_distinct().to_numpy())):
        row = wrong.row(0, named=True)
        raise UserError(
            f"{place}: row {row[ROW]}: {row['boost']!r} is no boost, or the second one of item {row['item_id']!r}; "
            "give each one number that is added to the score, such as 0.5 or -0.5"
        )
    return bonuses
