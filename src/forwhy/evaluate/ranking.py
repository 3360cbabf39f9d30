"""Full ranking: the rank of each held-out item in the whole catalogue, and what the recommended lists are like.

Shapes: U users, I items, D dimensions; V users with test items (B of one block); T most test items of a user of the
block; K places of a list.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forwhy.data.histories import Heldout, Histories, Sequences
from forwhy.errors import UserError
from forwhy.evaluate.significance import Floats, Interval, Ints, bootstrap_means

Lists = NDArray[np.int32]
"""[V, K] internal items, best first; -1 where a list has ended."""
Vectors = NDArray[np.floating]
Scores = NDArray[np.float32]
ScoreBlock = Callable[[Ints], Scores]
"""Internal users [B] -> their scores of every item [B, I], in memory that the ranking may overwrite."""
Cells = tuple[Ints, Ints]
"""(row in a block, item) of some scores."""

KS, NEXT_ITEM_KS = (5, 10, 20, 50), (1, 5, 10, 20)
TWINS = ("hr@", "map@")
"""With one item left out per user these equal recall@k and mrr@k."""
UNSEEN = "unseen "
"""Before the name of a metric: of a ranking that offers nothing of the history."""
POPULAR = 5
"""One item in so many is popular (the top 20%, as in Abdollahpouri et al. 2019)."""
BLOCK_SCORES = 1 << 23
"""Scores of one block (4 bytes each): 32 MiB, whatever the catalogue."""


@dataclass(frozen=True)
class RankingResult:
    """Ranks of all test items, and the metrics of each user that has some.

    `users` [V]: internal ids, ascending. `per_user`: metric@k -> [V], aligned with them. `rows`, `ranks` [pairs]:
    position in `users` of each test pair, ascending, and its rank from 1, ascending within a user. `dropped`: test
    pairs left out because they are training pairs. `coverage`: coverage@k, see `list_metrics`.
    """

    users: Ints
    per_user: dict[str, Floats]
    rows: Ints
    ranks: Ints
    dropped: int
    coverage: dict[str, float]

    def mean(self) -> dict[str, float]:
        """Metric -> mean over users."""
        return {metric: float(values.mean()) for metric, values in self.per_user.items()}

    def intervals(self) -> dict[str, Interval]:
        """Metric -> mean with its bootstrap 95% interval over users."""
        return bootstrap_means(self.per_user)


def rank_all(
    user_vectors: Vectors, item_vectors: Vectors, seen: Ints, test: Ints, ks: Sequence[int] = KS
) -> RankingResult:
    """Rank by inner products of `user_vectors` [U, D] and `item_vectors` [I, D]; the rest as in `rank_scores`.

    Items of equal vectors are scored once: a matrix product may round equal columns differently and so break ties.
    Cost: U x I x D multiplications in float32.
    """
    users_ud = np.ascontiguousarray(user_vectors, dtype=np.float32)
    distinct_id, position_i = _distinct(np.ascontiguousarray(item_vectors, dtype=np.float32))

    def scores(users: Ints) -> Scores:
        product: Scores = users_ud[users] @ distinct_id.T
        return product if len(distinct_id) == len(position_i) else product[:, position_i]

    return rank_scores(scores, len(users_ud), len(position_i), seen, test, ks)


def rank_scores(
    scores: ScoreBlock,
    n_users: int,
    n_items: int,
    seen: Ints,
    test: Ints,
    ks: Sequence[int] = KS,
    hidden: Ints | None = None,
) -> RankingResult:
    """Rank the test items of each user among all items but those `seen` [E, 2] in training.

    `test` [T, 2] holds internal (user, item) pairs; repeated ones count once, those also in `seen` are dropped. With
    `hidden` [M, 2] these pairs are not offered, instead of `seen`; a test pair among them is a miss, behind the
    catalogue and every k. Ties are counted against us: a test item ranks behind every other item of its score.

    `recall@k` = hits / the user's test items; `ndcg@k` with binary gains; `hr@k` = any hit; `mrr@k` = 1 / rank of the
    first hit, 0 without one; `map@k` = sum over hits of (hits up to there / rank), over min(k, the user's test items).
    Of the lists, equal scores in catalogue order: see `list_metrics`.
    Cost: three blocks of scores in memory, a comparison per (test pair, item), and max(ks) places per user.
    A UserError where no test pair is left; a ValueError for an id out of range or a score that is not finite.
    """
    seen_keys, test_keys = _keys(seen, n_users, n_items), _keys(test, n_users, n_items)
    hidden_keys = seen_keys if hidden is None else _keys(hidden, n_users, n_items)
    kept = np.setdiff1d(test_keys, seen_keys) if hidden is None else test_keys
    if not len(kept):
        raise UserError("nothing to rank: no test interaction is left; give the dataset a test split")
    users, rows, tests = np.unique(kept // n_items, return_inverse=True, return_counts=True)
    ranks = np.empty(len(kept), dtype=np.int64)
    lists_vk = np.empty((len(users), min(max(ks), n_items)), dtype=np.int32)
    starts = np.cumsum(tests) - tests
    for block in _blocks(tests, n_items):
        scores_bi = scores(users[block])
        if not (np.isfinite(scores_bi.min()) and np.isfinite(scores_bi.max())):
            raise ValueError("a score is not finite: the recommender produced NaN or infinity")
        scores_bi[_cells(hidden_keys, users[block], n_items)] = -np.inf
        lists_vk[block] = top_items(scores_bi, lists_vk.shape[1])
        row, place = _ranges(starts[block], tests[block])
        ranks[place] = _rank_block(scores_bi, (row, kept[place] % n_items), tests[block])
    ranks[ranks > n_items] = max(n_items, *ks) + 1
    seen_pairs = np.stack(np.divmod(seen_keys, n_items), axis=1)
    of_lists, coverage = list_metrics(lists_vk, seen_pairs, n_items, ks)
    per_user = accuracy(rows, ranks, tests, ks) | of_lists
    return RankingResult(users, per_user, rows, ranks, len(test_keys) - len(kept), coverage)


def accuracy(rows: Ints, ranks: Ints, tests_v: Ints, ks: Sequence[int]) -> dict[str, Floats]:
    """metric@k -> [V] from ranks; `rows`, `ranks` as in `RankingResult`, `tests_v` [V] test items of each user."""
    metrics: dict[str, Floats] = {}
    starts_v = np.cumsum(tests_v) - tests_v
    first_v = ranks[starts_v]
    precision = (np.arange(len(ranks)) - starts_v[rows] + 1) / ranks
    for k in ks:
        hit = ranks <= k
        hits_v = np.bincount(rows[hit], minlength=len(tests_v))
        gains_v = np.bincount(rows[hit], weights=1 / np.log2(ranks[hit] + 1.0), minlength=len(tests_v))
        precision_v = np.bincount(rows[hit], weights=precision[hit], minlength=len(tests_v))
        ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
        metrics[f"recall@{k}"] = hits_v / tests_v
        metrics[f"ndcg@{k}"] = gains_v / ideal[np.minimum(tests_v, k) - 1]
        metrics[f"hr@{k}"] = (hits_v > 0).astype(np.float64)
        metrics[f"mrr@{k}"] = np.where(first_v <= k, 1 / first_v, 0.0)
        metrics[f"map@{k}"] = precision_v / np.minimum(tests_v, k)
    return metrics


def _rank_block(scores_bi: Scores, test_cells: Cells, tests_b: Ints) -> Ints:
    """Ranks of the block's test pairs, user by user, ascending within one. Closes them in `scores_bi`."""
    rows = test_cells[0]
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(tests_b) - tests_b, tests_b)
    thresholds_bt = np.full((len(tests_b), int(tests_b.max())), -np.inf, dtype=np.float32)
    thresholds_bt[rows, slots] = scores_bi[test_cells]
    thresholds_bt = -np.sort(-thresholds_bt, axis=1)
    # With its own test items masked too, a count is of strangers only; the sort adds the friends ahead.
    scores_bi[test_cells] = -np.inf
    ahead_bt = np.zeros(thresholds_bt.shape, dtype=np.int64)
    for slot in range(thresholds_bt.shape[1]):
        busy = int((tests_b > slot).sum())  # users come busiest first: no copies of rows
        reached = scores_bi[:busy] >= thresholds_bt[:busy, slot, None]
        ahead_bt[:busy, slot] = np.count_nonzero(reached, axis=1)
    return ahead_bt[rows, slots] + slots + 1


def _blocks(tests_v: Ints, n_items: int) -> Iterator[Ints]:
    """Positions of users, busiest first, so that a block's users have about equally many test items."""
    order, size = np.argsort(-tests_v, kind="stable"), max(1, BLOCK_SCORES // n_items)
    return (order[start : start + size] for start in range(0, len(order), size))


def _cells(keys: Ints, users_b: Ints, n_items: int) -> Cells:
    """(row in the block, item) of every key of these users; keys ascending."""
    starts = np.searchsorted(keys, users_b * n_items)
    rows, flat = _ranges(starts, np.searchsorted(keys, (users_b + 1) * n_items) - starts)
    return rows, keys[flat] % n_items


def _ranges(starts: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """The row and position of all of start..start+length of each row."""
    rows = np.repeat(np.arange(len(starts)), lengths)
    return rows, np.arange(len(rows)) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)


def _keys(pairs: Ints, n_users: int, n_items: int) -> Ints:
    """Unique user x I + item, ascending."""
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    most = pairs.max(axis=0, initial=-1)
    if len(pairs) and (pairs.min() < 0 or (most >= (n_users, n_items)).any()):
        raise ValueError(f"id out of range: {n_users} users, {n_items} items, but {most} is used")
    return np.unique(pairs[:, 0] * n_items + pairs[:, 1])


def _distinct(rows_nd: Scores) -> tuple[Scores, Ints]:
    """Distinct rows, and for each row the position of its equal. Sorts bytes: n log n, no arithmetic."""
    rows_nd = rows_nd + np.float32(0)  # -0.0 and 0.0 are equal numbers of different bytes
    whole = rows_nd.view(np.dtype((np.void, rows_nd.shape[1] * rows_nd.itemsize))).ravel()
    _, first, position = np.unique(whole, return_index=True, return_inverse=True)
    if len(first) == len(rows_nd):
        return rows_nd, np.arange(len(rows_nd))
    return rows_nd[first], position.ravel()


# --- What lists are like, right or wrong: how much of the catalogue they show, how novel, how popular.


def top_items(scores_bi: Scores, k: int) -> Lists:
    """The `k` best items of each row, k at most I; equal scores in catalogue order. Cost: one copy of the scores.

    Items of score -inf are not offered: a row with fewer than k others ends in -1.
    """
    items = np.flatnonzero(_reaching(scores_bi, k))
    rows, items = np.divmod(items, scores_bi.shape[1])
    lengths_b = np.bincount(rows, minlength=len(scores_bi))
    slots = np.arange(len(rows)) - (np.cumsum(lengths_b) - lengths_b)[rows]
    lists = np.full((len(scores_bi), k), -1, dtype=np.int32)
    values = np.full(lists.shape, -np.inf, dtype=np.float32)
    lists[rows, slots], values[rows, slots] = items, scores_bi[rows, items]
    return np.take_along_axis(lists, np.argsort(-values, axis=1, kind="stable"), axis=1)


def _reaching(scores_bi: Scores, k: int) -> NDArray[np.bool_]:
    """Which items are among the k best of their row: at most k in each."""
    edge = scores_bi.shape[1] - k
    edges_b1 = np.partition(scores_bi, edge, axis=1)[:, edge, None]
    edges_b1 = np.maximum(edges_b1, np.finfo(np.float32).min)
    reached_bi = scores_bi >= edges_b1
    tied = np.flatnonzero(reached_bi.sum(axis=1, dtype=np.int32) > k)
    if len(tied):
        equal = scores_bi[tied] == edges_b1[tied]
        places = k - (reached_bi[tied] & ~equal).sum(axis=1, keepdims=True)
        reached_bi[tied] &= ~equal | (np.cumsum(equal, axis=1, dtype=np.int32) <= places)
    return reached_bi


def list_metrics(
    lists_vk: Lists, seen: Ints, n_items: int, ks: Sequence[int]
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Metrics of each user's list [V], and of all lists together; `seen` [E, 2]: unique training pairs. O(V x K).

    Of each list, where there are training pairs: `novelty@k`, the mean self-information log2(U / u) of its items in
    bits, where u (at least 1) of the U users with training pairs took the item (Zhou et al. 2010); `popularity@k`, the
    share of its places that go to the 20% of items with most training users, items tied across that edge counted in
    part. Of all lists: `coverage@k`, the share of the catalogue that is in some list (Ge et al. 2010).
    """
    per_user, coverage = {}, {}
    takers_i = np.bincount(seen[:, 1], minlength=n_items)
    information_i = np.log2(max(1, len(np.unique(seen[:, 0]))) / np.maximum(takers_i, 1))
    novelty_vk = _running_mean(information_i, lists_vk)
    popularity_vk = _running_mean(_popular(takers_i), lists_vk)
    for k in ks:
        shown_i = np.zeros(n_items, dtype=bool)
        shown_i[lists_vk[:, :k][lists_vk[:, :k] >= 0]] = True
        coverage[f"coverage@{k}"] = float(shown_i.mean())
        if len(seen):
            last = min(k, lists_vk.shape[1]) - 1
            per_user[f"novelty@{k}"] = novelty_vk[:, last]
            per_user[f"popularity@{k}"] = popularity_vk[:, last]
    return per_user, coverage


def _popular(takers_i: Ints) -> Floats:
    """1 for popular items, 0 for others; items tied across the edge share the places left."""
    places = -(-len(takers_i) // POPULAR)
    edge = np.partition(takers_i, -places)[-places]
    above, equal = takers_i > edge, takers_i == edge
    return np.asarray(above + equal * ((places - above.sum()) / equal.sum()))


def _running_mean(values_i: Floats, lists_vk: Lists) -> Floats:
    """[V, K] mean of the items' values over the first 1..K places."""
    real = lists_vk >= 0
    sums_vk = np.where(real, values_i[lists_vk], 0.0).cumsum(axis=1)
    return np.asarray(sums_vk / np.maximum(1, real.cumsum(axis=1)))


# --- Leave-one-out: the rank of each user's next item in the catalogue, or in a list of the best.
#
# "Seen items left out": nothing of the user's history is offered, as `recommend` does it. A user who takes something
# again is a miss and still counts: to offer that item alone of the history would tell every model which one it is.


def rank_sequences(
    scores: ScoreBlock,
    sequences: Sequences,
    split: Heldout = "test",
    ks: Sequence[int] = NEXT_ITEM_KS,
    filter_seen: bool = False,
) -> RankingResult:
    """Rank the item that a split leaves out of each history among the whole catalogue; errors as `rank_scores`.

    `scores`: internal users [B] -> [B, I] scores after `sequences.histories(split)`, which for test include the
    validation item. With `filter_seen` no item of that history is offered, and one that is taken again is a miss.
    Metrics are those of `rank_scores` that differ with one test item, and `mrr`, the mean of 1 / rank.
    """
    _, pairs = _targets(sequences, split)
    hidden = _pairs(sequences.histories(split)) if filter_seen else pairs[:0]
    size = len(sequences.train), sequences.n_items
    result = rank_scores(scores, *size, _pairs(sequences.train), pairs, ks, hidden)
    return replace(result, per_user={"mrr": 1 / result.ranks, **_plain(result.per_user)})


def rank_lists(
    lists_vk: Ints, sequences: Sequences, split: Heldout = "test", ks: Sequence[int] = NEXT_ITEM_KS
) -> RankingResult:
    """Metrics of `rank_sequences` but `mrr` (which needs all ranks) from each user's best K items [V, K].

    Rows follow `sequences.evaluated(split)`. A list that ends early holds -1 from there on. An item outside the list
    is a miss, one behind the catalogue and every k. A UserError where no user has an item left out, or for a k beyond
    the lists; a ValueError for a row that repeats an item, names an unknown one, or goes on after its end.
    """
    users, pairs = _targets(sequences, split)
    _check_lists(lists_vk, len(users), sequences.n_items)
    longest = lists_vk.shape[1]
    if max(ks) > longest < sequences.n_items:
        raise UserError(f"k = {max(ks)}: the lists end at {longest} items; ask for less or widen the beam")
    hits_vk = lists_vk == pairs[:, 1:]
    missed = max(sequences.n_items, *ks) + 1
    ranks = np.where(hits_vk.any(axis=1), hits_vk.argmax(axis=1) + 1, missed)
    train = np.unique(_pairs(sequences.train), axis=0)
    of_lists, coverage = list_metrics(lists_vk.astype(np.int32), train, sequences.n_items, ks)
    rows = np.arange(len(users))
    per_user = _plain(accuracy(rows, ranks, np.ones_like(rows), ks)) | of_lists
    return RankingResult(users, per_user, rows, ranks, 0, coverage)


def _pairs(histories: Histories) -> Ints:
    return np.stack([histories.rows, histories.items], axis=1)


def _targets(sequences: Sequences, split: Heldout) -> tuple[Ints, Ints]:
    """[V] users with an item left out, and [V, 2] (user, that item)."""
    users = sequences.evaluated(split)
    if not len(users):
        raise UserError(f"nothing to rank: no user has a {split} item; give histories of three items or more")
    return users, np.stack([users, sequences.targets(split)[users]], axis=1)


def _plain(per_user: dict[str, Floats]) -> dict[str, Floats]:
    return {metric: values for metric, values in per_user.items() if not metric.startswith(TWINS)}


def _check_lists(lists_vk: Ints, users: int, n_items: int) -> None:
    if lists_vk.ndim != 2 or len(lists_vk) != users:
        raise ValueError(f"lists of shape {lists_vk.shape}: one row for each of {users} users is needed")
    ended = lists_vk < 0
    wrong = (ended[:, :-1] & ~ended[:, 1:]).any(axis=1) | (lists_vk >= n_items).any(axis=1)
    ordered = np.sort(lists_vk, axis=1)
    wrong |= ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        found = lists_vk[row][:20].tolist()
        raise ValueError(f"list {row} is no list of distinct items below {n_items}: {found}")
