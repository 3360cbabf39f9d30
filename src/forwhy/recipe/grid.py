"""Several runs of one table: a base recipe, and what each row changes.

    name = "beat-ablations"
    base = "xrec-yelp.toml"            # beside the grid's file
    [set]                              # for every row
    explainer.sar.gamma = 1.0
    [rows.full]
    [rows.without-macro]
    vocabulary.macro = false

Rows share data, seed and evaluation, so that their numbers may stand side by side; what each may spend is in
`Grid.budget`. A row is a run folder OUT/ROW: a finished one is skipped, a killed one goes on, and a training
that two rows share is done once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forwhy.errors import UserError
from forwhy.options import merged
from forwhy.recipe.folder import RunFolder
from forwhy.recipe.runner import StageReport, run
from forwhy.recipe.schema import apply_override, make_recipe, recipe_values
from forwhy.systems.base import System

log = logging.getLogger(__name__)

KEYS = ("name", "base", "set", "rows")
SHARED = ("name", "seed", "data", "encoder", "evaluation")
"""Sections that no row may change. A row of another system needs a base of sections that both have."""


@dataclass(frozen=True)
class Grid:
    """The runs of one table."""

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
    """The grid in a TOML file; None when the file is a recipe of one run.

    Args:
        path: The file.
        overrides: `a.b=value` for every row, as for `load_recipe`; rows win over them.

    Raises:
        UserError: The file or its base cannot be read; a row has no usable name, changes what rows share, or
            makes no valid recipe.
    """
    values = recipe_values(path)
    if not {"base", "rows"} & set(values):
        return None
    _check(values, path)
    common = merged(recipe_values(Path(path).parent / values["base"]), values.get("set", {}))
    for override in overrides:
        apply_override(common, override)
    rows = {
        row: make_recipe(merged(common, {**changes, "name": row}), f"{path}: row '{row}'")
        for row, changes in values["rows"].items()
    }
    return Grid(str(values["name"]), rows)


def run_grid(grid: Grid, out: Path, until: str = "evaluation") -> dict[str, list[StageReport]]:
    """Brings every row's run folder `out/ROW` up to `until`; a row that fails does not stop the others.

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


def _check(values: Mapping[str, Any], path: Path | str) -> None:
    unknown = [key for key in values if key not in KEYS]
    missing = [key for key in KEYS if key != "set" and not values.get(key)]
    if unknown or missing:
        found = f"unknown key '{unknown[0]}'" if unknown else f"'{missing[0]}' is missing"
        raise UserError(f"{path}: {found}; a table of runs has the keys {', '.join(KEYS)}")
    if not isinstance(values["base"], str) or not _tables(values.get("set", {}), values["rows"]):
        raise UserError(f"{path}: 'base' is a file's name, 'set' and 'rows' are tables")
    for row, changes in values["rows"].items():
        if not re.fullmatch(r"\w[\w.-]*", row):
            raise UserError(f"{path}: row '{row}': letters, digits, '-', '_' and '.' only: it names a folder")
        shared = [key for key in SHARED if key in changes] if isinstance(changes, Mapping) else ["all"]
        if shared:
            raise UserError(f"{path}: row '{row}' sets '{shared[0]}', which rows share; set it under [set]")


def _tables(*values: object) -> bool:
    return all(isinstance(value, Mapping) for value in values)
