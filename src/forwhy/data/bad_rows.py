"""An account of the rows that could not be read: the first ends the reading, or all are counted and left out."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forwhy.errors import UserError

SHOWN = 5
"""Bad rows that are named; all are counted."""


class BadRow(Exception):
    """What is wrong with one row: why, its column (``""`` for the whole row), what to do, and the value."""

    def __init__(
        self, reason: str, column: str = "", remedy: str = "correct the row", value: object = None
    ) -> None:
        self.column, self.reason, self.remedy = column, reason, remedy
        self.value = "" if value is None else f" ({short(repr(value) if column else str(value))})"


@dataclass
class BadRows:
    """Bad rows of one import: the first one ends it, or, with `skip`, all are counted and left out."""

    skip: bool | None = None
    """None: the caller has no option to skip them, so the error does not speak of it."""
    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """How many by file, column and reason."""
    shown: list[str] = field(default_factory=list)
    """The first few, with file, row and column."""

    def add(self, file: Path | str, row: int, bad: BadRow) -> None:
        """Count a row (the first line of data is 1), or raise a UserError with file, row, column and remedy."""
        column = f", column {bad.column!r}" if bad.column else ""
        said = f"{file}: row {row}{column}: {bad.reason}{bad.value}"
        if not self.skip:
            raise UserError(f"{said}; {bad.remedy}{self.option}")
        self.count += 1
        self.reasons[f"{Path(file).name}{column}: {bad.reason}"] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(said)

    @property
    def option(self) -> str:
        """What an error says of the option to skip bad rows."""
        return "" if self.skip is None else ", or leave bad rows out with --skip-bad"

    def document(self) -> dict[str, Any]:
        """Plain JSON values: count, count by reason, the first few."""
        return {"count": self.count, "reasons": dict(self.reasons), "first": list(self.shown)}


def short(text: str, longest: int = 60) -> str:
    """A stranger's text on one line, cut."""
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 3] + "..."
