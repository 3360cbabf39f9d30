"""Popularity: everybody gets the items that most people took in training. Nothing is trained."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar, Literal

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Sequences
from forwhy.errors import UserError
from forwhy.evaluate.ranking import RankingResult
from forwhy.recommend.base import PopularityRecommender
from forwhy.systems import MEASURE, Run, Stage
from forwhy.systems.next_item import NextItemSystem


class Popularity(NextItemSystem):
    """One list for everybody."""

    system: Literal["popularity"] = "popularity"
    stages: ClassVar[tuple[Stage, ...]] = (MEASURE,)

    def load_recommender(self, run: Run) -> PopularityRecommender:
        """Counted again from the data set."""
        dataset, graph = run.dataset(), self.data.graph
        found = PopularityRecommender.fit(dataset, graph)
        with suppress(UserError):  # without an order nobody can tell what is taken again
            found.learn_repeats(Sequences.from_dataset(dataset, graph))
        return found

    def baselines(self, dataset: Dataset, sequences: Sequences) -> dict[str, RankingResult]:
        """Nothing: this system is itself the baseline of the others."""
        return {}
