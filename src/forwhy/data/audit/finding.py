"""What an audit says: one finding per leak or oddity. Its words stand in `findings.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from forwhy.columns import SIDES, SPLITS, TABLES
from forwhy.data.dataset import Dataset

Severity = Literal["leak", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("leak", "warning", "note")
"""``leak``: training could read a right answer of the test; ``warning``: numbers mean less than they seem
to; ``note``: good to know before comparing or joining."""

SAID = tomllib.loads(Path(__file__).with_name("findings.toml").read_text(encoding="utf-8"))
"""`severity`, `meaning` and `remedy` by a finding's name; both may hold fields such as ``{side}``."""

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


def found(
    name: str,
    cases: pl.DataFrame,
    of: int,
    count: int | None = None,
    warns: bool = False,
    **fields: str | float,
) -> Finding:
    """A finding by its name in `SAID`, with our own values for the fields of its texts.

    `cases` has one row per case, or, where a `count` is given, the rows to show; its columns are what examples show.
    `warns` makes a warning of a note.
    """
    said = SAID[name]
    rows = cases.head(EXAMPLES).iter_rows(named=True)
    return Finding(
        name.format(**fields),
        "warning" if warns else said["severity"],
        cases.height if count is None else count,
        of,
        said["meaning"].format(**fields),
        said["remedy"].format(**fields),
        tuple({column: _shown(column, value) for column, value in row.items()} for row in rows),
    )


def _shown(column: str, value: str | int) -> str | int:
    """The beginning of a stranger's text on one line, without control characters; ids stay whole."""
    if isinstance(value, int) or column.endswith("_id"):
        return value
    cut = value if len(value) <= LONGEST_EXAMPLE else value[: LONGEST_EXAMPLE - 1] + "…"
    return "".join(letter if letter.isprintable() else " " for letter in cut)


def table(dataset: Dataset, name: str) -> pl.DataFrame:
    """A table of the data set, or one without rows."""
    if name in dataset.tables:
        return dataset.tables[name]
    ids = {f"{side}_id": pl.Int64 if dataset.ids(side).whole else pl.String for side in SIDES}
    numbers = {"integer": pl.Int64, "number": pl.Float64}
    schema = {c.name: ids.get(c.name, numbers.get(c.kind, pl.String)) for c in TABLES[name] if c.required}
    return pl.DataFrame(schema=schema)
