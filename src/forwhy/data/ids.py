"""External ids against internal numbers, and pairs of internal numbers with their text."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.errors import UserError


@dataclass(frozen=True)
class Ids:
    """The user's own ids of one side; position in `values` is the internal number.

    Values are sorted (whole numbers by size, text by code point), so the numbering does not depend on
    the order of rows in any file.
    """

    values: tuple[str, ...] | tuple[int, ...]
    side: str = "entity"
    """``user`` or ``item``: only for messages."""

    def __len__(self) -> int:
        """How many ids there are; internal numbers run from 0 to one less."""
        return len(self.values)

    @cached_property
    def _numbers(self) -> dict[str | int, int]:
        return dict(zip(self.values, range(len(self)), strict=True))

    @cached_property
    def whole(self) -> bool:
        """Whether the ids are whole numbers (an empty set counts as text)."""
        return bool(self.values) and isinstance(self.values[0], int)

    def index(self, external: str | int) -> int:
        """Internal number of an external id; ``"12"`` and ``12`` name the same id.

        Raises:
            UserError: no such id; the message names the nearest ones or the range.
        """
        number = self._numbers.get(self._typed(external))
        if number is None:
            raise UserError(f"unknown {self.side} id {external!r}; {self._remedy(external)}")
        return number

    def numbers(self, external: pl.Series | Iterable[str | int]) -> NDArray[np.int64]:
        """Internal numbers of a whole column, one hash join; -1 where an id is unknown."""
        dtype = pl.Int64 if self.whole else pl.String
        wanted = external if isinstance(external, pl.Series) else pl.Series(list(external))
        frame = wanted.cast(dtype, strict=False).alias("id").to_frame()
        joined = frame.join(self._frame, on="id", how="left", maintain_order="left")
        return joined["number"].fill_null(-1).to_numpy().astype(np.int64)

    @cached_property
    def _frame(self) -> pl.DataFrame:
        ids = pl.Series("id", self.values, dtype=pl.Int64 if self.whole else pl.String)
        return pl.DataFrame({"id": ids, "number": np.arange(len(self), dtype=np.int64)})

    def _typed(self, external: str | int) -> str | int:
        if not self.whole:
            return str(external)
        text = str(external).strip()
        return int(text) if text.isascii() and text.lstrip("-").isdigit() and len(text) < 20 else text

    def _remedy(self, external: str | int) -> str:
        if not self.values:
            return "the data set has none"
        span = f"{len(self):,} known, {self.values[0]!r} to {self.values[-1]!r}"
        names = [] if self.whole else [str(value) for value in self.values]
        near = difflib.get_close_matches(str(external)[:100], names, n=3)
        return (
            f"nearest: {', '.join(near)} ({span})" if near else f"use one of the data set's own ids ({span})"
        )


@dataclass(frozen=True)
class Pairs:
    """Explained pairs in internal numbers: row k is `users[k]`, `items[k]`, `texts[k]`."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.texts)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> "Pairs":
        """The pairs at these rows, in this order (rows may repeat)."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Pairs(self.users[chosen], self.items[chosen], tuple(self.texts[int(row)] for row in chosen))
