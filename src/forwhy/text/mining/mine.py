"""One step of mining: subjects of one side, and what was found about each."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from forwhy.columns import Side
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.text.chat.asking import Asked
from forwhy.text.mining.subjects import Chosen, MiningConfig, Subject, entities, reviewed_pairs, source_table

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


# --- Mined rows into a data set's tables, each with a row of provenance in the table `mined`.


Rows = list[tuple[Subject, Values]]
ENTITY, PAIR = ["side", "entity_id"], ["user_id", "item_id"]


def with_mined(stage: Stage, outcomes: Sequence[Values | str], model: str, report: StageReport) -> Dataset:
    """The stage's data set with what was found: it replaces rows about the same entity or pair, others stay."""
    dataset, kind = stage.dataset, stage.config.kind
    pairs = zip(stage.subjects, outcomes, strict=True)
    rows = [(subject, outcome) for subject, outcome in pairs if not isinstance(outcome, str)]
    if not rows:
        return dataset
    written = _explanations(dataset, rows) if kind == "explanations" else _about(dataset, rows, kind)
    key = PAIR if kind == "explanations" else ENTITY
    tables = {
        **dataset.tables,
        kind: _replaced(dataset.tables.get(kind), written, key),
        "mined": _replaced(
            dataset.tables.get("mined"),
            _provenance(stage, rows, model, report.prompt),
            ["table", *ENTITY, "pair_item"],
        ),
    }
    return make_dataset(dataset.name, tables, _source(stage, model, report), duplicates="keep")


def _replaced(old: pl.DataFrame | None, new: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    if old is None:
        return new
    return pl.concat([old.join(new, on=key, how="anti", maintain_order="left"), new], how="diagonal")


def _about(dataset: Dataset, rows: Rows, kind: str) -> pl.DataFrame:
    """Rows of `intents` or `profiles`."""
    text = {"side": pl.String, "entity_id": pl.String}
    entities = [(subject.side, _id(dataset, subject), values) for subject, values in rows]
    if kind == "profiles":
        told = [(side, entity, values[0]) for side, entity, values in entities]
        return pl.DataFrame(told, schema={**text, "text": pl.String}, orient="row")
    ranked = [
        (side, entity, rank, phrase)
        for side, entity, values in entities
        for rank, phrase in enumerate(values, start=1)
    ]
    return pl.DataFrame(ranked, schema={**text, "rank": pl.Int64, "phrase": pl.String}, orient="row")


def _explanations(dataset: Dataset, rows: Rows) -> pl.DataFrame:
    visits = dataset.tables["interactions"].schema
    columns = [
        (dataset.users.values[one.entity], dataset.items.values[one.pair_item], values[0], one.split)
        for one, values in rows
    ]
    ids = {"user_id": visits["user_id"], "item_id": visits["item_id"]}
    return pl.DataFrame(columns, schema={**ids, "text": pl.String, "split": pl.String}, orient="row")


def _provenance(stage: Stage, rows: Rows, model: str, prompt: str) -> pl.DataFrame:
    dataset = stage.dataset
    read = "reviews" if stage.config.kind == "explanations" else source_table(dataset)
    return pl.DataFrame(
        {
            "table": [stage.config.kind] * len(rows),
            "side": [subject.side for subject, _ in rows],
            "entity_id": [_id(dataset, subject) for subject, _ in rows],
            "pair_item": [_pair_item(dataset, subject) for subject, _ in rows],
            "model": [model] * len(rows),
            "prompt": [prompt] * len(rows),
            "read": [read if subject.sources else "" for subject, _ in rows],
            "sources": [_sources(dataset, subject) for subject, _ in rows],
            "profiles": [_listed(dataset.items.values, subject.profiles) for subject, _ in rows],
            "shipped": [subject.shipped for subject, _ in rows],
        }
    )


def _id(dataset: Dataset, subject: Subject) -> str:
    ids = dataset.items if subject.side == "item" else dataset.users
    return str(ids.values[subject.entity])


def _pair_item(dataset: Dataset, subject: Subject) -> str:
    return str(dataset.items.values[subject.pair_item]) if subject.side == "pair" else ""


def _sources(dataset: Dataset, subject: Subject) -> str:
    return _listed((dataset.users if subject.side == "item" else dataset.items).values, subject.sources)


def _listed(ids: Sequence[str | int], numbers: Sequence[int]) -> str:
    return json.dumps([str(ids[number]) for number in numbers], ensure_ascii=False)


def _source(stage: Stage, model: str, report: StageReport) -> Mapping[str, Any]:
    """The data set's source with an entry for this stage; a later one of the same table and side replaces it."""
    source = stage.dataset.source
    entry = {
        "model": model,
        "prompt": report.prompt,
        "options": stage.config.model_dump(),
        "subjects": report.subjects,
        "mined": report.mined,
        "nothing": report.nothing,
        "failed": dict(report.failed),
    }
    mined = {**source.get("mined", {}), f"{stage.config.kind} of {stage.about}": entry}
    if stage.config.kind == "explanations" and "explanations" not in stage.dataset.tables:
        source = {**source, "split": {**source.get("split", {}), "explanations": "that of their interaction"}}
    return {**source, "mined": mined}


# --- Mining from end to end: a data set in, the same with mined tables and their provenance out.


@dataclass(frozen=True)
class Mining:
    """What mining came to."""

    dataset: Dataset
    """With the rows that were mined; a row about the same entity or pair was replaced, others were kept."""
    model: str
    stages: tuple[StageReport, ...]

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "model": self.model,
            "stages": [stage.document() for stage in self.stages],
            "fingerprint": self.dataset.fingerprint,
        }


def mine(dataset: Dataset, config: MiningConfig, miner: Miner) -> Mining:
    """Mine one kind of text for the configured sides, items first.

    Nothing about a pair that is held out is read, except that an explanation is written from its pair's own
    review (`subjects`). What cannot be mined is counted and left as it was. Cost: one question per subject,
    or for an extractive miner O(words).

    Raises:
        UserError: nothing to read, nothing mined at all, a prompt file that is none, or what the miner raises.
    """
    for side in config.sides:
        miner.check(config, side)
    reports = []
    for side in config.sides:
        stage = stage_of(dataset, side, config)
        found, prompt = miner.find(stage), miner.check(config, side)
        reports.append(report(stage, found, prompt))
        dataset = with_mined(stage, found.outcomes, miner.model, reports[-1])
    _refuse_nothing(dataset, reports)
    return Mining(dataset, miner.model, tuple(reports))


def _refuse_nothing(dataset: Dataset, reports: list[StageReport]) -> None:
    if any(stage.mined for stage in reports):
        return
    reasons = [f"{count} {reason}" for stage in reports for reason, count in stage.failed.items()]
    why = f"all failed: {', '.join(reasons)}" if reasons else "no text that may be read"
    raise UserError(f"data set '{dataset.name}': nothing was mined ({why}); the data set is as it was")
