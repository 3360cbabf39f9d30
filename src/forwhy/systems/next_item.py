"""What systems that recommend the next item share: leave-one-out, where each left-out item stands, what order is worth.

A subclass says which sections it has and how its recommender is made and loaded.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from forwhy.errors import UserError
from forwhy.recommend.sequential.networks import SequentialOptions
from forwhy.systems.base import MEASURE, RANKS, NextItemEvaluation, Run, Stage, System, write_evaluation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forwhy.data.dataset import Dataset
    from forwhy.data.sequences import Histories, Sequences
    from forwhy.evaluate.ranking import RankingResult
    from forwhy.recommend.base import Recommender
    from forwhy.recommend.sequential.recommender import NextItemRecommender


class NextItemSystem(System):
    """A system that recommends the next item of a history, under leave-one-out."""

    evaluation: NextItemEvaluation = Field(default_factory=NextItemEvaluation)

    def make_evaluation(self, run: Run) -> None:
        """Rank and metrics of each user, then the document that says the stage is done."""
        from forwhy.atomic import atomic_file
        from forwhy.data.sequences import Sequences
        from forwhy.evaluate.document import evaluation_document
        from forwhy.systems.measures import (
            AS_IT_IS,
            SEEN_OUT,
            costs_of,
            rank_next_items,
            user_table,
            worth_of_order,
        )

        dataset, recommender, settings = run.dataset(), self.load_recommender(run), self.evaluation
        sequences = Sequences.from_dataset(dataset, self.data.graph)
        histories, started = sequences.histories(settings.split), time.perf_counter()
        ranked = rank_next_items(recommender, histories, sequences, settings, (AS_IT_IS, SEEN_OUT))
        seconds, result = time.perf_counter() - started, ranked.pop(AS_IT_IS)
        document = evaluation_document(
            ranking=result,
            variants=ranked | self.rank_variants(recommender, histories, sequences),
            baselines=self.baselines(dataset, sequences),
            order=worth_of_order(recommender, histories, sequences, result, settings),
            costs=costs_of(run, recommender, seconds / len(result.users)),
            protocol=self._protocol(dataset, sequences, recommender) | self.more_protocol(recommender),
        )
        with atomic_file(run.path / RANKS) as temporary:
            user_table(result, dataset, sequences.targets(settings.split)).write_parquet(temporary)
        write_evaluation(run.path, document)

    def user_metrics(self, run: Run) -> tuple[list[str], Mapping[str, NDArray[np.float64]]]:
        """As the evaluation kept them.

        Raises:
            UserError: The file cannot be read.
        """
        import polars as pl

        run.output("evaluation")
        try:
            frame = pl.read_parquet(run.path / RANKS)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(
                f"{run.path / RANKS}: cannot be read ({error}); make it with: forwhy evaluate {run.path} --again"
            ) from None
        values = frame.drop("user_id", "item_id", "rank")
        return [str(user) for user in frame["user_id"]], {
            name: values[name].to_numpy() for name in values.columns
        }

    def rank_variants(
        self,
        recommender: Any,  # noqa: ANN401 (what the subclass loads)
        histories: Histories,
        sequences: Sequences,
    ) -> dict[str, RankingResult]:
        """Rankings of the same model asked otherwise, by name."""
        return {}

    def baselines(self, dataset: Dataset, sequences: Sequences) -> dict[str, RankingResult]:
        """Popularity, ranked the same way."""
        from forwhy.evaluate.ranking import rank_sequences
        from forwhy.recommend.popularity import PopularityRecommender

        popular = PopularityRecommender.fit(dataset, self.data.graph)
        return {
            "popularity": rank_sequences(popular.scores, sequences, self.evaluation.split, self.evaluation.ks)
        }

    def more_protocol(self, recommender: Any) -> dict[str, object]:  # noqa: ANN401 (what the subclass loads)
        """What else the numbers are about."""
        return {}

    def _protocol(
        self, dataset: Dataset, sequences: Sequences, recommender: Recommender
    ) -> dict[str, object]:
        """What the numbers are about."""
        split = self.evaluation.split
        return {
            "recipe": self.name,
            "system": self.system,
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "split": dataset.source.get("split"),
            "task": "next-item",
            "evaluated": split,
            "users": len(sequences.evaluated(split)),
            "users_without": sequences.skipped(split),
            "items": sequences.n_items,
            "protocol": self.data.protocol,
            "graph": self.data.graph,
            "leaks": dataset.leaks(),
            "training_edges": len(sequences.train.items),
            "window": recommender.window,
            "budget": self.budget(),
            "seed": self.seed,
            "evaluation_seed": self.evaluation.seed,
        }


class NetworkSystem(NextItemSystem):
    """A system whose recommender is one network, trained to predict each training item from those before it."""

    recommender: SequentialOptions

    # The name and options of LLM-BS's stage, so that a network trained for either serves both.
    stages: ClassVar[tuple[Stage, ...]] = (
        Stage("recommender", ("recommender",), known_as="behaviour"),
        MEASURE,
    )

    def budget(self) -> str:
        """Of the network."""
        options = self.recommender
        return f"{options.epochs} epochs of interactions at most, {options.batch_size} histories a step"

    def make_recommender(self, run: Run) -> NextItemRecommender:
        """Train the network on training items; validation items choose the epoch."""
        from forwhy.recommend.sequential.recommender import NextItemRecommender

        return NextItemRecommender.fit(run.dataset(), run.work, self.recommender, self.data.graph)

    def load_recommender(self, run: Run) -> NextItemRecommender:
        """The trained network."""
        from forwhy.recommend.sequential.recommender import NextItemRecommender

        return NextItemRecommender.from_pretrained(run.output("recommender"))
