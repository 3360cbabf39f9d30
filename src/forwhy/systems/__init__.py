"""START READING HERE: every system, one file each.

A system is a class that tells its story in order: its options (the sections of a recipe), its stages, each with what
it learns from the data, and what is measured of it. `beat.py`, `xrec.py` and `llm_bs.py` are the published three; the
others are the baselines of their papers. This file says what a system is, `explaining.py` and `next_item.py` what those
that explain and those that recommend the next item share. `forwhy.recipe` runs the stages and asks no system's name.

A package of somebody else adds a system by an entry point of the group `forwhy.systems` (docs/adding.md).
"""

from __future__ import annotations

import difflib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from forwhy.artifact import SavesItself
from forwhy.atomic import write_text
from forwhy.data.dataset import Dataset
from forwhy.data.split import ProtocolConfig
from forwhy.documents import read_lines
from forwhy.errors import UserError
from forwhy.explain.base import Explainer
from forwhy.explain.plain import PlainExplainer
from forwhy.graph.representations import Representations
from forwhy.options import Options, inner_model
from forwhy.recommend.base import Recommender
from forwhy.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from forwhy.evaluate.ranking import RankingResult


GROUP = "forwhy.systems"
"""Entry points of other packages' systems."""
_SHARED = {"__init__", "explaining", "next_item", "generative", "nodes"}
"""Files of this folder that are no system."""

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
"""Lines of all trainings of a run, in its folder; the names below are of what evaluations write there."""
EVALUATION = "evaluation.json"
TEXTS, WARM_TEXTS = "outputs.parquet", "outputs-warm.parquet"
RANKS = "ranking.parquet"


class DataConfig(ProtocolConfig):
    """Which dataset, and what a run may know of it."""

    path: str
    """Folder made by `forwhy data import`; relative to where the command is run."""


class EncoderConfig(Options):
    """The frozen encoder that gives phrases, explanations and item texts their vectors."""

    name: str = "minilm"
    """`minilm` (all-MiniLM-L6-v2, 384 numbers), `hash` (no model, for tests), a Hub id or a folder; `llm:NAME`: mean
    last states of a causal language model."""


@dataclass(frozen=True)
class Stage:
    """One step of a system. The method `make_NAME(run)` does it and returns what is saved in the folder RUN/NAME.

    A stage is done again when anything that it reads has changed: the data, its sections, or a stage before it.
    """

    name: str
    reads: tuple[str, ...]
    """Sections of the recipe, beside the data and what the stages before have read."""
    later: frozenset[str] = frozenset()
    """Options of these sections that only the evaluation reads: another value needs no new training."""
    known_as: str = ""
    """The name of an equal stage in other systems, whose result may be copied; also accepted by `--until`."""


MEASURE = Stage("evaluation", ("evaluation",))
"""The last stage of every system: it writes `evaluation.json` itself."""


def output_of(stage: str) -> str:
    """Where a stage's result lies in the run folder."""
    return EVALUATION if stage == "evaluation" else stage


class Run(ABC):
    """A run as its stages see it: the data, the outputs of the stages before, a folder to work in."""

    path: Path
    """The run folder."""
    work: Path
    """For checkpoints of the stage that is being made; a killed stage goes on from them."""

    @abstractmethod
    def dataset(self) -> Dataset:
        """The data, as the recipe's protocol lets it be seen."""

    @abstractmethod
    def has(self, stage: str) -> bool:
        """Whether a stage is finished and its output is there."""

    @abstractmethod
    def output(self, stage: str) -> Path:
        """The folder of a finished stage; a UserError with the command that goes on where it is not finished."""

    def history(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl: one for each validation of each training; none before a stage is finished."""
        file = self.path / METRICS
        if not file.exists():
            return []
        return read_lines(file, "delete it to go without curves")


class System(Options, ABC):
    """A recipe: everything that a run of one system depends on, and how each stage is made from it.

    A subclass declares `system: Literal["its-name"] = "its-name"`, its sections as fields, `stages` in order with a
    method `make_NAME(run)` for each, and of what can be asked of a run (`load_recommender`, `load_explainer`,
    `load_vocabulary`) what it has. Its module imports torch inside these methods only.
    """

    model_config = ConfigDict(validate_default=True)
    stages: ClassVar[tuple[Stage, ...]]

    name: str = Field(min_length=1)
    """Shown in reports and model cards."""
    system: str
    """Which system is run."""
    seed: NonNegativeInt = 0
    """Seed of every section that has one and does not set its own."""
    data: DataConfig

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_seed(cls, values: object) -> object:
        if not isinstance(values, Mapping) or "seed" not in values:
            return values
        return _seeded(cls, values, values["seed"])

    @abstractmethod
    def make_evaluation(self, run: Run) -> None:
        """Measure what was learned, and write the documents into the run folder, `evaluation.json` last."""

    def measure_early(self, run: Run) -> dict[str, Any] | None:
        """An evaluation of what is learned so far, where later stages are not made yet; None where there is none."""
        return None

    @abstractmethod
    def user_metrics(self, run: Run) -> tuple[list[str], Mapping[str, NDArray[np.float64]]] | None:
        """Users and what the ranking gave each, by metric; None where nothing was ranked."""

    def rank_after_training(self, run: Run) -> RankingResult | None:
        """Test items as systems of other tasks rank them: training items alone are known, and not offered; None: no."""
        return None

    def budget(self) -> str:
        """What its training may spend, in words: rows of one table should spend alike."""
        return "nothing to train"

    def files(self) -> tuple[Path, ...]:
        """Files that it reads beside the data set; their content belongs to what a stage depends on."""
        return ()

    def models(self, stages: Collection[str]) -> Mapping[str, Callable[[], object]]:
        """Key of the recipe -> what finds the model named there, or raises a UserError; of those that stages load."""
        return {}

    def find_models(self, stages: Collection[str]) -> None:
        """Find the models that these stages load, before the first begins; a UserError names the recipe's key."""
        for key, find in self.models(stages).items():
            try:
                find()
            except UserError as error:
                raise UserError(f"{key}: {error}") from None

    def left_out(self, stage: Stage, dataset: Dataset) -> str:
        """What this data set has, in words, where it leaves out a stage; empty when the stage is made."""
        return ""

    def plan(self, until: str = "evaluation") -> tuple[Stage, ...]:
        """The stages up to `until`, which has to be one of them."""
        steps = self.needed()
        found = [place for place, step in enumerate(steps) if until in (step.name, step.known_as)]
        if not found:
            names = ", ".join(step.name for step in steps)
            raise UserError(f"stage '{until}': system '{self.system}' has {names}; name one of them")
        return steps[: found[0] + 1]

    def needed(self) -> tuple[Stage, ...]:
        """The stages that these options ask for."""
        return self.stages

    def maker(self, stage: Stage) -> Callable[[Run], SavesItself | None]:
        """What makes a stage; what it returns is saved as the stage's output, None has written it itself."""
        made: Callable[[Run], SavesItself | None] = getattr(self, f"make_{stage.name}")
        return made

    def origin(self, dataset: Dataset) -> dict[str, object]:
        """What every protocol begins with: whose numbers these are, and of which data."""
        return {
            "recipe": self.name,
            "system": self.system,
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "interactions": dataset.who_took_what,
            "split": dataset.source.get("split"),
        }

    # --- what can be asked of a finished run

    def load_recommender(self, run: Run) -> Recommender:
        """What lists items for people."""
        raise self._lacks(run, "recommends nothing", "recommend with a run of another system")

    def load_explainer(self, run: Run) -> Explainer[Any, Any]:
        """What says why (loads the language model: seconds, and its size in memory)."""
        raise self._lacks(run, "recommends without explaining", "explain with a run of beat or xrec")

    def explains(self, run: Run) -> bool:
        """Whether an explainer is trained; otherwise plain sentences say why."""
        return False

    def plain_reasons(self, run: Run, recommender: Recommender | None = None) -> PlainExplainer:
        """What says in plain sentences what carried a score; `recommender`: that of this run, where it is loaded."""
        try:
            dataset = run.dataset()
        except UserError as error:
            log.warning("%s; reasons without what is said of things", error)
            dataset = None
        return PlainExplainer(self.load_recommender(run) if recommender is None else recommender, dataset)

    def load_representations(self, run: Run) -> Representations:
        """What ranks and is explained: a vector of each user and item."""
        raise self._lacks(run, "has no representations of users and items", "use a run of beat or xrec")

    def load_vocabulary(self, run: Run) -> Vocabulary:
        """The words of users and items."""
        raise self._lacks(run, "has no behaviour vocabulary", "use a run of beat")

    def _lacks(self, run: Run, what: str, remedy: str) -> UserError:
        return UserError(f"{run.path}: a run of system '{self.system}' {what}; {remedy}")


def write_evaluation(folder: Path, document: Mapping[str, Any]) -> None:
    """The document that says that the last stage is done, whole or not at all."""
    write_text(folder / EVALUATION, f"{json.dumps(document, indent=2, ensure_ascii=False)}\n")


# --- sections inside sections


def _seeded(section: type[BaseModel], given: Mapping[str, object], seed: object) -> dict[str, object]:
    """The values of a section with `seed` filled in wherever it or an inner section takes one."""
    values = dict(given)
    for name, field in section.model_fields.items():
        below = values.get(name, {})
        # An optional section that is not given stays absent.
        optional = name not in given and type(None) in get_args(field.annotation)
        inner = None if optional else inner_model(field.annotation, below)
        if name == "seed":
            values.setdefault("seed", seed)
        elif inner is not None and isinstance(below, Mapping):
            values[name] = _seeded(inner, below, seed)
    return {name: value for name, value in values.items() if value != {} or name in given}


# --- which systems there are


def names() -> list[str]:
    """Systems that a recipe can name: those of this folder, then other packages'."""
    return [*_own(), *(name for name in _others() if name not in _own())]


def _own() -> list[str]:
    files = (file.stem for file in Path(__file__).parent.glob("*.py"))
    return sorted(name.replace("_", "-") for name in files if name not in _SHARED)


def find_system(name: str) -> type[System]:
    """The class of a system.

    Raises:
        UserError: No system has this name (the nearest is named), or another package's cannot be loaded.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
        raise UserError(f"{name!r} is not one of {', '.join(names())}; did you mean '{near[0]}'?")
    found = None if name in _own() else _others().get(name)  # no other package takes the place of ours
    if found is None:
        module = import_module(f"forwhy.systems.{name.replace('-', '_')}")
        kinds = [it for it in vars(module).values() if isinstance(it, type) and issubclass(it, System)]
        return next(kind for kind in kinds if kind.model_fields["system"].default == name)
    try:
        loaded = found.load()
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise UserError(
            f"system '{name}': {found.value[:80]} cannot be loaded ({reason}); reinstall its package"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, System)):
        raise UserError(f"system '{name}': {found.value} is no forwhy.systems.System; ask its authors")
    return loaded


def _others() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {found.name: found for found in entry_points(group=GROUP)}
