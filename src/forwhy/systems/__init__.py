"""START READING HERE: every system, one file each.

A system is a class that tells its story in order: its options (the sections of a recipe), its stages, each with what
it learns from the data, and what is measured of it. `beat.py`, `xrec.py` and `llm_bs.py` are the published three; the
others are the baselines of their papers. `base.py` says what a system is, `explaining.py` and `next_item.py` what those
that explain and those that recommend the next item share. `forwhy.recipe` runs the stages and asks no system's name.

A package of somebody else adds a system by an entry point of the group `forwhy.systems` (docs/systems.md).
"""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from forwhy.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from forwhy.systems.base import System

GROUP = "forwhy.systems"
_SHARED = {"__init__", "base", "explaining", "next_item", "generative"}


def names() -> list[str]:
    """Systems that a recipe can name: those of this folder, then other packages'."""
    own = sorted(
        file.stem.replace("_", "-") for file in Path(__file__).parent.glob("*.py") if file.stem not in _SHARED
    )
    return [*own, *(name for name in _others() if name not in own)]


def find_system(name: str) -> type[System]:
    """The class of a system.

    Raises:
        UserError: No system has this name (the nearest is named), or another package's cannot be loaded.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
        raise UserError(f"{name!r} is not one of {', '.join(names())}; did you mean '{near[0]}'?")
    from forwhy.systems.base import System  # here, as `--help` lists names without it

    found = _others().get(name)
    if found is None:
        module = import_module(f"forwhy.systems.{name.replace('-', '_')}")
        kinds = [it for it in vars(module).values() if isinstance(it, type) and issubclass(it, System)]
        return next(kind for kind in kinds if kind.model_fields["system"].default == name)
    try:
        loaded = found.load()
    except Exception as error:  # whatever a stranger's module raises
        raise UserError(
            f"system '{name}': {found.value} cannot be loaded ({error}); reinstall its package"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, System)):
        raise UserError(f"system '{name}': {found.value} is no forwhy.systems.base.System; ask its authors")
    return loaded


def _others() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {found.name: found for found in entry_points(group=GROUP)}
