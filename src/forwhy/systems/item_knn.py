"""Item-kNN: items taken by the same people as those of the history. Counted, not trained."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from forwhy.recommend.item_knn import ItemKnnRecommender, KnnConfig
from forwhy.systems.base import Run, Stage
from forwhy.systems.next_item import NextItemSystem


class ItemKnn(NextItemSystem):
    """Neighbours of the history's items by cosine of co-occurrence."""

    system: Literal["item-knn"] = "item-knn"
    recommender: KnnConfig = Field(default_factory=KnnConfig)
    stages: ClassVar[tuple[Stage, ...]] = (Stage("evaluation", ("recommender", "evaluation")),)

    def load_recommender(self, run: Run) -> ItemKnnRecommender:
        """Counted again from the data set."""
        return ItemKnnRecommender.fit(run.dataset(), self.recommender, self.data.graph)
