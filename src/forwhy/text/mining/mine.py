"""Mining from end to end: a data set in, the same with mined tables and where each row came from out."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import polars as pl

from forwhy.columns import PAIR
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.text.chat.asking import Asked
from forwhy.text.mining.stage import Entity, MiningConfig, MiningStage, source_table, stage_of

Values = tuple[str, ...]
"""Phrases, the most important first; or one text."""
Outcomes = Sequence[Values | str]
"""By entity, what was mined, or the reason for nothing."""
Rows = list[tuple[Entity, Values]]
ENTITY = ["side", "entity_id"]
LISTED = 20
"""Failures named in a report."""


class Miner(Protocol):
    """Who mines."""

    model: str
    """Written beside every row, as who it comes from."""

    def find(self, stage: MiningStage) -> tuple[Outcomes, str, Asked | None]:
        """What each entity's texts hold; SHA-256 of what was asked but the data (empty: nothing); the account."""


@dataclass(frozen=True)
class Mining:
    """What mining came to."""

    dataset: Dataset
    """With the rows that were mined; a row about the same entity or pair was replaced, others were kept."""
    model: str
    stages: list[dict[str, Any]]
    """How each stage ended, as plain JSON values: what it is `about`, the SHA-256 of its `prompt`, how many
    `subjects` were asked about and `mined`, how many had `nothing` to read, `skipped` and `failed` by reason,
    the first failures as `examples`, and the account of what was `asked`."""

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"model": self.model, "stages": self.stages, "fingerprint": self.dataset.fingerprint}


def mine(dataset: Dataset, config: MiningConfig, miner: Miner) -> Mining:
    """Mine one kind of text for the configured sides, items first.

    Nothing about a held-out pair is read, except that an explanation is written from its pair's own review (`stage`).
    What cannot be mined is counted and left; where that is all, it is refused. A question per entity, or O(words).
    """
    reports: list[dict[str, Any]] = []
    for side in config.sides:
        stage = stage_of(dataset, side, config)
        outcomes, prompt, asked = miner.find(stage)
        pairs = list(zip(stage.entities, outcomes, strict=True))
        rows = [(entity, outcome) for entity, outcome in pairs if not isinstance(outcome, str)]
        failed = [(entity, outcome) for entity, outcome in pairs if isinstance(outcome, str)]
        report: dict[str, Any] = {
            "about": stage.about,
            "prompt": prompt,
            "subjects": len(pairs),
            "mined": len(rows),
            "nothing": stage.nothing,
            "skipped": stage.skipped,
            "failed": dict(Counter(reason for _, reason in failed)),
            "examples": [_failure(entity, reason) for entity, reason in failed[:LISTED]],
            "asked": None if asked is None else asdict(asked),
        }
        reports.append(report)
        if rows:
            dataset = _with_mined(stage, rows, miner.model, report)
    if not any(report["mined"] for report in reports):
        reasons = [f"{count} {reason}" for report in reports for reason, count in report["failed"].items()]
        why = f"all failed: {', '.join(reasons)}" if reasons else "no text that may be read"
        raise UserError(f"data set '{dataset.name}': nothing was mined ({why}); the data set is as it was")
    return Mining(dataset, miner.model, reports)


def _failure(entity: Entity, reason: str) -> dict[str, str]:
    if entity.side == "pair":
        return {"user": entity.id, "item": entity.item, "reason": reason}
    return {entity.side: entity.id, "reason": reason}


# --- Mined rows into a data set's tables, each with a row of provenance in the table `mined`.


def _with_mined(stage: MiningStage, rows: Rows, model: str, report: Mapping[str, Any]) -> Dataset:
    """The stage's data set with what was found: it replaces rows about the same entity or pair, others stay."""
    dataset, kind = stage.dataset, stage.config.kind
    pairwise = kind == "explanations"
    written = _explanations(dataset, rows) if pairwise else _about(rows, kind)
    read = "reviews" if pairwise else source_table(dataset)
    sources = [
        {
            "table": kind,
            "side": one.side,
            "entity_id": one.id,
            "pair_item": one.item,
            "model": model,
            "prompt": report["prompt"],
            "read": read if one.sources else "",
            "sources": json.dumps(one.sources, ensure_ascii=False),
            "profiles": json.dumps(one.profiles, ensure_ascii=False),
            "shipped": one.shipped,
        }
        for one, _ in rows
    ]
    mined = pl.DataFrame(sources)
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


def _about(rows: Rows, kind: str) -> pl.DataFrame:
    ranked = [(one.side, one.id, rank, value) for one, values in rows for rank, value in enumerate(values, 1)]
    schema = {"side": pl.String, "entity_id": pl.String, "rank": pl.Int64, "phrase": pl.String}
    found = pl.DataFrame(ranked, schema=schema, orient="row")
    return found if kind == "intents" else found.select(*ENTITY, pl.col("phrase").alias("text"))


def _explanations(dataset: Dataset, rows: Rows) -> pl.DataFrame:
    visits = dataset.tables["interactions"].schema
    written = [(one.id, one.item, values[0], one.split) for one, values in rows]
    found = pl.DataFrame(written, schema=dict.fromkeys([*PAIR, "text", "split"], pl.String), orient="row")
    return found.cast({column: visits[column] for column in PAIR})


def _source(stage: MiningStage, model: str, report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data set's source with an entry for this stage; a later one of the same table and side replaces it."""
    source = dict(stage.dataset.source)
    told = {name: report[name] for name in ("prompt", "subjects", "mined", "nothing", "failed")}
    entry = {"model": model, "options": stage.config.model_dump(), **told}
    if stage.config.kind == "explanations" and "explanations" not in stage.dataset.tables:
        source["split"] = {**source.get("split", {}), "explanations": "that of their interaction"}
    return {**source, "mined": {**source.get("mined", {}), f"{stage.config.kind} of {stage.about}": entry}}
