"""The run folder: which stages are done, which still stand, and how a killed run goes on.

    RUN/recipe.toml       the resolved recipe; `forwhy run RUN/recipe.toml --out RUN` continues the run
    RUN/state.json        stage -> hash of everything it read, seconds, when
    RUN/vocabulary/       artifact of stage 1 of BEAT; RUN/collaborative/ that of XRec
    RUN/explainer/        artifact of stage 2 (loads alone: what it reads is inside)
    RUN/evaluation.json   stage 3
    RUN/outputs.parquet   its texts: user_id, item_id, prediction, reference; absent without explanations
    RUN/outputs-warm.parquet  the same of test pairs that a zero-shot protocol set aside
    RUN/metrics.jsonl     one line per training evaluation, both stages
    RUN/work/             checkpoints and caches of what is under way; safe to delete, at the price of time

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
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from forwhy.artifact import atomic_file, atomic_folder
from forwhy.data.dataset import Dataset
from forwhy.data.protocols import apply_protocol
from forwhy.errors import UserError
from forwhy.evaluate.outputs import Outputs
from forwhy.recipe.plan import OUTPUTS, STAGES, Stage, Step, plan
from forwhy.recipe.schema import Recipe, load_recipe
from forwhy.recipe.toml import dump_model

if TYPE_CHECKING:
    from forwhy.explain.soft import SoftExplainer
    from forwhy.recipe.stages import Behaviour
    from forwhy.vocabulary.vocabulary import Vocabulary

log = logging.getLogger(__name__)

TEXTS, WARM_TEXTS = "outputs.parquet", "outputs-warm.parquet"
METRICS = "metrics.jsonl"
# Options that decide how a result is reached, not which: another device does not redo a stage.
_NO_RESULT = {"device", "checkpoint_seconds"}
# Raised when a stage's output changes for equal settings: then old outputs must not count as done.
_STAGE_FORMAT = 1


@dataclass(frozen=True)
class StageReport:
    """What happened to one stage of a run."""

    stage: Stage
    action: Literal["done", "copied", "skipped", "left out"]
    seconds: float
    """Seconds this stage took when it was done (not: now)."""


class RunFolder:
    """A run on disk: reads what is finished, says what to do about what is not."""

    def __init__(self, path: Path | str) -> None:
        """Opens nothing yet.

        Args:
            path: The folder given to `--out`.
        """
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """An existing run.

        Raises:
            UserError: The folder is missing or is not a run.
        """
        folder = cls(path)
        if not (folder.path / "recipe.toml").is_file():
            reason = "no recipe.toml in it" if folder.path.is_dir() else "no such folder"
            raise UserError(
                f"{path}: not a run folder: {reason}; make one with: forwhy run RECIPE --out {path}"
            )
        return folder

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe of the run."""
        return load_recipe(self.path / "recipe.toml")

    def dataset(self) -> Dataset:
        """The dataset of the run, from where the recipe says it is, as its protocol lets it be seen."""
        return _seen(self.recipe)

    def output(self, stage: Stage) -> Path:
        """Where a stage's output lies.

        Raises:
            UserError: The stage is not finished.
        """
        if not self.has(stage):
            command = f"forwhy run {self.path / 'recipe.toml'} --out {self.path}"
            raise UserError(f"{self.path}: stage '{stage}' is not finished; go on with: {command}")
        return self.path / OUTPUTS[stage]

    def has(self, stage: Stage) -> bool:
        """Whether a stage is finished and its output is there."""
        return stage in self.state() and (self.path / OUTPUTS[stage]).exists()

    def behaviour(self) -> Behaviour:
        """What stage 1 learned of users and items."""
        from forwhy.graph.collaborative import CollaborativeVectors

        if self.recipe.system == "xrec":
            return CollaborativeVectors.from_pretrained(self.output("collaborative"))
        return self.vocabulary()

    def vocabulary(self) -> Vocabulary:
        """The behaviour vocabulary of stage 1.

        Raises:
            UserError: The run's system has none, or it is not learned yet.
        """
        from forwhy.vocabulary.vocabulary import Vocabulary

        if self.recipe.system != "beat":
            raise UserError(
                f"{self.path}: a run of system '{self.recipe.system}' has no behaviour vocabulary"
            )
        return Vocabulary.from_pretrained(self.output("vocabulary"))

    def explainer(self) -> SoftExplainer[Any, Any, Any]:
        """The explainer of stage 2 (loads the language model: seconds, and its size in memory).

        How it writes is what the recipe says now: another word cap needs no new training.
        """
        from forwhy.explain.loading import load_explainer

        explainer = load_explainer(self.output("explainer"))
        generation = self.recipe.explainer.generation
        explainer.config = explainer.config.model_copy(update={"generation": generation})
        return explainer

    def evaluation(self) -> dict[str, Any]:
        """The evaluation document of stage 3."""
        document: dict[str, Any] = json.loads(self.output("evaluation").read_text(encoding="utf-8"))
        return document

    def outputs(self) -> Outputs | None:
        """The texts that stage 3 generated; None when there was nothing to write about."""
        evaluated = self.evaluation()
        return Outputs.load(self.path / TEXTS) if evaluated["text"] else None

    def history(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl; none before a stage is finished.

        Raises:
            UserError: The file cannot be read.
        """
        file = self.path / METRICS
        try:
            return [json.loads(line) for line in _lines(file)]
        except ValueError:
            raise UserError(
                f"{file}: not readable as lines of JSON; delete it to go without curves"
            ) from None

    def state(self) -> dict[str, dict[str, Any]]:
        """Stage -> {inputs, seconds, finished}; empty for a new folder.

        Raises:
            UserError: `state.json` cannot be read.
        """
        file = self.path / "state.json"
        if not file.exists():
            return {}
        try:
            stages: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["stages"]
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{file}: not readable as a run's state; delete it to do every stage again"
            ) from None
        return stages

    def is_done(self, stage: Stage, inputs: str) -> bool:
        """Whether the stage was finished with exactly these inputs and its output is still there."""
        return self.has(stage) and self.state()[stage]["inputs"] == inputs

    def mark(self, stage: Stage, inputs: str, seconds: float) -> None:
        """Records a finished stage and forgets the later ones, which read an output that is gone."""
        kept = {name: self.state()[name] for name in STAGES[: STAGES.index(stage)] if name in self.state()}
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        kept[stage] = {"inputs": inputs, "seconds": round(seconds, 1), "finished": finished}
        document = {"format": _STAGE_FORMAT, "stages": kept}
        write_text(self.path / "state.json", json.dumps(document, indent=2) + "\n")

    def start(self, recipe: Recipe) -> None:
        """Makes the folder and writes the resolved recipe.

        Raises:
            UserError: The folder holds something that is not a run.
        """
        if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir()) and not self._is_run()):
            raise UserError(
                f"{self.path}: holds something that is not a run; give --out a new or empty folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        # The folder may be read from elsewhere, hence the absolute path.
        path = str(Path(recipe.data.path).resolve())
        resolved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": path})})
        write_text(
            self.path / "recipe.toml", dump_model(resolved, "every value of this run, defaults included")
        )

    def _is_run(self) -> bool:
        return (self.path / "recipe.toml").is_file()

    def work(self, stage: Stage, inputs: str) -> Path:
        """The working folder of a stage with these inputs."""
        folder = self._work(stage, inputs)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_work(self, stage: Stage, inputs: str) -> None:
        """Removes the working folder of a finished stage."""
        shutil.rmtree(self._work(stage, inputs), ignore_errors=True)

    def _work(self, stage: Stage, inputs: str) -> Path:
        return self.path / "work" / f"{stage}-{inputs[:12]}"


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
    steps, data = plan(recipe, until), _seen(recipe, dataset)
    _on_main(lambda: home.start(recipe))
    reports = []
    inputs = _hash(_STAGE_FORMAT, data.fingerprint, recipe.data.graph)
    for step in steps:
        inputs = _stage_inputs(inputs, recipe, step)
        donor = next((other for other in siblings if _can_give(other, home, step.stage, inputs)), None)
        reports.append(_bring_up(home, step.stage, inputs, recipe, data, donor))
    return reports


def _seen(recipe: Recipe, dataset: Dataset | None = None) -> Dataset:
    """What every stage and command reads: the one place where a protocol is applied."""
    whole = Dataset.load(Path(recipe.data.path)) if dataset is None else dataset
    return apply_protocol(whole, recipe.data)


def _stage_inputs(before: str, recipe: Recipe, step: Step) -> str:
    """The hash of all that a stage reads: what the stage before read, and its own sections."""
    out = _NO_RESULT | ({"generation"} if step.stage == "explainer" else set())
    sections = [getattr(recipe, name).model_dump(mode="json", exclude=out) for name in step.reads]
    if step.stage == "evaluation":
        sections.append(recipe.explainer.generation.model_dump(mode="json"))
    return _hash(before, step.stage, sections)


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
    from forwhy.recipe import stages

    output = home.path / OUTPUTS[stage]
    if stage == "evaluation":
        _on_main(lambda: _evaluate(home, recipe, data))
        return
    made: stages.Behaviour | stages.Explainer
    if stage == "explainer":
        made = stages.fit_explainer(recipe, data, home.behaviour(), work)
    else:
        made = stages.learn_behaviour(recipe, data, work)
    _on_main(lambda: made.save_pretrained(output))


def _evaluate(home: RunFolder, recipe: Recipe, data: Dataset) -> None:
    """Writes the texts, then the document that says the stage is done."""
    from forwhy.recipe import stages

    explainer = home.explainer() if len(data.pairs("train")) else None
    evaluation = stages.evaluate_run(recipe, data, home.behaviour(), explainer)
    for name, outputs in {TEXTS: evaluation.outputs, WARM_TEXTS: evaluation.warm}.items():
        if outputs is None:
            (home.path / name).unlink(missing_ok=True)
        else:
            outputs.save(home.path / name)
    text = json.dumps(evaluation.document, indent=2, ensure_ascii=False)
    write_text(home.path / OUTPUTS["evaluation"], f"{text}\n")


def _on_main(action: Callable[[], None]) -> None:
    """Lets the main process act while the others, if there are any, wait for it."""
    from forwhy.training import is_main, wait_for_everyone

    if is_main():
        action()
    wait_for_everyone()


def _finish(home: RunFolder, stage: Stage, inputs: str, seconds: float, work: Path) -> None:
    files = sorted(work.rglob(METRICS))
    _keep_metrics(home.path / METRICS, stage, [json.loads(line) for file in files for line in _lines(file)])
    home.mark(stage, inputs, seconds)
    home.clear_work(stage, inputs)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _keep_metrics(target: Path, stage: Stage, found: Sequence[Mapping[str, Any]]) -> None:
    """Writes a stage's metrics into the run's file, in place of what an earlier try of that stage left."""
    kept = [line for line in _lines(target) if json.loads(line).get("stage") != stage]
    kept += [json.dumps({"stage": stage, **line}) for line in found]
    write_text(target, "".join(f"{line}\n" for line in kept))


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _hash(*parts: str | int | Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
