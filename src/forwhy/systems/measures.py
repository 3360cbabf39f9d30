"""What is measured of a run, by both kinds of systems: those that explain and those that recommend the next item.

Shapes: U users, K items of a list.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import Graph
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.data.sequences import Heldout, Histories, Sequences
from forwhy.evaluate.controls import TextTable, known_table
from forwhy.evaluate.gain import Gain, TextGroup, measure_gain, text_groups, warm_group
from forwhy.evaluate.ranking import RankingResult, rank_all, rank_lists, rank_scores, rank_sequences
from forwhy.evaluate.reading import Outputs, match
from forwhy.explain.base import Explainer
from forwhy.explain.evidence import NllResult
from forwhy.graph.representations import Representations
from forwhy.progress import Progress, track
from forwhy.recommend.base import Recommender
from forwhy.recommend.popularity import PopularityRecommender
from forwhy.systems.base import TEXTS, WARM_TEXTS, EvaluationConfig, NextItemEvaluation, Run
from forwhy.text.encoder import TextEncoder

AS_IT_IS, SEEN_OUT = "as it is", "seen items left out"
EXPLAINED_TOGETHER, LISTED_TOGETHER = 32, 512
"""Pairs and users between two steps of the progress bar; results do not depend on it."""

Ints = NDArray[np.int64]


# --- explanations on held-out pairs


def rank_representations(
    dataset: Dataset, representations: Representations, ks: Sequence[int]
) -> RankingResult | None:
    """Full ranking of test interactions by inner products; None without any."""
    test = dataset.edges("test")
    if not len(test):
        return None
    users, items = representations.representation("user"), representations.representation("item")
    with Progress("ranking the catalogue"):
        return rank_all(users, items, dataset.edges("train", "as-published"), test, ks)


def rank_popularity(dataset: Dataset, graph: Graph, ks: Sequence[int]) -> dict[str, RankingResult]:
    """Popularity on the same graph, ranked as the representations are."""
    test, seen = dataset.edges("test"), dataset.edges("train", "as-published")
    if not len(test):
        return {}
    popularity = PopularityRecommender.fit(dataset, graph)
    return {
        "popularity": rank_scores(popularity.scores, len(dataset.users), len(dataset.items), seen, test, ks)
    }


def drawn_pairs(settings: EvaluationConfig, pairs: Pairs, explainer: Explainer[Any, Any] | None) -> Pairs:
    """As many as are measured, of those whose user and item are known from training: there is something to read."""
    if explainer is not None:
        pairs = pairs.select(np.flatnonzero(explainer.supported(pairs)))
    order = np.random.default_rng(settings.seed).permutation(len(pairs))
    return pairs.select(order[: max(settings.pairs, settings.generate)])


def measure_texts(
    dataset: Dataset,
    pairs: Pairs,
    explainer: Explainer[Any, Any],
    encoder: TextEncoder,
    settings: EvaluationConfig,
) -> tuple[dict[str, Any], dict[str, Outputs]]:
    """Generated texts beside their controls and what the right representations are worth to the model.

    Returns:
        The parts `text`, `gain` and `groups` of an evaluation document, and the texts by their file's name.
    """
    warm = drawn_pairs(settings, dataset.warm_pairs(), explainer)
    parts = {TEXTS: pairs, WARM_TEXTS: warm}
    written = {name: _written(dataset, explainer, some, settings) for name, some in parts.items()}
    texts = {name: outputs for name, outputs in written.items() if outputs is not None}
    gain = _gain(explainer, pairs, settings)
    if TEXTS not in texts:
        return {"gain": gain}, texts
    reading = match("this run", texts[TEXTS], dataset)
    table = known_table(reading, dataset, encoder, settings.seed)
    return {"text": table, "gain": gain, "groups": _groups(dataset, texts, table, encoder)}, texts


def _written(
    dataset: Dataset, explainer: Explainer[Any, Any], pairs: Pairs, settings: EvaluationConfig
) -> Outputs | None:
    """A text for each of the first `generate` pairs; None where there are fewer than two."""
    chosen = pairs.select(np.arange(min(settings.generate, len(pairs))))
    if len(chosen) < 2:
        return None
    texts: list[str] = []
    for start in track(range(0, len(chosen), EXPLAINED_TOGETHER), "explaining test pairs"):
        rows = np.arange(start, min(start + EXPLAINED_TOGETHER, len(chosen)))
        texts += [explanation.text for explanation in explainer.explain(chosen.select(rows))]
    return Outputs.of(dataset.external(chosen), texts, chosen.texts)


def _groups(
    dataset: Dataset, texts: Mapping[str, Outputs], table: TextTable, encoder: TextEncoder
) -> dict[str, TextGroup]:
    """Texts by sparsity of the user and, where a protocol set warm pairs aside, the texts of those."""
    groups = text_groups(dataset, texts[TEXTS], table.method)
    if WARM_TEXTS in texts:
        groups["warm"] = warm_group(dataset, texts[WARM_TEXTS], encoder)
    return groups


def _gain(explainer: Explainer[Any, Any], pairs: Pairs, settings: EvaluationConfig) -> Gain | None:
    """NLL under the right representations and under other pairs'; None where texts cannot be scored."""
    if not explainer.can_score:
        return None
    chosen = pairs.select(np.arange(min(settings.pairs, len(pairs))))
    with Progress("scoring test pairs, right and shuffled", 4) as progress:
        return measure_gain(_Counted(explainer, progress), chosen, settings.seed)


class _Counted:
    """A scorer that counts its passes over the pairs."""

    def __init__(self, explainer: Explainer[Any, Any], progress: Progress) -> None:
        self._explainer, self._progress = explainer, progress

    def nll(self, pairs: Pairs, user_rows: Ints | None = None, item_rows: Ints | None = None) -> NllResult:
        found = self._explainer.nll(pairs, user_rows, item_rows)
        self._progress.advance()
        return found


# --- the next item under leave-one-out


def rank_next_items(
    recommender: Recommender,
    histories: Histories,
    sequences: Sequences,
    settings: NextItemEvaluation,
    names: Sequence[str] = (AS_IT_IS,),
) -> dict[str, RankingResult]:
    """The left-out items among the whole catalogue after these histories of all users, or in lists of `max(ks)`.

    `SEEN_OUT` among `names`: also without the items of the history, as `recommend` leaves them out by default.
    """
    split, ks = settings.split, settings.ks
    if recommender.writes_lists:
        hidden = {AS_IT_IS: None, SEEN_OUT: sequences.histories(split)}
        lists = {name: _lists(recommender, histories, sequences, settings, hidden[name]) for name in names}
        return {name: rank_lists(lists_vk, sequences, split, ks) for name, lists_vk in lists.items()}

    def scores(users: Ints) -> NDArray[np.float32]:
        return recommender.scores_after(histories.take(users))

    with Progress("ranking the catalogue"):
        return {
            name: rank_sequences(scores, sequences, split, ks, filter_seen=name == SEEN_OUT) for name in names
        }


def _lists(
    recommender: Recommender,
    histories: Histories,
    sequences: Sequences,
    settings: NextItemEvaluation,
    hidden: Histories | None,
) -> Ints:
    """[users with a left-out item, K], without what is hidden from each user's list."""
    users, most = sequences.evaluated(settings.split), max(settings.ks)
    found = [np.empty((0, most), np.int64)]
    for start in track(range(0, len(users), LISTED_TOGETHER), "writing lists"):
        some = users[start : start + LISTED_TOGETHER]
        left_out = None if hidden is None else [hidden[user] for user in some.tolist()]
        found.append(recommender.items_after(histories.take(some), most, left_out))
    return np.concatenate(found)


def worth_of_order(
    recommender: Recommender,
    histories: Histories,
    sequences: Sequences,
    result: RankingResult,
    settings: NextItemEvaluation,
) -> dict[str, RankingResult] | None:
    """Some users after their windows as they are (`given`), and after the same items in random order (`shuffled`)."""
    window = recommender.window
    if not settings.shuffled_users or window is None:
        return None
    drawn = np.random.default_rng(settings.seed).permutation(len(result.users))
    rows = np.sort(drawn[: settings.shuffled_users])
    shuffled = histories.last(window).shuffled(settings.seed)
    some = _restricted(sequences, result.users[rows], settings.split)
    again = rank_next_items(recommender, shuffled, some, settings)
    return {"given": _taken(result, rows), "shuffled": again[AS_IT_IS]}


def _restricted(sequences: Sequences, users: Ints, split: Heldout) -> Sequences:
    """The sequences with left-out items of these users only."""
    targets = np.full_like(sequences.targets(split), -1)
    targets[users] = sequences.targets(split)[users]
    return replace(sequences, valid=targets) if split == "valid" else replace(sequences, test=targets)


def _taken(result: RankingResult, rows: Ints) -> RankingResult:
    """The result of some users, each of whom has one left-out item."""
    values = {metric: values[rows] for metric, values in result.per_user.items()}
    return RankingResult(result.users[rows], values, np.arange(len(rows)), result.ranks[rows], 0, {})


def user_table(result: RankingResult, dataset: Dataset, targets_U: Ints) -> pl.DataFrame:
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


def costs_of(run: Run, recommender: Recommender, ranking: float) -> dict[str, Any]:
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
