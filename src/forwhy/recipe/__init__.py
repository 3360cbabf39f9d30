"""A run from one TOML: START READING HERE.

A recipe names a dataset and says how three stages turn it into recommendations with a because:

1. `vocabulary`: interactions and phrases become behaviour tokens (BEAT eq. 2 to 9)  `stages.build_vocabulary`
2. `explainer`: a frozen language model learns to read those tokens (BEAT eq. 10, 11) `stages.fit_explainer`
3. `evaluation`: rankings and texts on held-out pairs, each beside its controls       `stages.evaluate_run`

`schema` holds the recipe itself, `runner` the run folder: which stages are done, which are skipped because
nothing they read has changed, and how a killed run goes on. `grid` makes several runs of one file, for a table.
"""

from forwhy.recipe.grid import Grid, load_grid, run_grid
from forwhy.recipe.runner import STAGES, RunFolder, StageReport, run
from forwhy.recipe.schema import EvaluationConfig, Recipe, load_recipe, packaged_recipe

__all__ = [
    "STAGES",
    "EvaluationConfig",
    "Grid",
    "Recipe",
    "RunFolder",
    "StageReport",
    "load_grid",
    "load_recipe",
    "packaged_recipe",
    "run",
    "run_grid",
]
