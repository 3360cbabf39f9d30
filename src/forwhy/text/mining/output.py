"""Mined rows into a data set's tables, each with a row of provenance in the table `mined`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.text.mining.stage import Stage, StageReport, Values
from forwhy.text.mining.subjects import Subject, source_table

__all__ = ["with_mined"]

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
