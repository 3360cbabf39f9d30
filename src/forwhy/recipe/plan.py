"""Which stages a system has, what each reads of the recipe, and where its output lies in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from forwhy.errors import UserError
from forwhy.recipe.schema import Recipe

Stage = Literal["vocabulary", "collaborative", "explainer", "evaluation"]


@dataclass(frozen=True)
class Step:
    """A stage of one system."""

    stage: Stage
    reads: tuple[str, ...]
    """Sections of the recipe, beside the data and what the stages before have read."""


PLANS: Mapping[str, tuple[Step, ...]] = {
    "beat": (
        Step("vocabulary", ("intents", "encoder", "vocabulary")),
        Step("explainer", ("explainer",)),
        Step("evaluation", ("evaluation",)),
    ),
    "xrec": (
        Step("collaborative", ("collaborative",)),
        Step("explainer", ("explainer",)),
        Step("evaluation", ("encoder", "evaluation")),
    ),
}
STAGES: tuple[Stage, ...] = ("vocabulary", "collaborative", "explainer", "evaluation")
"""Of all systems, in order."""
OUTPUTS: Mapping[Stage, str] = {
    "vocabulary": "vocabulary",
    "collaborative": "collaborative",
    "explainer": "explainer",
    "evaluation": "evaluation.json",
}


def plan(recipe: Recipe, until: Stage = "evaluation") -> tuple[Step, ...]:
    """The stages of a recipe's system up to `until`.

    Raises:
        UserError: The system has no such stage.
    """
    steps = PLANS[recipe.system]
    names = [step.stage for step in steps]
    if until not in names:
        raise UserError(f"stage '{until}': system '{recipe.system}' has {', '.join(names)}; name one of them")
    return steps[: names.index(until) + 1]
