"""A run from one TOML: START READING HERE.

A recipe names a dataset and a system. The stages of BEAT and XRec turn it into recommendations with a because:

1. `stages.learn_behaviour`: interactions become behaviour tokens (`vocabulary`, BEAT) or graph vectors
   (`collaborative`, XRec)
2. `stages.fit_explainer` (`explainer`): a frozen language model learns to read them
3. `stages.evaluate_run` (`evaluation`): rankings and texts on held-out pairs, each beside its controls

Those of LLM-BS and of the baselines beside it are in `next_item` and `next_item_evaluation`: who takes items
(`behaviour`) and what they say become codes (`index`) that a language model writes (`recommender`).

`systems` holds each system's recipe and `schema` reads it, `plan` says which stages a system has, `folder` what
lies in a run folder, `runner` which stages are done, which are skipped because nothing they read has changed, and
how a killed run goes on. `grid` makes several runs of one file, for a table.
"""

from forwhy.recipe.folder import RunFolder
from forwhy.recipe.grid import Grid, load_grid, run_grid
from forwhy.recipe.plan import STAGES, plan
from forwhy.recipe.runner import StageReport, run
from forwhy.recipe.schema import default_recipe, load_recipe, packaged_recipe
from forwhy.recipe.systems import EvaluationConfig, Recipe

__all__ = [
    "STAGES",
    "EvaluationConfig",
    "Grid",
    "Recipe",
    "RunFolder",
    "StageReport",
    "default_recipe",
    "load_grid",
    "load_recipe",
    "packaged_recipe",
    "plan",
    "run",
    "run_grid",
]
