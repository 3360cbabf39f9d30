"""Which stages a system has, what each reads of the recipe, and where its output lies in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from forwhy.errors import UserError
from forwhy.recipe.systems import GenerativeRecipe, Recipe

Stage = Literal["vocabulary", "collaborative", "behaviour", "index", "recommender", "explainer", "evaluation"]


@dataclass(frozen=True)
class Step:
    """A stage of one system."""

    stage: Stage
    reads: tuple[str, ...]
    """Sections of the recipe, beside the data and what the stages before have read."""
    later: frozenset[str] = frozenset()
    """Options of these sections that only the evaluation reads: another value needs no new training."""


_EVALUATION = Step("evaluation", ("evaluation",))
_EXPLAINER = Step("explainer", ("explainer",), frozenset({"generation"}))
# The same name and options as in LLM-BS, so that a network trained for either serves both.
_NETWORK = Step("behaviour", ("recommender",))
_GENERATIVE = (
    Step("behaviour", ("behaviour",)),
    Step("index", ("encoder", "behaviour", "index")),
    Step("recommender", ("recommender",), frozenset({"beam", "normalise"})),
    _EVALUATION,
)
PLANS: Mapping[str, tuple[Step, ...]] = {
    "beat": (Step("vocabulary", ("intents", "encoder", "vocabulary")), _EXPLAINER, _EVALUATION),
    "xrec": (
        Step("collaborative", ("collaborative",)),
        _EXPLAINER,
        Step("evaluation", ("encoder", "evaluation")),
    ),
    "llm-bs": _GENERATIVE,
    "tiger": _GENERATIVE,
    "sasrec": (_NETWORK, _EVALUATION),
    "gru4rec": (_NETWORK, _EVALUATION),
    "item-knn": (Step("evaluation", ("recommender", "evaluation")),),
    "popularity": (_EVALUATION,),
}
STAGES: tuple[Stage, ...] = (
    "vocabulary",
    "collaborative",
    "behaviour",
    "index",
    "recommender",
    "explainer",
    "evaluation",
)
"""Of all systems, in order."""
OUTPUTS: Mapping[Stage, str] = {
    "vocabulary": "vocabulary",
    "collaborative": "collaborative",
    "behaviour": "behaviour",
    "index": "index",
    "recommender": "recommender",
    "explainer": "explainer",
    "evaluation": "evaluation.json",
}


def plan(recipe: Recipe, until: Stage = "evaluation") -> tuple[Step, ...]:
    """The stages of a recipe's system up to `until`; a network that nothing would read is left out.

    Raises:
        UserError: The system has no such stage.
    """
    steps = PLANS[recipe.system]
    if isinstance(recipe, GenerativeRecipe) and not recipe.trains_behaviour:
        steps = tuple(step for step in steps if step.stage != "behaviour")
    names = [step.stage for step in steps]
    if until not in names:
        raise UserError(f"stage '{until}': system '{recipe.system}' has {', '.join(names)}; name one of them")
    return steps[: names.index(until) + 1]
