"""A run from one TOML: the machinery. Which stages there are, and what they do, is each system's (`forwhy.systems`)."""

from forwhy.recipe.runner import RunFolder, StageReport, run, run_grid
from forwhy.recipe.schema import Grid, default_recipe, load_grid, load_recipe, packaged_recipe
from forwhy.systems import System as Recipe

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
