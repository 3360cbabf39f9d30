"""Mining from end to end: a data set in, the same with mined tables and where each row came from out."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import polars as pl

from forwhy.columns import Side
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.text.chat.asking import Asked
from forwhy.text.mining.stage import PAIR, Entity, MiningConfig, MiningStage, source_table, stage_of

Values = tuple[str, ...]
"""Phrases, the most important first; or one text."""
Outcomes = Sequence[Values | str]
"""By entity, what was mined, or the reason for nothing."""
Rows = list[tuple[Entity, Values]]
"""What was mined, about whom."""
ENTITY = ["side", "entity_id"]
LISTED = 20
"""Failures named in a report."""


class Miner(Protocol):
    """Who mines."""

    model: str
    """Written beside every row, as who it comes from."""

    def check(self, config: MiningConfig, side: Side) -> str:
        """SHA-256 of what is asked but the data (empty: nothing is); errors of a user's prompt come here."""
        ...

    def find(self, stage: MiningStage) -> tuple[Outcomes, Asked | None]:
        """What each entity's texts hold, and the account of the questions where a model was asked."""
        ...


@dataclass(frozen=True)
class MiningReport:
    """How a stage ended, for a reader."""

    about: str
    prompt: str
    subjects: int
    """Entities or pairs that were asked about."""
    mined: int
    nothing: int
    """Entities without any text that may be read: not asked about."""
    skipped: Mapping[str, int]
    failed: Mapping[str, int]
    """Reason -> entities that nothing was mined for."""
    examples: Sequence[Mapping[str, str]]
    """The first of them, by id."""
    asked: Asked | None

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Mining:
    """What mining came to."""

    dataset: Dataset
    """With the rows that were mined; a row about the same entity or pair was replaced, others were kept."""
    model: str
    stages: tuple[MiningReport, ...]

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
    review (`stage`). What cannot be mined is counted and left as it was. Cost: one question per entity,
    or for an extractive miner O(words).

    Raises:
        UserError: nothing to read, nothing mined at all, a prompt file that is none, or what the miner raises.
    """
    prompts = {side: miner.check(config, side) for side in config.sides}
    reports = []
    for side, prompt in prompts.items():
        stage = stage_of(dataset, side, config)
        outcomes, asked = miner.find(stage)
        pairs = list(zip(stage.entities, outcomes, strict=True))
        rows = [(entity, outcome) for entity, outcome in pairs if not isinstance(outcome, str)]
        failed = [(entity, outcome) for entity, outcome in pairs if isinstance(outcome, str)]
        reports.append(_report(stage, prompt, rows, failed, asked))
        if rows:
            dataset = _with_mined(stage, rows, miner.model, reports[-1])
    if not any(stage.mined for stage in reports):
        reasons = [f"{count} {reason}" for stage in reports for reason, count in stage.failed.items()]
        why = f"all failed: {', '.join(reasons)}" if reasons else "no text that may be read"
        raise UserError(f"data set '{dataset.name}': nothing was mined ({why}); the data set is as it was")
    return Mining(dataset, miner.model, tuple(reports))


def _report(
    stage: MiningStage, prompt: str, rows: Rows, failed: list[tuple[Entity, str]], asked: Asked | None
) -> MiningReport:
    examples = []
    for entity, why in failed[:LISTED]:
        name, item = _ids(stage.dataset, entity)
        ids = {"item": name} if entity.side == "item" else {"user": name}
        examples.append({**ids, **({"item": item} if item else {}), "reason": why})
    return MiningReport(
        about=stage.about,
        prompt=prompt,
        subjects=len(stage.entities),
        mined=len(rows),
        nothing=stage.nothing,
        skipped=stage.skipped,
        failed=dict(Counter(reason for _, reason in failed)),
        examples=examples,
        asked=asked,
    )


# --- Mined rows into a data set's tables, each with a row of provenance in the table `mined`.


def _with_mined(stage: MiningStage, rows: Rows, model: str, report: MiningReport) -> Dataset:
    """The stage's data set with what was found: it replaces rows about the same entity or pair, others stay."""
    dataset, kind = stage.dataset, stage.config.kind
    pairwise = kind == "explanations"
    written = _explanations(dataset, rows) if pairwise else _about(dataset, rows, kind)
    mined = _provenance(stage, rows, model, report.prompt)
    tables = {
        **dataset.tables,
        kind: _replaced(dataset.tables.get(kind), written, PAIR if pairwise else ENTITY),
        "mined": _replaced(dataset.tables.get("mined"), mined, ["table", *ENTITY, "pair_item"]),
    }
    return make_dataset(dataset.name, tables, _source(stage, model, report), duplicates="keep")


def _replaced(old: pl.DataFrame | None, new: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    if old is None:
        return new
    return pl.concat([old.join(new, on=key, how="anti", maintain_order="left"), new], how="diagonal")


def _about(dataset: Dataset, rows: Rows, kind: str) -> pl.DataFrame:
    """Rows of `intents` or `profiles`."""
    ranked = [
        (entity.side, _ids(dataset, entity)[0], rank, value)
        for entity, values in rows
        for rank, value in enumerate(values, start=1)
    ]
    schema = {"side": pl.String, "entity_id": pl.String, "rank": pl.Int64, "phrase": pl.String}
    found = pl.DataFrame(ranked, schema=schema, orient="row")
    return found if kind == "intents" else found.select(*ENTITY, pl.col("phrase").alias("text"))


def _explanations(dataset: Dataset, rows: Rows) -> pl.DataFrame:
    visits = dataset.tables["interactions"].schema
    columns = [
        (dataset.users.values[one.number], dataset.items.values[one.pair_item], values[0], one.split)
        for one, values in rows
    ]
    ids = {column: visits[column] for column in PAIR}
    return pl.DataFrame(columns, schema={**ids, "text": pl.String, "split": pl.String}, orient="row")


def _provenance(stage: MiningStage, rows: Rows, model: str, prompt: str) -> pl.DataFrame:
    dataset, kind = stage.dataset, stage.config.kind
    read = "reviews" if kind == "explanations" else source_table(dataset)
    users, items = dataset.users.values, dataset.items.values
    return pl.DataFrame(
        [
            {
                "table": kind,
                "side": one.side,
                "entity_id": _ids(dataset, one)[0],
                "pair_item": _ids(dataset, one)[1],
                "model": model,
                "prompt": prompt,
                "read": read if one.sources else "",
                "sources": _listed(users if one.side == "item" else items, one.sources),
                "profiles": _listed(items, one.profiles),
                "shipped": one.shipped,
            }
            for one, _ in rows
        ]
    )


def _ids(dataset: Dataset, entity: Entity) -> tuple[str, str]:
    """The entity's own id, and of a pair that of its item."""
    own = dataset.items if entity.side == "item" else dataset.users
    item = str(dataset.items.values[entity.pair_item]) if entity.side == "pair" else ""
    return str(own.values[entity.number]), item


def _listed(ids: Sequence[str | int], numbers: Sequence[int]) -> str:
    return json.dumps([str(ids[number]) for number in numbers], ensure_ascii=False)


def _source(stage: MiningStage, model: str, report: MiningReport) -> Mapping[str, Any]:
    """The data set's source with an entry for this stage; a later one of the same table and side replaces it."""
    source = dict(stage.dataset.source)
    told = {name: getattr(report, name) for name in ("prompt", "subjects", "mined", "nothing", "failed")}
    entry = {"model": model, "options": stage.config.model_dump(), **told}
    if stage.config.kind == "explanations" and "explanations" not in stage.dataset.tables:
        source["split"] = {**source.get("split", {}), "explanations": "that of their interaction"}
    return {**source, "mined": {**source.get("mined", {}), f"{stage.config.kind} of {stage.about}": entry}}
