"""A run on disk: its folder, which stages are done, what can be loaded, and how a killed run goes on.

A stage is skipped when the hash of what it reads (dataset fingerprint, its sections, the stages before it) is the one
in `state.json` and its output is there. Its working folder is named by that hash, so a changed recipe never resumes
another recipe's checkpoint.

- RUN/recipe.toml: the resolved recipe; `forwhy run RUN/recipe.toml --out RUN` continues the run
- RUN/state.json: stage -> hash of everything it read, seconds, when
- RUN/STAGE/: artifact of a stage (loads alone), named as the system names its stages
- RUN/evaluation.json: the last stage
- RUN/outputs.parquet: its texts (user_id, item_id, prediction, reference); absent without explanations
- RUN/outputs-warm.parquet: texts of test pairs that a zero-shot protocol set aside
- RUN/ranking.parquet: of systems of the next item: user_id, item_id left out, rank, metrics of each user
- RUN/metrics.jsonl: a line per training evaluation
- RUN/work/: checkpoints and caches of what is under way; safe to delete, at the price of time
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from forwhy.atomic import atomic_folder, file_sha256, sweep, write_text
from forwhy.data.dataset import Dataset
from forwhy.data.split import apply_protocol
from forwhy.documents import read_lines, require_file
from forwhy.errors import UserError
from forwhy.evaluate.reading import Outputs
from forwhy.explain.base import Explainer
from forwhy.explain.options import ROUNDED, RUN_BY
from forwhy.explain.plain import PlainExplainer
from forwhy.graph.representations import Representations
from forwhy.hub import local
from forwhy.options import stored
from forwhy.recipe.kept import Evaluation, State
from forwhy.recipe.schema import Grid, dump_model, load_recipe
from forwhy.recommend.base import Recommender
from forwhy.systems import METRICS, TEXTS, Run, Stage, System, output_of
from forwhy.vocabulary.vocabulary import Vocabulary

log = logging.getLogger(__name__)

NO_RESULT = {"device", "checkpoint_seconds"} | RUN_BY
"""Options that decide how a result is reached, not which: another device does not redo a stage."""

# Raised when a stage's output changes for equal settings: then old outputs must not count as done.
STAGE_FORMAT = 2


class RunFolder(Run):
    """A run on disk: reads what is finished, says what to do about what is not."""

    def __init__(self, path: Path | str, dataset: Dataset | None = None) -> None:
        """Opens nothing yet; `dataset`: the whole one, when it is already in memory."""
        self.path, self._whole = Path(path), dataset
        self._seen: Dataset | None = None

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """An existing run; a UserError where there is none."""
        folder = cls(local(path))
        if folder._is_run():
            return folder
        why = f"nothing there; make one with: forwhy run RECIPE --out {path}"
        if folder.path.is_dir() and any(folder.path.iterdir()):
            why = (
                "no recipe.toml in it; name the folder that `forwhy run` was given with --out, of a table of runs one "
                "of the folders in it"
            )
        raise UserError(f"{path}: not a run folder: {why}")

    @cached_property
    def recipe(self) -> System:
        """The resolved recipe of the run."""
        return load_recipe(self.path / "recipe.toml")

    def dataset(self) -> Dataset:
        """The dataset of the run, from where the recipe says it is, as its protocol lets it be seen."""
        if self._seen is None:
            whole = Dataset.load(Path(self.recipe.data.path)) if self._whole is None else self._whole
            self._seen = apply_protocol(whole, self.recipe.data)
        return self._seen

    # --- what stages left

    def output(self, stage: str) -> Path:
        """Where the output of a finished stage lies; a UserError where it is not finished or left out."""
        if self.has(stage):
            return self.path / output_of(stage)
        steps = [step for step in self.recipe.stages if step.name == stage]
        if reason := next((self.recipe.left_out(step, self.dataset()) for step in steps), ""):
            mine = f"import some, or mine them with: forwhy mine explanations {self.recipe.data.path} --llm MODEL"
            more = f", and plain sentences are all it says; {mine}" if stage == "explainer" else ""
            raise UserError(f"{self.path}: has no {stage}: its data set has {reason}{more}")
        command = f"forwhy run {self.path / 'recipe.toml'} --out {self.path}"
        raise UserError(f"{self.path}: stage '{stage}' is not finished; go on with: {command}")

    def has(self, stage: str) -> bool:
        """Whether a stage is finished and its output is there."""
        return stage in self.state() and (self.path / output_of(stage)).exists()

    # Each of these four raises a UserError where the run's system has no such thing, or has not learned it yet.

    def behaviour(self) -> Representations:
        """What ranks and is explained: a vector of each user and item."""
        return self.recipe.load_representations(self)

    def vocabulary(self) -> Vocabulary:
        """The words of users and items."""
        return self.recipe.load_vocabulary(self)

    def explainer(self) -> Explainer[Any, Any]:
        """What says why (loads the language model: seconds, and its size in memory)."""
        return self.recipe.load_explainer(self)

    def reasons(self) -> Explainer[Any, Any] | PlainExplainer:
        """What says why, of any run that recommends: the explainer where it is trained, else plain sentences."""
        return self.explainer() if self.recipe.explains(self) else self.recipe.plain_reasons(self)

    def recommender(self) -> Recommender:
        """What lists items for people: none that its data set says they took, in any split, while that is at hand."""
        found = self.recipe.load_recommender(self)
        try:
            found.also_taken = found.catalogue.histories_in(self.dataset().tables["interactions"])
        except UserError as error:
            log.warning("%s; lists leave out only what people took in training", error)
        return found

    def evaluation(self) -> dict[str, Any]:
        """The evaluation document."""
        remedy = f"measure the run again with: forwhy evaluate {self.path} --again"
        return stored(Evaluation, self.output("evaluation"), remedy).model_dump(exclude_unset=True)

    def outputs(self) -> Outputs | None:
        """The texts that the evaluation generated; None when there was nothing to write about."""
        return Outputs.load(self.path / TEXTS) if self.evaluation()["text"] else None

    # --- what is done

    def state(self) -> dict[str, dict[str, Any]]:
        """Stage -> {inputs, seconds, finished}; empty for a new folder."""
        file = self.path / "state.json"
        if not file.exists():
            return {}
        return stored(State, file, "delete it to do every stage again").model_dump()["stages"]  # type: ignore[no-any-return]

    def holds(self, inputs: str) -> str | None:
        """The stage that was finished with exactly these inputs and whose output is still there."""
        fitting = (name for name, it in self.state().items() if it["inputs"] == inputs)
        return next(filter(self.has, fitting), None)

    def mark(self, stage: str, inputs: str, seconds: float) -> None:
        """Records a finished stage and forgets the later ones, which read an output that is gone."""
        names = [step.name for step in self.recipe.stages]
        before = names[: names.index(stage)]
        kept = {name: entry for name, entry in self.state().items() if name in before}
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        kept[stage] = {"inputs": inputs, "seconds": round(seconds, 1), "finished": finished}
        document = {"format": STAGE_FORMAT, "stages": kept}
        write_text(self.path / "state.json", json.dumps(document, indent=2) + "\n")

    def start(self, recipe: System) -> None:
        """Makes the folder, unless it holds something that is no run, and writes the resolved recipe."""
        if self._is_taken():
            raise UserError(f"{self.path}: holds something that is not a run; give --out an empty folder")
        sweep(self.path)
        path = str(Path(recipe.data.path).resolve())  # the folder may be read from elsewhere
        resolved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": path})})
        file = self.path / "recipe.toml"
        text = dump_model(resolved, "every value of this run, defaults included")
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)

    def _is_taken(self) -> bool:
        """Whether something that is no run is there; the beginning of a recipe, left by a kill, is none."""
        held = self.path.iterdir() if self.path.is_dir() else ()
        begun = (it.name.startswith(".recipe.toml.") and it.suffix == ".partial" for it in held)
        return self.path.is_file() or not (self._is_run() or all(begun))

    def undo(self, before: str | None, made: Sequence[Path]) -> None:
        """Puts back the recipe that was there; where nothing was done yet, removes what was `made` for it."""
        file, work = self.path / "recipe.toml", self.path / "work"
        for folder in (*work.glob("*"), work):
            with suppress(OSError):  # it holds a checkpoint
                folder.rmdir()
        if work.exists() or not file.is_file():
            return
        if before is not None:
            write_text(file, before)
        elif not self.state() and len(self.recipe.plan()) > 1:  # else it learns nothing, and can be asked
            file.unlink()
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()

    def _is_run(self) -> bool:
        return (self.path / "recipe.toml").is_file()

    def enter(self, stage: str, inputs: str) -> Path:
        """Makes the working folder of a stage with these inputs and works there."""
        self.work = self._work(stage, inputs)
        self.work.mkdir(parents=True, exist_ok=True)
        return self.work

    def clear_work(self, stage: str, inputs: str) -> None:
        """Removes the working folder of a finished stage."""
        shutil.rmtree(self._work(stage, inputs), ignore_errors=True)

    def _work(self, stage: str, inputs: str) -> Path:
        return self.path / "work" / f"{stage}-{inputs[:12]}"


# --- Doing the stages


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
    again: bool = False,
) -> list[StageReport]:
    """Brings a run folder, new or begun, up to `until`, doing only what is not done yet.

    Killed at any point and called again, it goes on from the last checkpoint to the same result. A stage that the data
    gives nothing to learn from is left out, with the reason. Under `accelerate launch` every process trains, and the
    main one writes.

    Args:
        recipe: What to do.
        folder: The run folder.
        until: The last stage wanted.
        dataset: The dataset, when it is already in memory; otherwise `recipe.data.path` is loaded.
        siblings: Other runs. A training that one of them has finished with the same inputs is copied.
        again: Measure anew what was measured; until that stands, the old evaluation stays.

    Raises:
        UserError: The dataset, the folder or a model is not usable, in one line.
    """
    home = RunFolder(folder, dataset)
    steps = recipe.plan(until)
    home.recipe = recipe
    data = home.dataset()
    others = [other for other in siblings if other.path != home.path]
    inputs = _hash(STAGE_FORMAT, data.fingerprint, recipe.data.graph, *map(_content, recipe.files()))
    known = [(step, inputs := _stage_inputs(inputs, recipe, step, steps)) for step in steps]
    made = {step.name: inputs for step, inputs in known if not recipe.left_out(step, data)}
    if any(home.holds(inputs) != name for name, inputs in made.items()):
        recipe.find_models(made)
    file = home.path / "recipe.toml"
    before = file.read_text(encoding="utf-8") if file.is_file() else None
    missing = [it for it in file.parents if not it.exists()]
    _on_main(lambda: home.start(recipe))
    try:
        return [_bring_up(home, step, inputs, others, again) for step, inputs in known]
    except UserError:
        _on_main(lambda: home.undo(before, missing))
        raise


def run_grid(grid: Grid, out: Path, until: str = "evaluation") -> dict[str, list[StageReport]]:
    """Brings every row's run folder `out/ROW` up to `until`; a row that fails does not stop the others.

    A finished row is skipped, a killed one goes on, and a training that two rows share is done once. Raises a
    UserError after all rows: those that failed, and why.
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
    without = NO_RESULT | step.later
    read: list[Any] = [getattr(recipe, it).model_dump(mode="json", exclude=without) for it in step.reads]
    if step.name == "evaluation":
        parts = [(it.later, getattr(recipe, s).model_dump(mode="json")) for it in steps for s in it.reads]
        read += [part[option] for later, part in parts for option in sorted(later)]
        read += [part["engine"] for _, part in parts if part.get("engine") in ROUNDED]
    return _hash(before, step.known_as or step.name, read)


def _content(file: Path) -> str:
    require_file(file, may_be_empty=True)
    return file_sha256(file)


def _bring_up(
    home: RunFolder, step: Stage, inputs: str, siblings: Sequence[RunFolder], again: bool = False
) -> StageReport:
    if reason := home.recipe.left_out(step, home.dataset()):
        log.info("%s: dataset '%s' has %s; left out", step.name, home.dataset().name, reason)
        return StageReport(step.name, "left out", 0.0)
    if home.holds(inputs) == step.name and not (again and step.name == "evaluation"):
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
    lines = [line for file in files for line in read_lines(file)]
    _keep_metrics(home.path / METRICS, step.name, lines)
    home.mark(step.name, inputs, seconds)
    home.clear_work(step.name, inputs)


def _keep_metrics(target: Path, stage: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Writes a stage's metrics into the run's file, in place of what an earlier try of that stage left."""
    before = read_lines(target, "delete it to go without curves") if target.exists() else []
    kept = [line for line in before if line.get("stage") != stage]
    lines = (json.dumps(line) for line in [*kept, *({"stage": stage, **line} for line in found)])
    write_text(target, "".join(f"{line}\n" for line in lines))


def _hash(*parts: str | int | Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
