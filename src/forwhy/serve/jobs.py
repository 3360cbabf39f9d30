"""Training again while the old run is served: in a process of its own, and swapped in only if it is not worse."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from forwhy.data.dataset import make_dataset
from forwhy.errors import UserError
from forwhy.recipe import RunFolder
from forwhy.serve.runs import ServedRun, identity
from forwhy.serve.service import Service

log = logging.getLogger(__name__)
_WORSE = 0.02
"""Validation may be lower by so much, by chance, relative to the old one."""


def retrain(service: Service, run: ServedRun) -> str:
    """Begins to train a run again; its number.

    Raises:
        UserError: One is being trained already.
    """
    if not service.training.acquire(blocking=False):
        raise UserError("a run is being trained; GET /v1/jobs tells when it is done")
    job = uuid.uuid4().hex
    try:
        service.database.add_job(job, {"run": run.name, "recipe": "recipe.toml of the run"})
        threading.Thread(
            target=_work, args=(service, run, job), name=f"retrain {run.name}", daemon=True
        ).start()
    except BaseException:
        service.training.release()
        raise
    return job


def _work(service: Service, run: ServedRun, job: str) -> None:
    new = run.folder.with_name(f"{run.folder.name}.new")
    try:
        service.database.update_job(job, "running", {})
        data = gathered(service, run, new.with_name(f"{run.folder.name}.data"))
        _train(run.folder / "recipe.toml", data, new)
        detail = decided(run.folder, new)
        if detail["taken"]:
            swap(run.folder, new)
            detail["identity"] = identity(run.folder)
        service.database.update_job(job, "done", detail)
    except Exception as error:  # the thread's own end: whoever asks for the job is told
        log.warning("retraining %s: %s", run.name, error)
        service.database.update_job(job, "failed", {"error": str(error)[:2_000]})
    finally:
        service.training.release()


def gathered(service: Service, run: ServedRun, folder: Path) -> Path:
    """The run's data set with the events since then, and items that came later, in a folder of its own."""
    old = RunFolder.open(run.folder).dataset()
    new = {"interactions": _taken(service).with_columns(split=pl.lit("train")), "items": _said(service)}
    new["users"] = new["interactions"].select("user_id").unique(maintain_order=True)
    tables = dict(old.tables)
    for name, rows in new.items():
        if name in tables and rows.height:
            tables[name] = _appended(tables[name], rows)
    source = {**old.source, "events": new["interactions"].height}
    shutil.rmtree(folder, ignore_errors=True)
    make_dataset(old.name, tables, source, duplicates="first").save(folder)
    return folder


def _appended(table: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """A table with rows more, as far as they have its columns; ids that do not fit its type are left out."""
    shared = [name for name in table.columns if name in rows.columns]
    ids = [name for name in shared if name.endswith("_id")]
    typed = rows.select(pl.col(name).cast(table.schema[name], strict=False) for name in shared)
    return pl.concat([table, typed.drop_nulls(ids)], how="diagonal")


def _said(service: Service) -> pl.DataFrame:
    """Items of the database that say something."""
    split = {item: text.partition("\n") for item, text in service.new_items.get().items()}
    rows = [(item, title, text) for item, (title, _, text) in split.items()]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("item_id", "title", "description"), pl.String), orient="row"
    )


def _taken(service: Service) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        page, cursor = service.database.events(1_000, cursor)
        rows += [{"user_id": one["user"], "item_id": one["item"]} for one in page if one["kind"] == "take"]
        if cursor is None:
            return pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String}).unique(
                maintain_order=True
            )


def _train(recipe: Path, data: Path, out: Path) -> None:
    """`forwhy run` in a process of its own, so that a training that fails takes nothing with it."""
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "forwhy",
        "-q",
        "run",
        str(recipe),
        "--set",
        f"data.path={data}",
        "--out",
        str(out),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    if done.returncode:
        raise UserError(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
        )


def decided(old: Path, new: Path) -> dict[str, Any]:
    """Whether the new run's validation is not worse than the old one's, with both figures."""
    before, after = (_validation(folder) for folder in (old, new))
    metric = next((name for name in before if name in after), None)
    if metric is None:
        return {"taken": True, "reason": "neither has a figure of validation"}
    taken = after[metric] >= before[metric] * (1 - _WORSE)
    return {"taken": taken, "metric": metric, "before": before[metric], "after": after[metric]}


def _validation(folder: Path) -> dict[str, float]:
    """Best figures of ranking on validation people."""
    best: dict[str, float] = {}
    for line in RunFolder.open(folder).history():
        for name, value in (line.get("valid") or {}).items():
            if "@" in name and isinstance(value, float):
                best[name] = max(best.get(name, value), value)
    return best


def swap(old: Path, new: Path) -> None:
    """The new run takes the old one's place; the old one is kept beside it, by when it was replaced."""
    kept = old.with_name(f"{old.name}.before-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    old.rename(kept)
    new.rename(old)
