"""Leave-one-out: where each user's next item stands in the catalogue, or in a list of the best.

Shapes: U users, V users with a left-out item (B of one block), I items, K places of a list.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from forwhy.data.sequences import Heldout, Sequences
from forwhy.errors import UserError
from forwhy.evaluate.ranking import Ints, RankingResult, ScoreBlock, accuracy, list_metrics, rank_scores

__all__ = ["KS", "rank_lists", "rank_sequences"]

KS = (1, 5, 10, 20)
TWINS = ("hr@", "map@")
"""With one item left out per user these equal recall@k and mrr@k."""


def rank_sequences(
    scores: ScoreBlock,
    sequences: Sequences,
    split: Heldout = "test",
    ks: Sequence[int] = KS,
    filter_seen: bool = False,
) -> RankingResult:
    """Rank the item that a split leaves out of each history among the whole catalogue.

    `scores`: internal users [B] -> [B, I] scores after `sequences.histories(split)`, which for test include the
    validation item. Nothing is masked unless `filter_seen` leaves out the items of that history; a left-out item
    that repeats one of them can then not be found and its user is counted in `dropped`. Ties are counted against us.
    `recall@k` (0 or 1 of a user), `ndcg@k`, `mrr@k` and the lists' metrics as in `rank_scores`; `mrr`: 1 / rank.

    Raises:
        UserError: no user has an item left out.
        ValueError: a score that is not finite.
    """
    users, pairs = _targets(sequences, split)
    histories = sequences.histories(split)
    masked = (
        np.stack([histories.rows, histories.items], axis=1) if filter_seen else np.empty((0, 2), np.int64)
    )
    train = np.stack([sequences.train.rows, sequences.train.items], axis=1)
    size = len(sequences.train), sequences.n_items
    result = rank_scores(scores, *size, train, pairs, ks, masked)
    return replace(result, per_user={"mrr": 1 / result.ranks, **_plain(result.per_user)})


def rank_lists(
    lists_vk: Ints, sequences: Sequences, split: Heldout = "test", ks: Sequence[int] = KS
) -> RankingResult:
    """The same from each user's best K items [V, K], as a beam gives them; without `mrr`, which needs all ranks.

    Rows follow `sequences.evaluated(split)`; a list that ends early holds -1 from there on. An item outside the
    list is a miss: its rank is given as one behind the catalogue and behind every k.

    Raises:
        UserError: no user has an item left out; a k beyond the lists.
        ValueError: not one row per user; a row that is empty, repeats an item, names one that does not exist, or goes
            on after its end.
    """
    users, pairs = _targets(sequences, split)
    _check_lists(lists_vk, len(users), sequences.n_items)
    if max(ks) > lists_vk.shape[1] < sequences.n_items:
        raise UserError(
            f"k = {max(ks)}: the lists end at {lists_vk.shape[1]} items; ask for less or widen the beam"
        )
    hits_vk = lists_vk == pairs[:, 1:]
    missed = max(sequences.n_items, *ks) + 1
    ranks = np.where(hits_vk.any(axis=1), hits_vk.argmax(axis=1) + 1, missed)
    train = np.stack([sequences.train.rows, sequences.train.items], axis=1)
    of_lists, coverage = list_metrics(
        lists_vk.astype(np.int32), np.unique(train, axis=0), sequences.n_items, ks
    )
    rows, ones = np.arange(len(users)), np.ones(len(users), dtype=np.int64)
    per_user = _plain(accuracy(rows, ranks, ones, ks)) | of_lists
    return RankingResult(users, per_user, rows, ranks, 0, coverage)


def _targets(sequences: Sequences, split: Heldout) -> tuple[Ints, Ints]:
    """Users with an item left out, and [V, 2] of both."""
    users = sequences.evaluated(split)
    if not len(users):
        raise UserError(f"nothing to rank: no user has a {split} item; give histories of three items or more")
    return users, np.stack([users, sequences.targets(split)[users]], axis=1)


def _plain(per_user: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {metric: values for metric, values in per_user.items() if not metric.startswith(TWINS)}


def _check_lists(lists_vk: Ints, users: int, n_items: int) -> None:
    if lists_vk.ndim != 2 or len(lists_vk) != users:
        raise ValueError(f"lists of shape {lists_vk.shape}: one row for each of {users} users is needed")
    ended = lists_vk < 0
    wrong = ended[:, 0] | (ended[:, :-1] & ~ended[:, 1:]).any(axis=1) | (lists_vk >= n_items).any(axis=1)
    ordered = np.sort(lists_vk, axis=1)
    wrong |= ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"list {row} is no list of distinct items below {n_items}: {lists_vk[row][:20].tolist()}"
        )
