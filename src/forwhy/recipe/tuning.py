"""Options of a recipe by Optuna: validation rows choose among trials, and no test row is looked at.

OUT/study.journal   Optuna's journal: options and value of each trial, synced as they come
OUT/trials/007/     the run of a trial, as any other run; stages that two trials share are made once
OUT/best.toml       the recipe of the best trial
OUT/tuning.html     every trial, drawn

A trial that was killed goes on in its folder from its last checkpoint, and counts once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from forwhy.atomic import write_text
from forwhy.data.dataset import Dataset
from forwhy.documents import read_toml
from forwhy.errors import UserError, need
from forwhy.options import Options, checked
from forwhy.recipe.runner import RunFolder, run
from forwhy.recipe.schema import dump_model, load_recipe, recipe_file
from forwhy.report.tuning import Tried, Tuned, write_tuning
from forwhy.systems import System

if TYPE_CHECKING:
    from optuna import Study, Trial

log = logging.getLogger(__name__)


class Span(Options):
    """Numbers that are tried; whole ones where both ends are whole."""

    low: int | float
    """The smallest."""
    high: int | float
    """The largest."""
    log: bool = False
    """Whether 1 to 10 is as wide as 10 to 100, as it is for rates."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low is below high and, where log is true, above 0")
        return self


class Space(Options):
    """What is tried, and which validation metric decides; see `spaces.toml`."""

    stage: str
    """The last stage of a trial."""
    metric: str
    """Of the validations of that stage."""
    direction: Literal["maximize", "minimize"]
    """Which of its values are better."""
    tries: dict[str, Span | tuple[int | float | bool | str, ...]] = Field(min_length=1)
    """Key of the recipe -> numbers, or choices."""

    @classmethod
    def read(cls, system: str, file: Path | None) -> Space:
        """A system's own, with what the file says in its place; a system without one needs a file."""
        own = tomllib.loads((Path(__file__).parent / "spaces.toml").read_text(encoding="utf-8")).get(system)
        if own is None and file is None:
            raise UserError(
                f"system '{system}': no options to try by default; name some with --space FILE.toml"
            )
        given = {} if file is None else read_toml(file)
        place, values = f"--space {file}", (own or {}) | given
        return checked(cls, values | {"tries": _tries(values.get("tries"), place)}, place)


def _tries(given: object, place: str, key: str = "") -> dict[str, object]:
    """Dotted key -> what is tried of it, from tables of tables."""
    if isinstance(given, Mapping) and not {"low", "high"} & set(given):
        inner = [_tries(value, place, f"{key}.{name}" if key else name) for name, value in given.items()]
        return {name: values for one in inner for name, values in one.items()}
    if isinstance(given, Mapping):
        return {key: checked(Span, given, f"{place}: '{key}'")}
    if not isinstance(given, list) or not given or any(isinstance(it, list | dict) for it in given):
        raise UserError(f"{place}: '{key or 'tries'}': write choices as [32, 64], or {{ low = 1, high = 9 }}")
    return {key: given}


def tune(
    recipe: Path, out: Path, trials: int, overrides: Sequence[str] = (), space: Path | None = None
) -> Tuned:
    """Try options until `trials` trials have ended, those of an earlier call included.

    Args:
        recipe: Of one run; its own values are the first trial, as far as the space has them.
        out: New, or of the same tuning.
        trials: How many in all.
        overrides: As for `load_recipe`, for every trial.
        space: A TOML file of what to try, in place of the system's own.

    Raises:
        UserError: What does not fit, before anything is tried; another tuning's folder; no trial succeeded.
    """
    for module in ("optuna", "matplotlib", "jinja2"):
        need(module, "tune")
    base = load_recipe(recipe := recipe_file(recipe), overrides)
    chosen = Space.read(base.system, space)
    chosen = chosen.model_copy(update={"stage": base.plan(chosen.stage)[-1].name})
    for key, values in chosen.tries.items():
        for value in (values.low, values.high) if isinstance(values, Span) else values:
            try:
                load_recipe(recipe, [*overrides, _set(key, value)])
            except UserError as error:
                raise UserError(f"what is tried of '{key}': {error}") from None
    where = _set("data.path", str(Path(base.data.path).resolve()))
    return _Tuning(recipe, [*overrides, where], chosen, out, Dataset.load(base.data.path)).run(trials)


@dataclass
class _Tuning:
    """One call of :func:`tune`."""

    recipe: Path
    overrides: Sequence[str]
    space: Space
    out: Path
    dataset: Dataset

    @cached_property
    def base(self) -> System:
        """The recipe with its overrides."""
        return load_recipe(self.recipe, self.overrides)

    def run(self, trials: int) -> Tuned:
        found = self._found()
        try:
            while len(found.tried) < trials:
                self._try(len(found.tried))
                found = self._found()
                last, best = found.tried[-1], found.best
                said = f"failed: {last.why}" if last.value is None else f"{last.value:.4f}"
                kept = f"; best {best.value:.4f} in {best.folder}" if best is not None else ""
                place = f"trial {len(found.tried)} of {trials}"
                log.info("%s: %s %s (%s)%s", place, found.metric, said, last, kept)
        finally:
            if found.best is not None:
                self._keep(found, found.best)
        if found.best is None:
            raise UserError(f"{self.out}: no trial succeeded; the first: {found.tried[0].why}")
        return found

    @cached_property
    def study(self) -> Study:
        """The study of the folder; trials that were killed are the next ones."""
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage
        from optuna.trial import TrialState

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        asked = f"{self.base.model_dump_json()}{self.space.model_dump_json()}{self.dataset.fingerprint}"
        file, identity = self.out / "study.journal", hashlib.sha256(asked.encode()).hexdigest()
        if not file.is_file() and self.out.exists() and (self.out.is_file() or any(self.out.iterdir())):
            raise UserError(
                f"{self.out}: holds something that is no tuning; give --out a new or empty folder"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        storage, way = JournalStorage(JournalFileBackend(str(file))), self.space.direction
        study = optuna.create_study(storage=storage, study_name="forwhy", direction=way, load_if_exists=True)
        if study.user_attrs.get("identity", identity) != identity:
            raise UserError(f"{self.out}: tunes another recipe, data set or space; give --out another folder")
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(own_values(self.base, self.space))
        study.set_user_attr("identity", identity)
        for killed in study.get_trials(states=(TrialState.RUNNING,)):
            study.enqueue_trial(killed.params)
            study.tell(killed.number, state=TrialState.FAIL)
        return study

    def _found(self) -> Tuned:
        ended = [it for it in self.study.get_trials() if it.value is not None or "why" in it.user_attrs]
        told = ((f"{n:03}", it.params, it.value, it.user_attrs.get("why", "")) for n, it in enumerate(ended))
        tried = [Tried(*one) for one in told]
        metric, lower = f"{self.space.metric} of {self.space.stage}", self.space.direction == "minimize"
        scales = {
            key: ("log" if it.log else "linear") if isinstance(it, Span) else "choices"
            for key, it in self.space.tries.items()
        }
        return Tuned(self.base.name, metric, lower, tried, scales)

    def _try(self, done: int) -> None:
        """One trial; how it is drawn depends on the trials before it, not on when a process was killed."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState
        from torch import OutOfMemoryError

        from forwhy.training.loop import Diverged

        self.study.sampler = TPESampler(seed=self.base.seed + done)
        trial = self.study.ask()
        changed = [_set(key, _drawn(trial, key, values)) for key, values in self.space.tries.items()]
        if self.space.stage == "evaluation":
            changed.append("evaluation.split=valid")
        place, value = self.out / "trials" / f"{done:03}", None
        try:
            recipe = load_recipe(self.recipe, [*self.overrides, *changed])
            siblings = [RunFolder(it) for it in place.parent.glob("*")]
            run(recipe, place, self.space.stage, self.dataset, siblings)
            value = self._value(RunFolder(place))
        except (UserError, OutOfMemoryError) as error:
            # Values that make no recipe together, or no training, are a result; a full disk is none.
            if isinstance(error, UserError) and place.exists() and not isinstance(error, Diverged):
                raise
            trial.set_user_attr("why", str(error))
        self.study.tell(trial, value, TrialState.FAIL if value is None else None)

    def _value(self, folder: RunFolder) -> float:
        """The best validation of the stage's last training; of a system that trains nothing its evaluation."""
        stage, metric = self.space.stage, self.space.metric
        if stage == "evaluation":
            return float(folder.evaluation()["ranking"][metric])
        lines = [it for it in folder.history() if it["stage"] == stage and "valid" in it]
        if not lines or metric not in lines[-1]["valid"]:
            has = ", ".join(lines[-1]["valid"]) if lines else "nothing"
            raise UserError(
                f"{folder.path}: the validation of {stage} has no {metric} to go by (it has: {has}); import the data "
                "with validation rows, or name another stage and metric with --space FILE.toml"
            )
        values = [float(it["valid"][metric]) for it in lines if it["task"] == lines[-1]["task"]]
        return max(values) if self.space.direction == "maximize" else min(values)

    def _keep(self, found: Tuned, best: Tried) -> None:
        changed = [_set(key, value) for key, value in best.options.items()]
        about = f"trial {best.folder} of {len(found.tried)}: {found.metric} {best.value:.4f} on validation"
        recipe = load_recipe(self.recipe, [*self.overrides, *changed])
        write_text(self.out / "best.toml", dump_model(recipe, about))
        write_tuning(self.out / "tuning.html", found)


def own_values(base: System, space: Space) -> dict[str, Any]:
    """A recipe's own values, as far as the space has them."""
    found: dict[str, Any] = {}
    for key, it in space.tries.items():
        own: Any = base
        for name in key.split("."):
            own = getattr(own, name, None)
        if own is not None and (it.low <= own <= it.high if isinstance(it, Span) else own in it):
            found[key] = own
    return found


def _set(key: str, value: object) -> str:
    return f"{key}={json.dumps(value)}"


def _drawn(trial: Trial, key: str, values: Span | tuple[int | float | bool | str, ...]) -> object:
    if isinstance(values, tuple):
        return trial.suggest_categorical(key, values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(key, values.low, values.high, log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)
