"""The recommender of a run folder, whatever its system."""

from __future__ import annotations

from forwhy.recipe.folder import RunFolder
from forwhy.recipe.systems import ExplainingRecipe, GenerativeRecipe, ItemKnnRecipe, PopularityRecipe
from forwhy.recommend.base import CatalogueRecommender


def load_recommender(home: RunFolder) -> CatalogueRecommender:
    """What lists items for people. What is only counted is counted again.

    Raises:
        UserError: The stage that makes it is not finished, or its folder is damaged.
    """
    recipe = home.recipe
    if isinstance(recipe, ExplainingRecipe):
        from forwhy.recommend.simple import BehaviourRecommender

        return BehaviourRecommender(home.behaviour())
    if isinstance(recipe, GenerativeRecipe):
        return _generative(home, recipe)
    if isinstance(recipe, ItemKnnRecipe):
        from forwhy.recommend.sequential import ItemKnnRecommender

        return ItemKnnRecommender.fit(home.dataset(), recipe.recommender, recipe.data.graph)
    if isinstance(recipe, PopularityRecipe):
        from forwhy.recommend.simple import PopularityRecommender

        return PopularityRecommender.fit(home.dataset(), recipe.data.graph)
    from forwhy.recommend.sequential import NextItemRecommender

    return NextItemRecommender.from_pretrained(home.output("behaviour"))


def _generative(home: RunFolder, recipe: GenerativeRecipe) -> CatalogueRecommender:
    """How it is asked is what the recipe says now: another beam needs no new training."""
    from forwhy.recommend.llmbs import LlmBsRecommender
    from forwhy.recommend.tiger import TigerRecommender

    kind = LlmBsRecommender if recipe.system == "llm-bs" else TigerRecommender
    found = kind.from_pretrained(home.output("recommender"), recipe.recommender.device)
    asked = {name: getattr(recipe.recommender, name) for name in ("beam", "normalise")}
    found.config = found.config.model_copy(update=asked)
    return found
