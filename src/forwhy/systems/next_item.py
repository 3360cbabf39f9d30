"""What systems that recommend the next item share: leave-one-out, where each left-out item stands, what order is worth.

A subclass says which sections it has and how its recommender is made and loaded. Shapes: U users, K items of a list.
"""

from __future__ import annotations

import json
import logging
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from forwhy.atomic import atomic_file, write_text
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.documents import read_json
from forwhy.errors import UserError
from forwhy.evaluate.document import WAYS, evaluation_document
from forwhy.evaluate.ranking import UNSEEN, RankingResult, rank_lists, rank_sequences
from forwhy.frames import read_parquet
from forwhy.options import Options
from forwhy.progress import Progress, track
from forwhy.recommend.base import PopularityRecommender, Recommender
from forwhy.recommend.networks import SequentialOptions
from forwhy.systems import MEASURE, RANKS, Run, Stage, System, write_evaluation

if TYPE_CHECKING:
    from forwhy.recommend.sequential import NextItemRecommender

log = logging.getLogger(__name__)

Loaded = Any
"""The recommender that the subclass loads."""
AS_IT_IS, SEEN_OUT, REPEATS = "as it is", WAYS["unseen"], WAYS["repeats"]
"""The three columns of every table; the last adds `repeat_gain`, which the others do without."""
LISTED_TOGETHER = 512
"""Users between two steps of the progress bar; lists do not depend on it."""


class NextItemEvaluation(Options):
    """What is measured on the items left out. Cost: a ranking of the catalogue, or a beam search, per user."""

    split: Literal["valid", "test"] = "test"
    """Which left-out item is looked for; choose options on `valid`."""
    ks: tuple[PositiveInt, ...] = Field(default=(1, 5, 10, 20), min_length=1)
    """Cut-offs; a model that generates lists writes lists of the largest."""
    shuffled_users: NonNegativeInt = 5000
    """Users whose window is also read in random order, to see what order is worth; 0: none."""
    seed: NonNegativeInt = 0
    """Who these are, and the order."""


class Kept:
    """Lists by name, some users at a time, in an evaluation's working folder: one that was stopped goes on from them.

    They take a model that writes them code by code up to a second a user. With no folder nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.before = 0.0
        """Seconds that what was found here took to write."""

    def lists(self, name: str, start: int, write: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """[B, K] those of the users from `start` on; written now where they are not kept."""
        if self.folder is None:
            return write()
        path = self.folder / f"{name} {start}.json"
        if path.is_file():
            held = read_json(path, remedy=f"delete {path}")
            self.before += held["seconds"]
            return np.array(held["lists"], np.int64)
        started, found = time.perf_counter(), write()
        write_text(path, json.dumps({"seconds": time.perf_counter() - started, "lists": found.tolist()}))
        return found


class NextItemSystem(System):
    """A system that recommends the next item of a history, under leave-one-out."""

    evaluation: NextItemEvaluation = Field(default_factory=NextItemEvaluation)

    def make_evaluation(self, run: Run) -> None:
        """Rank and metrics of each user, then the document that says the stage is done; nothing held out: that only."""
        dataset, recommender, split = run.dataset(), self.load_recommender(run), self.evaluation.split
        sequences = Sequences.from_dataset(dataset, self.data.graph)
        if not len(sequences.evaluated(split)):
            log.warning("data set '%s' has no %s items, so nothing is measured", dataset.name, split)
            return write_evaluation(
                run.path, evaluation_document(protocol=self._protocol(dataset, sequences, recommender))
            )
        histories, kept, started = sequences.histories(split), Kept(run.work), time.perf_counter()
        ranked = self.rank(recommender, histories, sequences, (AS_IT_IS, SEEN_OUT, REPEATS), kept)
        seconds = time.perf_counter() - started + kept.before
        result, unseen = ranked[AS_IT_IS], ranked[SEEN_OUT]
        document = evaluation_document(
            ranking=result,
            unseen=unseen,
            repeats=ranked[REPEATS],
            variants=self.rank_variants(recommender, histories, sequences, kept),
            baselines=self.baselines(dataset, sequences),
            order=self._worth_of_order(recommender, histories, sequences, result, kept),
            costs=_costs(run, recommender, seconds / len(result.users) / len(ranked)),
            protocol=self._protocol(dataset, sequences, recommender) | self.more_protocol(recommender),
        )
        users, left_out = result.users.tolist(), sequences.targets(split)[result.users].tolist()
        ids = {"user_id": [dataset.users.values[user] for user in users]}
        ids["item_id"] = [dataset.items.values[item] for item in left_out]
        new = {f"{UNSEEN}{metric}": values for metric, values in unseen.per_user.items()}
        with atomic_file(run.path / RANKS) as temporary:
            frame = pl.DataFrame({**ids, "rank": result.ranks, **result.per_user, **new})
            frame.write_parquet(temporary)
        write_evaluation(run.path, document)

    def user_metrics(self, run: Run) -> tuple[list[str], Mapping[str, NDArray[np.float64]]] | None:
        """As the evaluation kept them."""
        if read_json(run.output("evaluation")).get("ranking") is None:
            return None
        remedy = f"make it with: forwhy evaluate {run.path} --again"
        frame = read_parquet(run.path / RANKS, remedy)
        measured = [
            name for name, kind in frame.schema.items() if kind.is_float() and not frame[name].null_count()
        ]
        metrics = frame.select(measured)
        if not measured or {"user_id", "item_id", "rank"} - {*frame.columns} or frame["user_id"].null_count():
            raise UserError(f"{run.path / RANKS}: not the ranks of a run; {remedy}")
        return list(map(str, frame["user_id"])), {column.name: column.to_numpy() for column in metrics}

    def rank_after_training(self, run: Run) -> RankingResult | None:
        """Without validation items, and without test items that are taken again."""
        whole = Sequences.from_dataset(run.dataset(), "as-published")
        again = whole.train.rows[whole.train.items == whole.test[whole.train.rows]]
        new = np.where(np.isin(np.arange(len(whole.test)), again), -1, whole.test)
        alike = replace(whole, valid=np.full_like(new, -1), test=new)
        known = Sequences.from_dataset(run.dataset(), self.data.graph).train
        return self.rank(self.load_recommender(run), known, alike, (SEEN_OUT,))[SEEN_OUT]

    def rank(
        self,
        recommender: Recommender,
        histories: Histories,
        sequences: Sequences,
        names: Sequence[str] = (AS_IT_IS,),
        kept: Kept | None = None,
        known_as: str = "",
    ) -> dict[str, RankingResult]:
        """Where left-out items stand in the catalogue after these histories, or in lists of `max(ks)`, by `names`.

        Lists are `kept` by name, or `known_as` another.
        """
        bare, kept = recommender.without_gain(), kept or Kept(None)
        found: dict[str, RankingResult] = {}
        for name in names:
            if name == REPEATS and not recommender.repeat_gain:
                found[name] = found[AS_IT_IS]
                continue
            asked = recommender if name == REPEATS else bare
            if recommender.writes_lists:
                keep = partial(kept.lists, known_as or name)
                found[name] = self._rank_lists(asked, histories, sequences, name == SEEN_OUT, keep)
            else:
                found[name] = self._rank_scores(asked, histories, sequences, name == SEEN_OUT)
        return found

    def _rank_scores(
        self, recommender: Recommender, histories: Histories, sequences: Sequences, unseen: bool
    ) -> RankingResult:
        def scores(users: NDArray[np.int64]) -> NDArray[np.float32]:
            return recommender.scores_after(histories.take(users))

        with Progress("ranking the catalogue"):
            return rank_sequences(scores, sequences, self.evaluation.split, self.evaluation.ks, unseen)

    def _rank_lists(
        self,
        recommender: Recommender,
        histories: Histories,
        sequences: Sequences,
        unseen: bool,
        keep: Callable[[int, Callable[[], NDArray[np.int64]]], NDArray[np.int64]],
    ) -> RankingResult:
        split, most = self.evaluation.split, max(self.evaluation.ks)
        users, hidden = sequences.evaluated(split), sequences.histories(split) if unseen else None
        found = [np.empty((0, most), np.int64)]

        def write(some: NDArray[np.int64]) -> NDArray[np.int64]:
            left_out = None if hidden is None else [hidden[user] for user in some.tolist()]
            return recommender.items_after(histories.take(some), most, left_out)

        for start in track(range(0, len(users), LISTED_TOGETHER), "writing lists"):
            found.append(keep(start, partial(write, users[start : start + LISTED_TOGETHER])))
        return rank_lists(np.concatenate(found), sequences, split, self.evaluation.ks)

    def rank_variants(
        self, recommender: Loaded, histories: Histories, sequences: Sequences, kept: Kept
    ) -> dict[str, RankingResult]:
        """Rankings of the same model asked otherwise, by name."""
        return {}

    def baselines(self, dataset: Dataset, sequences: Sequences) -> dict[str, RankingResult]:
        """Popularity, ranked the same way."""
        scores, settings = PopularityRecommender.fit(dataset, self.data.graph).scores, self.evaluation
        return {"popularity": rank_sequences(scores, sequences, settings.split, settings.ks)}

    def _worth_of_order(
        self,
        recommender: Recommender,
        histories: Histories,
        sequences: Sequences,
        result: RankingResult,
        kept: Kept,
    ) -> dict[str, RankingResult] | None:
        """Some users after their windows as they are (`given`), and after these items in random order (`shuffled`)."""
        settings, window = self.evaluation, recommender.window
        if not settings.shuffled_users or window is None:
            return None
        drawn = np.random.default_rng(settings.seed).permutation(len(result.users))
        rows = np.sort(drawn[: settings.shuffled_users])
        users, values = result.users[rows], {metric: all_[rows] for metric, all_ in result.per_user.items()}
        given = RankingResult(users, values, np.arange(len(rows)), result.ranks[rows], 0, {})
        split, of_all = settings.split, sequences.targets(settings.split)
        targets = np.full_like(of_all, -1)
        targets[users] = of_all[users]
        only = replace(sequences, valid=targets) if split == "valid" else replace(sequences, test=targets)
        mixed = histories.last(window).shuffled(settings.seed)
        shuffled = self.rank(recommender, mixed, only, kept=kept, known_as="shuffled")
        return {"given": given, "shuffled": shuffled[AS_IT_IS]}

    def more_protocol(self, recommender: Loaded) -> dict[str, object]:
        """What else the numbers are about."""
        return {}

    def _protocol(
        self, dataset: Dataset, sequences: Sequences, recommender: Recommender
    ) -> dict[str, object]:
        split = self.evaluation.split
        return {
            **self.origin(dataset),
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
            "repeat_gain": recommender.repeat_gain,
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
        """What the training of the network may spend."""
        options = self.recommender
        return f"{options.epochs} epochs of interactions at most, {options.batch_size} histories a step"

    def make_recommender(self, run: Run) -> NextItemRecommender:
        """Train the network on training items; validation items choose the epoch."""
        from forwhy.recommend.sequential import NextItemRecommender

        return NextItemRecommender.fit(run.dataset(), run.work, self.recommender, self.data.graph)

    def load_recommender(self, run: Run) -> NextItemRecommender:
        """The trained network."""
        from forwhy.recommend.sequential import NextItemRecommender

        return NextItemRecommender.from_pretrained(run.output("recommender"))


def _costs(run: Run, recommender: Recommender, ranking: float) -> dict[str, Any]:
    """Training by task: epochs and seconds; seconds to rank for a user; this process's peak memory."""
    training: dict[str, dict[str, float]] = {}
    for line in run.history():
        spent = training.setdefault(line["task"], {"epochs": 0, "seconds": 0.0})
        spent["epochs"] = max(spent["epochs"], line["epoch"])
        spent["seconds"] = max(spent["seconds"], line["seconds"])
    return {
        "training": training,
        "measured_in_training": getattr(recommender, "metrics", {}),
        "ranking_seconds_per_user": ranking,
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
