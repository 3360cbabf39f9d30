"""Doing the stages of a run: which are done, which still stand, and how a killed run goes on.

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

from pydantic import BaseModel

from forwhy.atomic import atomic_folder
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.recipe.folder import METRICS, STAGE_FORMAT, RunFolder, lines, seen, write_text
from forwhy.recipe.plan import OUTPUTS, Stage, Step, plan
from forwhy.recipe.systems import ExplainingRecipe, NextItemRecipe, Recipe

log = logging.getLogger(__name__)

# Options that decide how a result is reached, not which: another device does not redo a stage.
_NO_RESULT = {"device", "checkpoint_seconds"}


@dataclass(frozen=True)
class StageReport:
    """What happened to one stage of a run."""

    stage: Stage
    action: Literal["done", "copied", "skipped", "left out"]
    seconds: float
    """Seconds this stage took when it was done (not: now)."""


def run(
    recipe: Recipe,
    folder: Path | str,
    until: Stage = "evaluation",
    dataset: Dataset | None = None,
    siblings: Sequence[RunFolder] = (),
) -> list[StageReport]:
    """Brings a run folder up to `until`, doing only what is not done yet.

    Killed at any point and called again, it goes on from the last checkpoint to the same result. A dataset
    without explanations has nothing for stage 2 to learn from: it is left out, and the evaluation is of the
    vocabulary alone. Under `accelerate launch` every process trains, and the main one writes.

    Args:
        recipe: What to do.
        folder: The run folder, new or begun.
        until: The last stage wanted.
        dataset: The dataset, when it is already in memory; otherwise `recipe.data.path` is loaded.
        siblings: Other runs. A training that one of them has finished with the same inputs is copied.

    Raises:
        UserError: The dataset, the folder or a model is not usable, in one line.
    """
    home = RunFolder(folder)
    steps, data = plan(recipe, until), seen(recipe, dataset)
    _on_main(lambda: home.start(recipe))
    reports = []
    inputs = _hash(STAGE_FORMAT, data.fingerprint, recipe.data.graph, *map(_content, recipe.files))
    for step in steps:
        inputs = _stage_inputs(inputs, recipe, step, steps)
        donor = next((other for other in siblings if _can_give(other, home, step.stage, inputs)), None)
        reports.append(_bring_up(home, step.stage, inputs, recipe, data, donor))
    return reports


def _stage_inputs(before: str, recipe: Recipe, step: Step, steps: Sequence[Step]) -> str:
    """The hash of all that a stage reads: what the stage before read, and its own sections."""
    read = [_values(recipe, name, step.later) for name in step.reads]
    if step.stage == "evaluation":
        for other in steps:
            sections = [getattr(recipe, name).model_dump(mode="json") for name in other.reads if other.later]
            read += [section[option] for section in sections for option in sorted(other.later)]
    return _hash(before, step.stage, read)


def _values(recipe: Recipe, name: str, later: frozenset[str]) -> dict[str, Any]:
    section: BaseModel = getattr(recipe, name)
    return section.model_dump(mode="json", exclude=_NO_RESULT | later)


def _content(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); check the path in the recipe") from None


def _can_give(other: RunFolder, home: RunFolder, stage: Stage, inputs: str) -> bool:
    """Whether another run holds this stage's training; what is measured is measured anew."""
    return stage != "evaluation" and other.path != home.path and other.is_done(stage, inputs)


def _bring_up(
    home: RunFolder, stage: Stage, inputs: str, recipe: Recipe, data: Dataset, donor: RunFolder | None
) -> StageReport:
    """Does a stage, copies it, or skips it and says so."""
    if stage == "explainer" and not len(data.pairs("train")):
        log.info("explainer: dataset '%s' has no explanations to learn from; left out", data.name)
        return StageReport(stage, "left out", 0.0)
    if home.is_done(stage, inputs):
        _on_main(lambda: home.clear_work(stage, inputs))  # a kill right after the mark left it
        log.info("%s: unchanged since it was done (%s); skipped", stage, home.path / OUTPUTS[stage])
        return StageReport(stage, "skipped", float(home.state()[stage]["seconds"]))
    if donor is not None:
        seconds = float(donor.state()[stage]["seconds"])
        _on_main(lambda: _copy(home, donor, stage, inputs, seconds))
        log.info("%s: the same as in %s; copied", stage, donor.path)
        return StageReport(stage, "copied", seconds)
    log.info("%s: begins", stage)
    started = time.perf_counter()
    work = home.work(stage, inputs)
    _do(home, stage, recipe, data, work)
    seconds = time.perf_counter() - started
    _on_main(lambda: _finish(home, stage, inputs, seconds, work))
    log.info("%s: done in %.0f s (%s)", stage, seconds, home.path / OUTPUTS[stage])
    return StageReport(stage, "done", seconds)


def _copy(home: RunFolder, donor: RunFolder, stage: Stage, inputs: str, seconds: float) -> None:
    with atomic_folder(home.path / OUTPUTS[stage]) as temporary:
        shutil.copytree(donor.path / OUTPUTS[stage], temporary, dirs_exist_ok=True)
    _keep_metrics(home.path / METRICS, stage, [line for line in donor.history() if line["stage"] == stage])
    home.mark(stage, inputs, seconds)


def _do(home: RunFolder, stage: Stage, recipe: Recipe, data: Dataset, work: Path) -> None:
    """Runs one stage and writes its output. Stages import torch, so they are imported here."""
    if isinstance(recipe, NextItemRecipe):
        from forwhy.recipe import next_item

        if stage == "evaluation":
            _on_main(lambda: next_item.evaluate(home, recipe, data))
        else:
            learnt = next_item.learn(home, stage, recipe, data, work)
            _on_main(lambda: learnt.save_pretrained(home.path / OUTPUTS[stage]))
        return
    from forwhy.recipe import stages

    assert isinstance(recipe, ExplainingRecipe)
    if stage == "evaluation":
        _on_main(lambda: stages.evaluate(home, recipe, data))
    else:
        made = stages.learn(home, stage, recipe, data, work)
        _on_main(lambda: made.save_pretrained(home.path / OUTPUTS[stage]))


def _on_main(action: Callable[[], None]) -> None:
    """Lets the main process act while the others, if there are any, wait for it."""
    from forwhy.training import is_main, wait_for_everyone

    if is_main():
        action()
    wait_for_everyone()


def _finish(home: RunFolder, stage: Stage, inputs: str, seconds: float, work: Path) -> None:
    files = sorted(work.rglob(METRICS))
    _keep_metrics(home.path / METRICS, stage, [json.loads(line) for file in files for line in lines(file)])
    home.mark(stage, inputs, seconds)
    home.clear_work(stage, inputs)


def _keep_metrics(target: Path, stage: Stage, found: Sequence[Mapping[str, Any]]) -> None:
    """Writes a stage's metrics into the run's file, in place of what an earlier try of that stage left."""
    kept = [line for line in lines(target) if json.loads(line).get("stage") != stage]
    kept += [json.dumps({"stage": stage, **line}) for line in found]
    write_text(target, "".join(f"{line}\n" for line in kept))


def _hash(*parts: str | int | Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
