"""What an audit says: one finding per leak or oddity."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from forwhy.columns import SPLITS, TABLES
from forwhy.data.dataset import Dataset

__all__ = ["PAIR", "SEVERITIES", "TEST", "TRAIN", "Finding", "Severity", "found", "short", "table"]

Severity = Literal["leak", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("leak", "warning", "note")
"""``leak``: training could read a right answer of the test; ``warning``: numbers mean less than they seem
to; ``note``: good to know before comparing or joining."""

PAIR = ["user_id", "item_id"]
TRAIN, TEST = pl.col("split") == SPLITS[0], pl.col("split") == SPLITS[2]

EXAMPLES = 3
LONGEST_EXAMPLE = 80
"""Characters of a stranger's text that an example quotes."""


@dataclass(frozen=True)
class Finding:
    """One leak or oddity."""

    id: str
    """A short name that stays the same between versions."""
    severity: Severity
    count: int
    """How many cases there are."""
    of: int
    """Out of how many."""
    meaning: str
    """What it does to numbers."""
    remedy: str
    examples: tuple[Mapping[str, str | int], ...] = ()
    """The first cases, by the user's own ids, which may hold anything; texts are cut and without control characters."""

    def document(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return asdict(self)


def found(slug: str, severity: Severity, cases: pl.DataFrame, of: int, meaning: str, remedy: str) -> Finding:
    """A finding with one row of `cases` per case; its columns are what the examples show."""
    rows = cases.head(EXAMPLES).iter_rows(named=True)
    examples = tuple({name: _shown(name, value) for name, value in row.items()} for row in rows)
    return Finding(slug, severity, cases.height, of, meaning, remedy, examples)


def _shown(column: str, value: str | int) -> str | int:
    """Ids stay whole, so that they can be looked up."""
    return value if isinstance(value, int) or column.endswith("_id") else short(value)


def table(dataset: Dataset, name: str) -> pl.DataFrame:
    """A table of the data set, or one without rows."""
    frame = dataset.tables.get(name)
    if frame is not None:
        return frame
    types = {
        "user": pl.Int64 if dataset.users.whole else pl.String,
        "item": pl.Int64 if dataset.items.whole else pl.String,
        "integer": pl.Int64,
        "number": pl.Float64,
    }
    return pl.DataFrame(schema={c.name: types.get(c.kind, pl.String) for c in TABLES[name] if c.required})


def short(text: str) -> str:
    """The beginning of a stranger's text on one line, without control characters."""
    cut = text if len(text) <= LONGEST_EXAMPLE else text[: LONGEST_EXAMPLE - 1] + "…"
    return "".join(letter if letter.isprintable() else " " for letter in cut)
