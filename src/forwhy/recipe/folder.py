"""The run folder: what is in it, which stages are done, what can be loaded.

RUN/recipe.toml       the resolved recipe; `forwhy run RUN/recipe.toml --out RUN` continues the run
RUN/state.json        stage -> hash of everything it read, seconds, when
RUN/STAGE/            artifact of a stage (loads alone), named as the system names its stages
RUN/evaluation.json   the last stage
RUN/outputs.parquet   its texts: user_id, item_id, prediction, reference; absent without explanations
RUN/outputs-warm.parquet  texts of test pairs that a zero-shot protocol set aside
RUN/ranking.parquet   of systems of the next item: user_id, item_id left out, rank, metrics of each user
RUN/metrics.jsonl     one line per training evaluation, all stages
RUN/work/             checkpoints and caches of what is under way; safe to delete, at the price of time
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from forwhy.atomic import write_text
from forwhy.data.dataset import Dataset
from forwhy.data.split import apply_protocol
from forwhy.errors import UserError
from forwhy.evaluate.reading import Outputs
from forwhy.explain.base import Explainer
from forwhy.graph.representations import Representations
from forwhy.recipe.schema import dump_model, load_recipe
from forwhy.recommend.base import Recommender
from forwhy.systems.base import TEXTS, Run, System, output_of
from forwhy.vocabulary.vocabulary import Vocabulary

# Raised when a stage's output changes for equal settings: then old outputs must not count as done.
STAGE_FORMAT = 2


class RunFolder(Run):
    """A run on disk: reads what is finished, says what to do about what is not."""

    def __init__(self, path: Path | str, dataset: Dataset | None = None) -> None:
        """Opens nothing yet.

        Args:
            path: The folder given to `--out`.
            dataset: The whole dataset, when it is already in memory.
        """
        self.path = Path(path)
        self._whole = dataset

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """An existing run.

        Raises:
            UserError: The folder is missing or is not a run.
        """
        folder = cls(path)
        if not folder._is_run():
            reason = "no recipe.toml in it" if folder.path.is_dir() else "no such folder"
            raise UserError(
                f"{path}: not a run folder: {reason}; make one with: forwhy run RECIPE --out {path}"
            )
        return folder

    @cached_property
    def recipe(self) -> System:
        """The resolved recipe of the run."""
        return load_recipe(self.path / "recipe.toml")

    def dataset(self) -> Dataset:
        """The dataset of the run, from where the recipe says it is, as its protocol lets it be seen."""
        return self._seen

    @cached_property
    def _seen(self) -> Dataset:
        whole = Dataset.load(Path(self.recipe.data.path)) if self._whole is None else self._whole
        return apply_protocol(whole, self.recipe.data)

    # --- what stages left

    def output(self, stage: str) -> Path:
        """Where a stage's output lies.

        Raises:
            UserError: The stage is not finished.
        """
        if not self.has(stage):
            command = f"forwhy run {self.path / 'recipe.toml'} --out {self.path}"
            raise UserError(f"{self.path}: stage '{stage}' is not finished; go on with: {command}")
        return self.path / output_of(stage)

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

    def recommender(self) -> Recommender:
        """What lists items for people."""
        return self.recipe.load_recommender(self)

    def evaluation(self) -> dict[str, Any]:
        """The evaluation document."""
        document: dict[str, Any] = json.loads(self.output("evaluation").read_text(encoding="utf-8"))
        return document

    def outputs(self) -> Outputs | None:
        """The texts that the evaluation generated; None when there was nothing to write about."""
        return Outputs.load(self.path / TEXTS) if self.evaluation()["text"] else None

    # --- what is done

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

    def holds(self, inputs: str) -> str | None:
        """The stage that was finished with exactly these inputs and whose output is still there."""
        return next(
            (name for name, it in self.state().items() if it["inputs"] == inputs and self.has(name)), None
        )

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
        written = dump_model(resolved, "every value of this run, defaults included")
        write_text(self.path / "recipe.toml", written)

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
