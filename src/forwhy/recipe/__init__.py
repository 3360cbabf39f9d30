"""A run from one TOML: the machinery. Which stages there are, and what they do, is each system's (`forwhy.systems`).

`schema` reads recipes and tables of recipes, `folder` is a run on disk, `runner` says which stages are done, skipped or
copied and how a killed run goes on.
"""

from forwhy.recipe.folder import RunFolder
from forwhy.recipe.runner import StageReport, run, run_grid
from forwhy.recipe.schema import Grid, default_recipe, load_grid, load_recipe, packaged_recipe
from forwhy.systems.base import System as Recipe

__all__ = [
    "Grid",
    "Recipe",
    "RunFolder",
    "StageReport",
    "default_recipe",
    "load_grid",
    "load_recipe",
    "packaged_recipe",
    "run",
    "run_grid",
]
