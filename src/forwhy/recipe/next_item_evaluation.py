"""The evaluation of a system of the next item: where each left-out item stands, and what order was worth.

Shapes: U users, K items of a list.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.atomic import atomic_file
from forwhy.data.dataset import Dataset
from forwhy.data.leaks import leaks
from forwhy.data.sequences import Heldout, Histories, Sequences
from forwhy.evaluate.ranking import RankingResult, rank_lists, rank_sequences
from forwhy.evaluate.report import evaluation_document
from forwhy.progress import spinner, track
from forwhy.recipe.folder import RANKS, RunFolder, write_document
from forwhy.recipe.plan import OUTPUTS
from forwhy.recipe.systems import GenerativeRecipe, NextItemEvaluation, NextItemRecipe
from forwhy.recommend.base import CatalogueRecommender
from forwhy.recommend.generative.recommender import GenerativeRecommender
from forwhy.recommend.llmbs import LlmBsRecommender
from forwhy.recommend.sequential import SequentialRecommender
from forwhy.recommend.simple import PopularityRecommender

AS_IT_IS, SEEN_OUT = "as it is", "seen items left out"
_TOGETHER = 512
"""Users between two steps of the progress bar; their lists do not depend on it."""

Ints = NDArray[np.int64]


def evaluate(home: RunFolder, recipe: NextItemRecipe, dataset: Dataset) -> None:
    """Writes ranks and metrics user by user, then the document that says the stage is done."""
    settings, recommender = recipe.evaluation, home.recommender()
    sequences = Sequences.from_dataset(dataset, recipe.data.graph)
    histories, started = sequences.histories(settings.split), time.perf_counter()
    ranked = rank(recommender, histories, sequences, settings, (AS_IT_IS, SEEN_OUT))
    seconds, result = time.perf_counter() - started, ranked.pop(AS_IT_IS)
    document = evaluation_document(
        ranking=result,
        variants=ranked | _without_adapter(recommender, histories, sequences, settings),
        baselines=_baselines(recipe, dataset, sequences),
        order=_order(recommender, histories, sequences, result, settings),
        costs=_costs(home, recommender, seconds / len(result.users)),
        protocol=_protocol(home, recipe, dataset, sequences, recommender),
    )
    with atomic_file(home.path / RANKS) as temporary:
        per_user(result, dataset, sequences.targets(settings.split)).write_parquet(temporary)
    write_document(home.path / OUTPUTS["evaluation"], document)


def rank(
    recommender: CatalogueRecommender,
    histories: Histories,
    sequences: Sequences,
    settings: NextItemEvaluation,
    names: Sequence[str] = (AS_IT_IS,),
) -> dict[str, RankingResult]:
    """The left-out items among the whole catalogue after these histories of all users, or in lists of `max(ks)`.

    `SEEN_OUT` among `names`: also without the items of the history, as `recommend` leaves them out by default. Lists
    are not made longer for that, so that an item that moves up from behind them is still a miss.
    """
    split, ks = settings.split, settings.ks
    if isinstance(recommender, GenerativeRecommender):
        lists = _lists(recommender, histories, sequences, settings)
        found = {AS_IT_IS: lists}
        if SEEN_OUT in names:
            found[SEEN_OUT] = without_seen(lists, histories.take(sequences.evaluated(split)))
        return {name: rank_lists(lists_vk, sequences, split, ks) for name, lists_vk in found.items()}

    def scores(users: Ints) -> NDArray[np.float32]:
        if isinstance(recommender, SequentialRecommender):
            return recommender.scores_after(histories.take(users))
        return recommender.scores(users)

    with spinner("ranking the catalogue"):
        return {
            name: rank_sequences(scores, sequences, split, ks, filter_seen=name == SEEN_OUT) for name in names
        }


def without_seen(lists_vk: Ints, histories: Histories) -> Ints:
    """The same lists without the items of each one's history, closed up; -1 behind their end.

    A list of nothing else keeps its first item, as a list may not be empty.
    """
    size = int(max(lists_vk.max(initial=0), histories.items.max(initial=0))) + 1
    rows_v1 = np.arange(len(lists_vk))[:, None]
    seen_vk = (lists_vk >= 0) & np.isin(rows_v1 * size + lists_vk, histories.rows * size + histories.items)
    seen_vk[:, 0] &= ~(seen_vk | (lists_vk < 0)).all(axis=1)
    order_vk = np.argsort(seen_vk, axis=1, kind="stable")
    return np.take_along_axis(np.where(seen_vk, -1, lists_vk), order_vk, axis=1)


def _without_adapter(
    recommender: CatalogueRecommender,
    histories: Histories,
    sequences: Sequences,
    settings: NextItemEvaluation,
) -> dict[str, RankingResult]:
    """The first stage's model, where an annealing adapter came after it."""
    if not isinstance(recommender, LlmBsRecommender) or recommender.adapter is None:
        return {}
    with recommender.switched(False):
        return {"adapter off": rank(recommender, histories, sequences, settings)[AS_IT_IS]}


def _lists(
    recommender: GenerativeRecommender,
    histories: Histories,
    sequences: Sequences,
    settings: NextItemEvaluation,
) -> Ints:
    """[users with a left-out item, K]."""
    users, most = sequences.evaluated(settings.split), max(settings.ks)
    starts = range(0, len(users), _TOGETHER)
    found = [
        recommender.items_after(histories.take(users[start : start + _TOGETHER]), most)
        for start in track(starts, "writing lists")
    ]
    return np.concatenate([np.empty((0, most), np.int64), *found])


def per_user(result: RankingResult, dataset: Dataset, targets_U: Ints) -> pl.DataFrame:
    """One row for each user: ids of user and left-out item, its rank, every metric."""
    users = result.users.tolist()
    return pl.DataFrame(
        {
            "user_id": [dataset.users.values[user] for user in users],
            "item_id": [dataset.items.values[item] for item in targets_U[result.users].tolist()],
            "rank": result.ranks,
            **result.per_user,
        }
    )


def _baselines(recipe: NextItemRecipe, dataset: Dataset, sequences: Sequences) -> dict[str, RankingResult]:
    if recipe.system == "popularity":
        return {}
    popular = PopularityRecommender.fit(dataset, recipe.data.graph)
    settings = recipe.evaluation
    return {"popularity": rank_sequences(popular.scores, sequences, settings.split, settings.ks)}


# --- what order is worth


def _order(
    recommender: CatalogueRecommender,
    histories: Histories,
    sequences: Sequences,
    result: RankingResult,
    settings: NextItemEvaluation,
) -> dict[str, RankingResult] | None:
    """Some users after their windows as they are, and after the same items in random order."""
    if not settings.shuffled_users or not isinstance(recommender, SequentialRecommender):
        return None
    drawn = np.random.default_rng(settings.seed).permutation(len(result.users))
    rows = np.sort(drawn[: settings.shuffled_users])
    shuffled = histories.last(_window(recommender)).shuffled(settings.seed)
    some = _restricted(sequences, result.users[rows], settings.split)
    return {"given": _taken(result, rows), "shuffled": rank(recommender, shuffled, some, settings)[AS_IT_IS]}


def _window(recommender: CatalogueRecommender) -> int:
    window: int = recommender.config.window  # type: ignore[attr-defined]
    return window


def _restricted(sequences: Sequences, users: Ints, split: Heldout) -> Sequences:
    """The same with left-out items of these users only."""
    targets = np.full_like(sequences.targets(split), -1)
    targets[users] = sequences.targets(split)[users]
    return replace(sequences, valid=targets) if split == "valid" else replace(sequences, test=targets)


def _taken(result: RankingResult, rows: Ints) -> RankingResult:
    """The same of some users, each of whom has one left-out item."""
    values = {metric: values[rows] for metric, values in result.per_user.items()}
    return RankingResult(result.users[rows], values, np.arange(len(rows)), result.ranks[rows], 0, {})


# --- what it took, and what it is about


def _costs(home: RunFolder, recommender: CatalogueRecommender, ranking: float) -> dict[str, Any]:
    """Training by task: epochs and seconds; seconds to rank for a user; this process's peak memory."""
    training: dict[str, dict[str, float]] = {}
    for line in home.history():
        spent = training.setdefault(line["task"], {"epochs": 0, "seconds": 0.0})
        spent["epochs"] = max(spent["epochs"], line["epoch"])
        spent["seconds"] = max(spent["seconds"], line["seconds"])
    return {
        "training": training,
        "measured_in_training": getattr(recommender, "metrics", {}),
        "ranking_seconds_per_user": ranking,
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _protocol(
    home: RunFolder,
    recipe: NextItemRecipe,
    dataset: Dataset,
    sequences: Sequences,
    recommender: CatalogueRecommender,
) -> dict[str, object]:
    """What the numbers are about."""
    split = recipe.evaluation.split
    return {
        "recipe": recipe.name,
        "system": recipe.system,
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "split": dataset.source.get("split"),
        "task": "next-item",
        "evaluated": split,
        "users": len(sequences.evaluated(split)),
        "users_without": sequences.skipped(split),
        "items": sequences.n_items,
        "protocol": recipe.data.protocol,
        "graph": recipe.data.graph,
        "leaks": leaks(dataset),
        "training_edges": len(sequences.train.items),
        "window": None if recipe.system == "popularity" else _window(recommender),
        "budget": recipe.budget(),
        "seed": recipe.seed,
        "evaluation_seed": recipe.evaluation.seed,
        **_index(home, recipe, recommender),
    }


def _index(
    home: RunFolder, recipe: NextItemRecipe, recommender: CatalogueRecommender
) -> Mapping[str, object]:
    """Of a model that writes codes."""
    if not isinstance(recommender, GenerativeRecommender):
        return {}
    assert isinstance(recipe, GenerativeRecipe)
    index = recommender.index
    return {
        "index": {
            "sources": list(index.sources),
            "sizes": list(index.sizes),
            "fingerprint": index.fingerprint,
        },
        "beam": recommender.config.beam,
        "repeat_gain": recommender.repeat_gain,
        "encoder": recipe.encoder.name if "semantic" in index.sources else None,
    }
