"""Training again while the old run is served: in a process of its own, and swapped in only if it is not worse."""

from __future__ import annotations

import glob
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from forwhy.data.dataset import make_dataset
from forwhy.errors import UserError
from forwhy.recipe import RunFolder
from forwhy.serve.database import OPEN, Database
from forwhy.serve.runs import ServedRun, identity
from forwhy.serve.service import Service

log = logging.getLogger(__name__)
_WORSE = 0.02
"""Validation may be lower by so much, by chance, relative to the old one."""


def retrain(service: Service, run: ServedRun) -> str:
    """Begins to train a run again; its number, or Conflict where one is being trained already."""
    job = uuid.uuid4().hex
    service.database.add_job(job, {"run": run.name})
    service.training = threading.Thread(target=_work, args=(service, run, job), daemon=True)
    service.training.start()
    return job


def recover(folder: Path, database: Database) -> None:
    """Ends what a service that was killed left open: jobs, and a run that was taken out and not replaced."""
    for job in database.jobs():
        if job["state"] in OPEN:
            database.update_job(job["id"], "failed", {"error": "the service ended meanwhile; ask again"})
    if not folder.exists() and (kept := _kept(folder)):
        kept[-1].rename(folder)
    _clear(folder, database)


def _work(service: Service, run: ServedRun, job: str) -> None:
    new, data = (_made(run.folder, kind, job) for kind in ("new", "data"))
    try:
        service.database.update_job(job, "running", {})
        _train(service, run.folder / "recipe.toml", gathered(service, run, data), new)
        detail = decided(run.folder, new)
        if detail["taken"]:
            swap(run.folder, new)
            detail["identity"] = identity(run.folder)
        service.database.update_job(job, "done", detail)
    except Exception as error:  # the thread's own end: whoever asks for the job is told
        log.warning("retraining %s: %s", run.name, error)
        service.database.update_job(job, "failed", {"error": str(error)[:2_000]})
    finally:
        _clear(run.folder, service.database)


def gathered(service: Service, run: ServedRun, folder: Path) -> Path:
    """The run's data set with the events since then, and items that came later, in a folder of its own."""
    old = RunFolder.open(run.folder).dataset()
    taken = pl.DataFrame(service.database.taken(), schema=dict.fromkeys(("user", "item", "time"), pl.String))
    moment = pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ").dt.epoch("s")
    took = taken.select(user_id="user", item_id="item", timestamp=moment, split=pl.lit("train"))
    users = took.select("user_id").unique(maintain_order=True)
    columns = dict.fromkeys(("item_id", "title", "description"), pl.String)
    said = [(item, *text.partition("\n")[::2]) for item, text in service.items.get().texts.items()]
    items = pl.DataFrame(said, schema=columns, orient="row")
    new, tables = {"interactions": took, "items": items, "users": users}, dict(old.tables)
    for name, rows in new.items():
        if name in tables and rows.height:
            tables[name] = _appended(tables[name], rows)
    source = {**old.source, "events": took.height}
    make_dataset(old.name, tables, source, duplicates="first").save(folder)
    return folder


def _appended(table: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """A table with rows more, as far as they have its columns; ids that do not fit its type are left out."""
    shared = [name for name in table.columns if name in rows.columns]
    ids = [name for name in shared if name.endswith("_id")]
    typed = rows.select(pl.col(name).cast(table.schema[name], strict=False) for name in shared)
    return pl.concat([table, typed.drop_nulls(ids)], how="diagonal")


def _train(service: Service, recipe: Path, data: Path, out: Path) -> None:
    """`forwhy run` in a process of its own, so that a training that fails takes nothing with it."""
    place = f"data.path={json.dumps(str(data), ensure_ascii=False)}"
    command = [sys.executable, "-m", "forwhy", "-q", "run", str(recipe), "--set", place, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=said, stderr=said, env=environment, text=True) as training,
    ):
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, training.pid, 10)  # answers go before it
        while training.poll() is None:
            if service.stopping.wait(0.5):
                training.terminate()
                raise UserError("the service ended; ask again")
        if training.returncode:
            said.seek(0)
            lines = said.read().strip().splitlines()
            raise UserError(lines[-1] if lines else f"forwhy run: exit {training.returncode}")


def decided(old: Path, new: Path) -> dict[str, Any]:
    """Whether the new run's validation is not worse than the old one's, with both figures."""
    before, after = (_validation(folder) for folder in (old, new))
    metric = next((name for name in before if name in after), None)
    if metric is None:
        return {"taken": True, "reason": "neither has a figure of validation"}
    taken = after[metric] >= before[metric] * (1 - _WORSE)
    return {"taken": taken, "metric": metric, "before": before[metric], "after": after[metric]}


def _validation(folder: Path) -> dict[str, float]:
    best: dict[str, float] = {}
    for line in RunFolder.open(folder).history():
        for name, value in (line.get("valid") or {}).items():
            if "@" in name and isinstance(value, float):
                best[name] = max(best.get(name, value), value)
    return best


def swap(old: Path, new: Path) -> None:
    """The new run takes the old one's place; the old one is kept beside it, by when it was replaced."""
    kept = old.with_name(f"{old.name}.before-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
    old.rename(kept)
    new.rename(old)


def _made(folder: Path, kind: str, job: str) -> Path:
    return folder.with_name(f"{folder.name}.{kind}-{job[:8]}")


def _kept(folder: Path) -> list[Path]:
    return sorted(folder.parent.glob(f"{glob.escape(folder.name)}.before-[0-9]*-[0-9]*-[0-9]*"))


def _clear(folder: Path, database: Database) -> None:
    """Removes what jobs made and neither the run nor the one before it needs: older runs, refused ones, their data."""
    for old in _kept(folder)[:-1]:
        shutil.rmtree(old, ignore_errors=True)
    recipes = [it / "recipe.toml" for it in (folder, *_kept(folder))]
    read = "".join(it.read_text() for it in recipes if it.is_file())
    for job in database.jobs():
        for kind in ("new", "data"):
            made = _made(folder, kind, job["id"])
            if made.name not in read:
                shutil.rmtree(made, ignore_errors=True)
