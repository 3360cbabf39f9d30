"""The recipe: one frozen model per section, unknown keys refused with the nearest known one.

Each section is the config of the code that reads it (`TokenizerConfig`, `BeatConfig`, …); only what belongs
to a run as a whole is declared here.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from forwhy.data.intents import IntentsConfig
from forwhy.data.protocols import ProtocolConfig
from forwhy.errors import UserError
from forwhy.explain.config import BeatConfig, ExplainerConfig, XRecConfig
from forwhy.graph.config import CollaborativeConfig
from forwhy.vocabulary.config import TokenizerConfig

System = Literal["beat", "xrec"]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class DataConfig(ProtocolConfig):
    """Which dataset, and what a run may know of it."""

    path: str
    """Folder made by `forwhy data import`; relative to where the command is run."""


class EncoderConfig(_Section):
    """The frozen sentence encoder that gives phrases and explanations their vectors."""

    name: str = "minilm"
    """`minilm` (all-MiniLM-L6-v2, 384 numbers), `hash` (no model, for tests), a Hub id or a folder."""


class EvaluationConfig(_Section):
    """What is measured on held-out pairs. Cost: four NLL passes over `pairs`, `generate` generated texts."""

    pairs: PositiveInt = 300
    """Held-out pairs whose NLL is taken with right, shuffled-user, shuffled-item and shuffled tokens."""
    generate: NonNegativeInt = 300
    """Held-out pairs for which a text is generated and scored; 0 skips the text metrics. Under the
    protocol `zero-shot` also as many warm pairs."""
    ks: tuple[PositiveInt, ...] = (5, 10, 20, 50)
    """Cut-offs of the ranking metrics."""
    seed: NonNegativeInt = 0
    """Which pairs are drawn and how they are shuffled."""


class Recipe(_Section):
    """Everything a run depends on. The resolved one, written into the run folder, is itself a recipe.

    What all systems share; each has its own class below.
    """

    name: str = Field(min_length=1)
    """Shown in reports and model cards."""
    system: System
    """Which of the published systems is run."""
    seed: NonNegativeInt = 0
    """Seed of every section that has one and does not set its own."""
    data: DataConfig
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    explainer: ExplainerConfig
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_seed(cls, values: object) -> object:
        """Gives the recipe's seed to each section that has a `seed` field and leaves it unset."""
        if not isinstance(values, Mapping) or "seed" not in values:
            return values
        return _seeded(cls, values, values["seed"])


class BeatRecipe(Recipe):
    """BEAT: behaviour tokens from interactions and phrases, read by a frozen language model."""

    system: Literal["beat"] = "beat"
    intents: IntentsConfig = Field(default_factory=IntentsConfig)
    vocabulary: TokenizerConfig = Field(default_factory=TokenizerConfig)
    explainer: BeatConfig = Field(default_factory=BeatConfig)


class XRecRecipe(Recipe):
    """XRec: graph vectors through a mixture of experts into every layer of a frozen language model."""

    system: Literal["xrec"] = "xrec"
    collaborative: CollaborativeConfig = Field(default_factory=CollaborativeConfig)
    explainer: XRecConfig = Field(default_factory=XRecConfig)


RECIPES: Mapping[str, type[Recipe]] = {"beat": BeatRecipe, "xrec": XRecRecipe}
"""By the key `system`; a recipe without one is BEAT's."""


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a TOML recipe and applies overrides like `vocabulary.epochs=10`, later ones winning.

    Args:
        path: The recipe file.
        overrides: `a.b=value`; the value is TOML (`3`, `true`, `[5, 20]`) and, where it is not, plain text.

    Raises:
        UserError: The file is missing or not TOML; a key is unknown (the nearest known one is named); a value
            does not fit its field.
    """
    return make_recipe(recipe_values(path, overrides), path)


def default_recipe(system: str, dataset: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A system's recipe on a dataset, with its defaults.

    Raises:
        UserError: As `load_recipe`.
    """
    values: dict[str, Any] = {
        "name": dataset.name,
        "system": system,
        "seed": 0,
        "data": {"path": str(dataset)},
    }
    for override in overrides:
        apply_override(values, override)
    return make_recipe(values, f"defaults of {system}")


def recipe_values(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a TOML file says, with overrides, not yet checked.

    Raises:
        UserError: The file is missing or not TOML; an override is not `a.b=value`.
    """
    values = _read_toml(Path(path))
    for override in overrides:
        apply_override(values, override)
    return values


def make_recipe(values: Mapping[str, Any], path: Path | str) -> Recipe:
    """The recipe of these values; `path` is where they came from, for messages.

    Raises:
        UserError: A key is unknown or a value does not fit its field.
    """
    system = values.get("system", "beat")
    if not isinstance(system, str) or system not in RECIPES:
        near = difflib.get_close_matches(str(system), RECIPES, n=1, cutoff=0.0)
        raise UserError(
            f"{path}: 'system': {system!r} is not one of {', '.join(RECIPES)}; did you mean '{near[0]}'?"
        )
    try:
        return RECIPES[system].model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_in_words(error, RECIPES[system])}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe; look in recipes/ or write one (docs/formats.md)") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: {error.strerror}; a recipe is one TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not TOML: {error}") from None


def apply_override(values: dict[str, Any], override: str) -> None:
    """Sets one dotted key in place; `override` is `a.b=value`.

    Raises:
        UserError: It is not, or goes through a value as if it were a section.
    """
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--set {override}: expected key=value, for example --set vocabulary.epochs=10")
    table = values
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {override}: '{key}' is a value, not a section")
    table[keys[-1]] = _toml_value(text.strip())


def _toml_value(text: str) -> object:
    """The value as TOML reads it, else the text itself, so that `data.path=out/yelp` needs no quotes."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def _in_words(error: ValidationError, kind: type[Recipe]) -> str:
    """Every finding of pydantic as one line, unknown keys first since they often cause the rest."""
    findings = sorted(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden")
    return "; ".join(
        _finding(kind, finding["type"], finding["loc"], finding["msg"]) + _nearest_choice(finding)
        for finding in findings
    )


def _nearest_choice(finding: ErrorDetails) -> str:
    """The nearest of a few allowed words to the one that was given."""
    if finding["type"] != "literal_error" or not isinstance(finding["input"], str):
        return ""
    allowed = re.findall(r"'([^']+)'", finding["ctx"]["expected"])
    near = difflib.get_close_matches(finding["input"], allowed, n=1, cutoff=0.0)
    return f"; did you mean '{near[0]}'?" if near else ""


def _finding(recipe: type[Recipe], kind: str, location: Sequence[int | str], message: str) -> str:
    dotted = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        known = _known_keys(recipe, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)
        return f"unknown key '{dotted}'; did you mean '{'.'.join([*map(str, location[:-1]), *near])}'?"
    if kind == "missing":
        return f"'{dotted}' is missing; add it or pass --set {dotted}=…"
    return f"'{dotted}': {message[:1].lower()}{message[1:]}"


def _known_keys(recipe: type[Recipe], location: Iterable[int | str]) -> list[str]:
    """The keys of the section at a dotted location; empty where the location leads nowhere."""
    section: type[BaseModel] = recipe
    for part in location:
        inner = (
            _inner_model(section.model_fields[str(part)].annotation) if part in section.model_fields else None
        )
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)


def _inner_model(annotation: object) -> type[BaseModel] | None:
    """The pydantic model in an annotation, also inside `X | None`."""
    choices = [annotation, *get_args(annotation)]
    return next((choice for choice in choices if _is_model(choice)), None)


def _seeded(section: type[BaseModel], given: Mapping[str, object], seed: object) -> dict[str, object]:
    """The values of a section with `seed` filled in wherever it or an inner section takes one."""
    values = dict(given)
    for name, field in section.model_fields.items():
        # An optional section that is not given stays absent.
        inner = _inner_model(field.annotation) if name in given else _model(field.annotation)
        below = values.get(name, {})
        if name == "seed":
            values.setdefault("seed", seed)
        elif inner is not None and isinstance(below, Mapping):
            values[name] = _seeded(inner, below, seed)
    return {name: value for name, value in values.items() if value != {} or name in given}


def _model(annotation: object) -> type[BaseModel] | None:
    return annotation if _is_model(annotation) else None


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def packaged_recipe(name: str) -> Path:
    """A recipe that comes with forwhy: inside the installed package, or in the source tree beside it."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "recipes" / name, package.parents[1] / "recipes" / name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"{name}: no such recipe came with forwhy; install it again")
    return found
