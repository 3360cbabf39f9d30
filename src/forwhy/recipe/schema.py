"""Recipes from TOML files and overrides, one or a table of several; unknown keys are refused with the nearest known."""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel

from forwhy.documents import NotToml, parse_toml, read_toml
from forwhy.errors import UserError
from forwhy.options import checked, merged
from forwhy.systems import System, find_system

log = logging.getLogger(__name__)

FORMER: Mapping[str, object] = {
    "explainer.projector.distinct_start": False,
    "vocabulary.text_guess": 0.7,
    "vocabulary.text_score": 0.1,
    "collaborative.start_norm": 6.0,
    "recommender.contrast.projector": "linear",
    "recommender.tasks.preference_text": "words",
}
"""Options of earlier versions -> what they are now."""


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> System:
    """Reads a TOML recipe and applies overrides, later ones winning.

    Args:
        path: The recipe file; one of forwhy's own recipes needs its name only (``popularity.toml``).
        overrides: `a.b=value`; the value is TOML (`3`, `true`, `[5, 20]`) and, where it is not, plain text.

    Raises:
        UserError: No such file, not TOML, an unknown key (the nearest is named), a value that does not fit its field.
    """
    return make_recipe(_overridden(_read_toml(Path(path)), overrides), path)


def default_recipe(system: str, dataset: Path, overrides: Sequence[str] = ()) -> System:
    """A system's recipe on a dataset, with its defaults; errors as `make_recipe`."""
    values = {"name": dataset.name, "system": system, "seed": 0, "data": {"path": str(dataset)}}
    return make_recipe(_overridden(values, overrides), f"defaults of {system}")


def make_recipe(values: Mapping[str, Any], path: Path | str) -> System:
    """The recipe of these values, which have to fit; `path` is where they came from, for messages."""
    name = values.get("system", "beat")
    try:
        kind = find_system(str(name))
    except UserError as error:
        raise UserError(f"{path}: 'system': {error}") from None
    return checked(kind, _without_former(values, path), str(path))


def _without_former(values: Mapping[str, Any], path: Path | str) -> Mapping[str, Any]:
    """Leaves out options of earlier versions, which stand in the resolved recipes of older runs."""
    kept = copy.deepcopy(dict(values))
    for dotted, always in FORMER.items():
        *sections, key = dotted.split(".")
        table: Any = kept
        for section in sections:
            table = table.get(section) if isinstance(table, dict) else None
        if isinstance(table, dict) and table.pop(key, always) != always:
            raise UserError(
                f"{path}: '{dotted}' is no option any more, it is always {always!r}; leave it out"
            )
    return kept


def _read_toml(path: Path) -> dict[str, Any]:
    file = recipe_file(path)
    if not os.path.lexists(file):
        known = ", ".join(_packaged())
        raise UserError(f"{path}: no such recipe; write one with `forwhy init DATA`, or name one of {known}")
    return read_toml(file)


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The values, changed in place by each `a.b=value`, which may not go through a value as if it were a section."""
    for override in overrides:
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
    return values


def _toml_value(text: str) -> object:
    """The value as TOML reads it, else the text itself, so that `data.path=out/yelp` needs no quotes."""
    try:
        parsed = parse_toml(f"value = {text}", f"--set {text}")
    except NotToml:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def dump_model(model: BaseModel, comment: str) -> str:
    """A model as TOML that reads back to an equal one; `None` is left out, as TOML has no null."""
    return f"# {comment}\n{tomli_w.dumps(model.model_dump(mode='json', exclude_none=True))}"


def recipe_file(path: Path) -> Path:
    """A recipe's file; where it is not there, that of the recipe of its name that came with forwhy."""
    if os.path.lexists(path) or path.name not in (ours := _packaged()):
        return path
    log.info("%s: not here, so the recipe of this name that came with forwhy is read", path)
    return ours[path.name]


def packaged_recipe(name: str) -> Path:
    """A recipe that comes with forwhy: inside the installed package, or in the source tree beside it."""
    if name not in (ours := _packaged()):
        raise UserError(f"{name}: no such recipe came with forwhy; install it again")
    return ours[name]


def _packaged() -> dict[str, Path]:
    """All of them by file name."""
    package = Path(__file__).resolve().parents[1]
    places = (package.parents[1] / "recipes", package / "recipes")
    return {path.name: path for place in places for path in sorted(place.glob("*.toml"))}


# --- several runs of one table
#
#     name = "beat-ablations"
#     base = "xrec-yelp.toml"            # beside the grid's file
#     [set]                              # for every row
#     explainer.sar.gamma = 1.0
#     [rows.full]
#     [rows.without-macro]
#     vocabulary.macro = false

KEYS = ("name", "base", "set", "rows")
SHARED = ("name", "seed", "data", "encoder", "evaluation")
"""Sections that no row may change. A row of another system needs a base of sections that both have."""


@dataclass(frozen=True)
class Grid:
    """The runs of one table: a base recipe, and what each row changes; data, seed and evaluation are the same."""

    name: str
    rows: Mapping[str, System]
    """Row -> its whole recipe, in the file's order."""

    def budget(self) -> list[str]:
        """What the rows' trainings may spend: one line for all that may spend the same."""
        spent: dict[str, list[str]] = {}
        for row, recipe in self.rows.items():
            spent.setdefault(recipe.budget(), []).append(row)
        return [f"{', '.join(rows)}: {words}" for words, rows in spent.items()]


def load_grid(path: Path | str, overrides: Sequence[str] = ()) -> Grid | None:
    """The grid in a TOML file, with overrides for every row, which rows win over; None when it is a recipe of one run.

    Raises:
        UserError: The file or its base cannot be read; a row without a usable name, with what rows share, or not valid.
    """
    values = _read_toml(Path(path))
    if not {"base", "rows"} & set(values):
        return None
    _check(values, path)
    base = _read_toml(Path(path).parent / values["base"])
    common = _overridden(merged(base, values.get("set", {})), overrides)
    rows = {
        row: make_recipe(merged(common, {**changes, "name": row}), f"{path}: row '{row}'")
        for row, changes in values["rows"].items()
    }
    return Grid(str(values["name"]), rows)


def _check(values: Mapping[str, Any], path: Path | str) -> None:
    unknown = [key for key in values if key not in KEYS]
    missing = [key for key in KEYS if key != "set" and not values.get(key)]
    if unknown or missing:
        found = f"unknown key '{unknown[0]}'" if unknown else f"'{missing[0]}' is missing"
        raise UserError(f"{path}: {found}; a table of runs has the keys {', '.join(KEYS)}")
    tables = (values.get("set", {}), values["rows"])
    if not isinstance(values["base"], str) or not all(isinstance(it, Mapping) for it in tables):
        raise UserError(f"{path}: 'base' is a file's name, 'set' and 'rows' are tables")
    for row, changes in values["rows"].items():
        if not re.fullmatch(r"\w[\w.-]*", row):
            raise UserError(f"{path}: row '{row}': letters, digits, '-', '_' and '.' only: it names a folder")
        shared = [key for key in SHARED if key in changes] if isinstance(changes, Mapping) else ["all"]
        if shared:
            raise UserError(f"{path}: row '{row}' sets '{shared[0]}', which rows share; set it under [set]")
