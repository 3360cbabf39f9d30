"""One step of mining: subjects of one side, and what was found about each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from forwhy.columns import Side
from forwhy.data.dataset import Dataset
from forwhy.text.chat.asking import Asked
from forwhy.text.mining.config import MiningConfig
from forwhy.text.mining.subjects import Chosen, Subject, entities, reviewed_pairs

__all__ = ["Found", "Miner", "Stage", "StageReport", "Values", "report", "stage_of", "stages_of"]

Values = tuple[str, ...]
"""Phrases, the most important first; or one text."""
LISTED = 20
"""Failures named in a report."""


@dataclass(frozen=True)
class Stage:
    """What a miner is given."""

    config: MiningConfig
    side: Side
    """No matter for explanations."""
    dataset: Dataset
    """For frequencies of words; texts about the subjects stand in them."""
    chosen: Chosen

    @property
    def subjects(self) -> list[Subject]:
        """Those that are asked about."""
        return self.chosen.subjects

    @property
    def about(self) -> str:
        """``users``, ``items`` or ``pairs``."""
        return "pairs" if self.config.kind == "explanations" else f"{self.side}s"

    @property
    def title(self) -> str:
        """Of the progress bar."""
        return f"{self.config.kind} of {self.about}"


def stage_of(dataset: Dataset, side: Side, config: MiningConfig) -> Stage:
    """The stage of this side, with its subjects.

    Raises:
        UserError: explanations of a data set without reviews.
    """
    pairs = config.kind == "explanations"
    return Stage(
        config, side, dataset, reviewed_pairs(dataset, config) if pairs else entities(dataset, side, config)
    )


def stages_of(dataset: Dataset, config: MiningConfig) -> list[Stage]:
    """All stages as they can be known beforehand: user profiles read only the item profiles there are."""
    return [stage_of(dataset, side, config) for side in config.sides]


@dataclass(frozen=True)
class Found:
    """By subject, what was mined, or the reason for nothing."""

    outcomes: Sequence[Values | str]
    asked: Asked | None = None
    """The account of the questions; None where no language model was asked."""


class Miner(Protocol):
    """Who mines."""

    model: str
    """Stands in the provenance of every row."""

    def check(self, config: MiningConfig, side: Side) -> str:
        """SHA-256 of what is asked but the data (empty: nothing is); errors of a user's prompt come here."""
        ...

    def find(self, stage: Stage) -> Found:
        """What each subject's texts hold."""
        ...


@dataclass(frozen=True)
class StageReport:
    """How a stage ended, for a reader."""

    about: str
    prompt: str
    subjects: int
    mined: int
    nothing: int
    """Entities without any text that may be read: not asked about."""
    skipped: Mapping[str, int]
    failed: Mapping[str, int]
    """Reason -> subjects that nothing was mined for."""
    examples: Sequence[Mapping[str, str]]
    """The first of them, by id."""
    asked: Asked | None

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        asked = None
        if self.asked is not None:
            asked = {**vars(self.asked), "used": vars(self.asked.used), "kept": vars(self.asked.kept)}
        return {**vars(self), "asked": asked}


def report(stage: Stage, found: Found, prompt: str) -> StageReport:
    """Counts what was found."""
    pairs = zip(stage.subjects, found.outcomes, strict=True)
    failed = [(subject, outcome) for subject, outcome in pairs if isinstance(outcome, str)]
    return StageReport(
        about=stage.about,
        prompt=prompt,
        subjects=len(stage.subjects),
        mined=len(stage.subjects) - len(failed),
        nothing=stage.chosen.nothing,
        skipped=dict(stage.chosen.skipped),
        failed=dict(Counter(reason for _, reason in failed)),
        examples=[{**named(stage.dataset, one), "reason": why} for one, why in failed[:LISTED]],
        asked=found.asked,
    )


def named(dataset: Dataset, subject: Subject) -> dict[str, str]:
    """The subject's own ids."""
    if subject.side == "item":
        return {"item": str(dataset.items.values[subject.entity])}
    user = {"user": str(dataset.users.values[subject.entity])}
    return user | ({"item": str(dataset.items.values[subject.pair_item])} if subject.side == "pair" else {})
