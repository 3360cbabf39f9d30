"""What a method wrote, pair by pair, and what was measured of it: all that a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from forwhy.artifact import atomic_file
from forwhy.errors import UserError

Pair = tuple[str | int, str | int]
"""External ids of a user and an item."""

COLUMNS = ("user_id", "item_id", "prediction", "reference")


@dataclass(frozen=True)
class Outputs:
    """One text per pair beside the right one."""

    pairs: Sequence[Pair]
    """[n]"""
    predictions: Sequence[str]
    """[n]"""
    references: Sequence[str]
    """[n]"""

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, rows: Sequence[int]) -> "Outputs":
        """Some of the rows, in this order."""
        return Outputs(
            [self.pairs[row] for row in rows],
            [self.predictions[row] for row in rows],
            [self.references[row] for row in rows],
        )

    def order(self) -> list[int]:
        """Rows by reference, then prediction, then pair: what is drawn does not depend on how they came."""
        pairs = [tuple(map(str, pair)) for pair in self.pairs]
        return sorted(range(len(self)), key=lambda k: (self.references[k], self.predictions[k], pairs[k]))

    def save(self, path: Path) -> None:
        """Write a parquet file with the columns `COLUMNS`, whole or not at all."""
        users, items = zip(*self.pairs, strict=True) if self.pairs else ((), ())
        values = (users, items, self.predictions, self.references)
        frame = pl.DataFrame(dict(zip(COLUMNS, map(list, values), strict=True)))
        with atomic_file(path) as temporary:
            frame.write_parquet(temporary)

    @classmethod
    def load(cls, path: Path) -> "Outputs":
        """Read what `save` wrote.

        Raises:
            UserError: No such file, or not one that `save` wrote.
        """
        try:
            frame = pl.read_parquet(path, columns=list(COLUMNS))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(
                f"{path}: not readable as outputs of a run ({error}); evaluate the run again"
            ) from None
        users, items, predictions, references = (frame[name].to_list() for name in COLUMNS)
        return cls(list(zip(users, items, strict=True)), predictions, references)


@dataclass(frozen=True)
class Sample:
    """One pair as a reader of the report sees it."""

    pair: Pair
    reference: str
    prediction: str
    controls: Mapping[str, str] = field(default_factory=dict)
    """Control -> its text for this pair."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Metric -> value for this pair."""
    unsupported: Sequence[str] = ()
    """Claims of the prediction that nothing known supports."""
    control_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Control -> metric -> value of its text for this pair, where measured."""


@dataclass(frozen=True)
class Examined:
    """A run, or a file of outputs from elsewhere, with everything that was measured of it."""

    name: str
    document: Mapping[str, Any]
    """As `evaluation_document` makes it; `grounding` as `GroundingTable.document` where it was measured."""
    samples: Sequence[Sample] = ()
    history: Sequence[Mapping[str, Any]] = ()
    """Lines of the run's metrics.jsonl: `stage`, `step`, and what was measured then."""
    usage: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Codebook -> how many slots of all entities each of its words fills."""
