"""Doing the stages of a run: which are done, which are not, and how a killed run goes on.

A stage is skipped when the hash of what it reads (dataset fingerprint, its sections, the stages before it) is
the one in `state.json` and its output is there. A stage's working folder is named by that hash, so a changed
recipe never resumes another recipe's checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from forwhy.atomic import atomic_folder, write_text
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.recipe.folder import STAGE_FORMAT, RunFolder
from forwhy.recipe.schema import Grid
from forwhy.systems.base import METRICS, Stage, System, output_of

log = logging.getLogger(__name__)

NO_RESULT = {"device", "checkpoint_seconds"}
"""Options that decide how a result is reached, not which: another device does not redo a stage."""


@dataclass(frozen=True)
class StageReport:
    """What happened to one stage of a run."""

    stage: str
    action: Literal["done", "copied", "skipped", "left out"]
    seconds: float
    """Seconds this stage took when it was done (not: now)."""


def run(
    recipe: System,
    folder: Path | str,
    until: str = "evaluation",
    dataset: Dataset | None = None,
    siblings: Sequence[RunFolder] = (),
) -> list[StageReport]:
    """Brings a run folder up to `until`, doing only what is not done yet.

    Killed at any point and called again, it goes on from the last checkpoint to the same result. A stage that the data
    gives nothing to learn from is left out, with the reason. Under `accelerate launch` every process trains, and the
    main one writes.

    Args:
        recipe: What to do.
        folder: The run folder, new or begun.
        until: The last stage wanted.
        dataset: The dataset, when it is already in memory; otherwise `recipe.data.path` is loaded.
        siblings: Other runs. A training that one of them has finished with the same inputs is copied.

    Raises:
        UserError: The dataset, the folder or a model is not usable, in one line.
    """
    home = RunFolder(folder, dataset)
    steps = recipe.plan(until)
    home.recipe = recipe
    data = home.dataset()
    _on_main(lambda: home.start(recipe))
    reports, others = [], [other for other in siblings if other.path != home.path]
    inputs = _hash(STAGE_FORMAT, data.fingerprint, recipe.data.graph, *map(_content, recipe.files()))
    for step in steps:
        inputs = _stage_inputs(inputs, recipe, step, steps)
        reports.append(_bring_up(home, step, inputs, others))
    return reports


def run_grid(grid: Grid, out: Path, until: str = "evaluation") -> dict[str, list[StageReport]]:
    """Brings every row's run folder `out/ROW` up to `until`; a row that fails does not stop the others.

    A finished row is skipped, a killed one goes on, and a training that two rows share is done once.

    Raises:
        UserError: After all rows: those that failed, and why.
    """
    if (out / "recipe.toml").is_file():
        raise UserError(f"{out}: is the folder of a run; give --out another one for a table of several")
    folders = {row: RunFolder(out / row) for row in grid.rows}
    reports, failed = {}, []
    for number, (row, recipe) in enumerate(grid.rows.items(), start=1):
        log.info("%s: row %d of %d", row, number, len(grid.rows))
        try:
            reports[row] = run(recipe, folders[row].path, until, siblings=list(folders.values()))
        except UserError as error:
            log.warning("%s: %s", row, error)
            failed.append(f"{row}: {error}")
    if failed:
        raise UserError(f"{len(failed)} of {len(grid.rows)} rows failed: {'; '.join(failed)}")
    return reports


def _stage_inputs(before: str, recipe: System, step: Stage, steps: Sequence[Stage]) -> str:
    """The hash of all that a stage reads: what the stage before read, and its own sections."""
    without = NO_RESULT | step.later
    read: list[Any] = [getattr(recipe, it).model_dump(mode="json", exclude=without) for it in step.reads]
    if step.name == "evaluation":
        for other in steps:
            sections = [getattr(recipe, it).model_dump(mode="json") for it in other.reads if other.later]
            read += [section[option] for section in sections for option in sorted(other.later)]
    return _hash(before, step.known_as or step.name, read)


def _content(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); check the path in the recipe") from None


def _bring_up(home: RunFolder, step: Stage, inputs: str, siblings: Sequence[RunFolder]) -> StageReport:
    """Does a stage, copies it, or skips it and says so."""
    reason = home.recipe.left_out(step, home.dataset())
    if reason:
        log.info("%s: dataset '%s' has %s; left out", step.name, home.dataset().name, reason)
        return StageReport(step.name, "left out", 0.0)
    if home.holds(inputs) == step.name:
        _on_main(lambda: home.clear_work(step.name, inputs))  # a kill right after the mark left it
        log.info("%s: unchanged since it was done (%s); skipped", step.name, home.path / output_of(step.name))
        return StageReport(step.name, "skipped", float(home.state()[step.name]["seconds"]))
    donors = siblings if step.name != "evaluation" else ()  # what is measured is measured anew
    donor = next((other for other in donors if other.holds(inputs)), None)
    if donor is not None:
        seconds = _copy(home, donor, step, inputs)
        log.info("%s: the same as in %s; copied", step.name, donor.path)
        return StageReport(step.name, "copied", seconds)
    log.info("%s: begins", step.name)
    if step is home.recipe.stages[0] and home.recipe.data.protocol == "as-published":
        log.warning("protocol as-published: held-out pairs are training edges: %s", home.dataset().leaks())
    started = time.perf_counter()
    home.enter(step.name, inputs)
    _do(home, step)
    seconds = time.perf_counter() - started
    _on_main(lambda: _finish(home, step, inputs, seconds))
    log.info("%s: done in %.0f s (%s)", step.name, seconds, home.path / output_of(step.name))
    return StageReport(step.name, "done", seconds)


def _copy(home: RunFolder, donor: RunFolder, step: Stage, inputs: str) -> float:
    """Takes over a sibling's result; the seconds that it took there."""
    theirs = donor.holds(inputs) or step.name
    seconds = float(donor.state()[theirs]["seconds"])

    def take() -> None:
        with atomic_folder(home.path / output_of(step.name)) as temporary:
            shutil.copytree(donor.output(theirs), temporary, dirs_exist_ok=True)
        lines = [line for line in donor.history() if line["stage"] == theirs]
        _keep_metrics(home.path / METRICS, step.name, lines)
        home.mark(step.name, inputs, seconds)

    _on_main(take)
    return seconds


def _do(home: RunFolder, step: Stage) -> None:
    """Makes one stage and saves what it made. The last stage is measured by the main process alone."""
    make = home.recipe.maker(step)
    if step.name == "evaluation":
        _on_main(lambda: make(home))
        return
    made = make(home)
    if made is not None:
        _on_main(lambda: made.save_pretrained(str(home.path / output_of(step.name))))


def _on_main(action: Callable[[], object]) -> None:
    """Lets the main process act while the others, if there are any, wait for it."""
    from forwhy.training.engine import is_main, wait_for_everyone

    if is_main():
        action()
    wait_for_everyone()


def _finish(home: RunFolder, step: Stage, inputs: str, seconds: float) -> None:
    files = sorted(home.work.rglob(METRICS))
    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    _keep_metrics(home.path / METRICS, step.name, lines)
    home.mark(step.name, inputs, seconds)
    home.clear_work(step.name, inputs)


def _keep_metrics(target: Path, stage: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Writes a stage's metrics into the run's file, in place of what an earlier try of that stage left."""
    before = target.read_text(encoding="utf-8").splitlines() if target.exists() else []
    kept = [line for line in before if json.loads(line).get("stage") != stage]
    kept += [json.dumps({"stage": stage, **line}) for line in found]
    write_text(target, "".join(f"{line}\n" for line in kept))


def _hash(*parts: str | int | Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
