"""The run folder: what is in it, which stages are done, what can be loaded.

RUN/recipe.toml       the resolved recipe; `forwhy run RUN/recipe.toml --out RUN` continues the run
RUN/state.json        stage -> hash of everything it read, seconds, when
RUN/STAGE/            artifact of a stage (loads alone): vocabulary/ and explainer/ of BEAT, collaborative/ and
                      explainer/ of XRec, behaviour/, index/ and recommender/ of systems of the next item
RUN/evaluation.json   the last stage
RUN/outputs.parquet   its texts: user_id, item_id, prediction, reference; absent without explanations
RUN/outputs-warm.parquet  the same of test pairs that a zero-shot protocol set aside
RUN/ranking.parquet   of systems of the next item: user_id, item_id left out, rank, metrics of each user
RUN/metrics.jsonl     one line per training evaluation, all stages
RUN/work/             checkpoints and caches of what is under way; safe to delete, at the price of time
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from forwhy.atomic import atomic_file
from forwhy.data.dataset import Dataset
from forwhy.data.protocols import apply_protocol
from forwhy.errors import UserError
from forwhy.evaluate.reading import Outputs
from forwhy.recipe.plan import OUTPUTS, STAGES, Stage
from forwhy.recipe.schema import load_recipe
from forwhy.recipe.systems import ExplainingRecipe, Recipe
from forwhy.recipe.toml import dump_model

if TYPE_CHECKING:
    from forwhy.explain.soft import SoftExplainer
    from forwhy.recipe.stages import Behaviour
    from forwhy.recommend.base import CatalogueRecommender
    from forwhy.vocabulary.vocabulary import Vocabulary

TEXTS, WARM_TEXTS = "outputs.parquet", "outputs-warm.parquet"
RANKS = "ranking.parquet"
METRICS = "metrics.jsonl"
# Raised when a stage's output changes for equal settings: then old outputs must not count as done.
STAGE_FORMAT = 1


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
        return seen(self.recipe)

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
        from forwhy.graph.representations import CollaborativeVectors

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

        Raises:
            UserError: The run's system explains nothing, or it is not trained yet.
        """
        from forwhy.explain.loading import load_explainer

        if not isinstance(self.recipe, ExplainingRecipe):
            raise UserError(
                f"{self.path}: a run of system '{self.recipe.system}' recommends without explaining; "
                "explain with a run of beat or xrec"
            )
        explainer = load_explainer(self.output("explainer"))
        generation = self.recipe.explainer.generation
        explainer.config = explainer.config.model_copy(update={"generation": generation})
        return explainer

    def recommender(self) -> CatalogueRecommender:
        """What lists items for people: of BEAT and XRec by stage 1, of the other systems what was trained."""
        from forwhy.recipe.loading import load_recommender

        return load_recommender(self)

    def evaluation(self) -> dict[str, Any]:
        """The evaluation document of stage 3."""
        document: dict[str, Any] = json.loads(self.output("evaluation").read_text(encoding="utf-8"))
        return document

    def outputs(self) -> Outputs | None:
        """The texts that stage 3 generated; None when there was nothing to write about."""
        evaluated = self.evaluation()
        return Outputs.load(self.path / TEXTS) if evaluated["text"] else None

    def ranks(self) -> pl.DataFrame:
        """Rank and metrics of each user, of a system of the next item.

        Raises:
            UserError: Not evaluated yet, or the file cannot be read.
        """
        self.output("evaluation")
        try:
            return pl.read_parquet(self.path / RANKS)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(
                f"{self.path / RANKS}: cannot be read ({error}); make it with: forwhy evaluate {self.path} --again"
            ) from None

    def history(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl; none before a stage is finished.

        Raises:
            UserError: The file cannot be read.
        """
        file = self.path / METRICS
        try:
            return [json.loads(line) for line in lines(file)]
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
        document = {"format": STAGE_FORMAT, "stages": kept}
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


def seen(recipe: Recipe, dataset: Dataset | None = None) -> Dataset:
    """What every stage and command reads: the one place where a protocol is applied."""
    whole = Dataset.load(Path(recipe.data.path)) if dataset is None else dataset
    return apply_protocol(whole, recipe.data)


def lines(file: Path) -> list[str]:
    """Of a file of lines; none where it is missing."""
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Writes an evaluation."""
    write_text(path, f"{json.dumps(document, indent=2, ensure_ascii=False)}\n")
