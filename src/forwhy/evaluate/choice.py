"""Two-choice accuracy: whose text is it, whose like is it? By chance .5; a tie counts half.

It asks for people alone: two people's explanations of one item, or a like beside a stranger's. Both texts are held
against both people, so neither a text that is likely anyway nor a person whom everything fits decides it.
Shapes: c choices, k people, V dimensions of the text vectors, W width of a representation.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import SPLITS
from forwhy.data.dataset import Dataset, Pairs
from forwhy.evaluate.controls import deal
from forwhy.evaluate.gain import Scorer
from forwhy.evaluate.significance import Floats, Ints, bootstrap_interval, bootstrap_means, flatten
from forwhy.evaluate.text import Encoder
from forwhy.graph.representations import Representations
from forwhy.ridge import ridge

FEWEST, FOLDS = 5, 5
"""Choices: of fewer no share is given; parts of the people, each learnt from the others."""
MOST_COUPLES, MOST_PEOPLE, LIKES = 1000, 1000, 10
"""Of couples of texts, of people, and of one person's likes, so many are asked about."""


def two_choice(
    dataset: Dataset,
    encoder: Encoder,
    explainer: Scorer | None = None,
    representations: Representations | None = None,
    unread: Collection[int] = (),
    seed: int = 0,
) -> dict[str, Any] | None:
    """Shares of right choices with intervals, and the number of `choices`; None where the data has none.

    `text by model`: of two people's held-out explanations of one item, by an explainer's likelihoods. `text by
    profile`: of all explanations, by likeness to both people's profiles; nothing is learnt, so it says what the data
    holds (shipped profiles may have been written from these very texts). `like by history`: of two people's likes, by
    the representation of their training history alone, as if they were newcomers; `like by items`: by the set of these
    items, without any system. Both need a linear map to text, learnt from other people.

    `dataset` has everybody's likes, also those that no stage was shown; `representations` made words of histories, and
    `unread` are the users (internal numbers) whose likes these were not shown: who saw one in training gives it back.
    Cost: two readings of each held-out text of a couple; vectors of the likes of at most `MOST_PEOPLE` people.
    """
    found = {} if explainer is None else {"text by model": _by_model(dataset, explainer, seed)}
    found["text by profile"] = _by_profile(dataset, encoder, seed)
    if representations is not None:
        found |= _likes(dataset, encoder, representations, unread, seed)
    enough = {name: right_c for name, right_c in found.items() if len(right_c) >= FEWEST}
    if not enough:
        return None
    shares = flatten({name: bootstrap_interval(right_c, seed) for name, right_c in enough.items()})
    return {**shares, "choices": {name: len(right_c) for name, right_c in enough.items()}}


def whose_profile(
    written: Sequence[str], own: Sequence[str], encoder: Encoder, seed: int = 0
) -> dict[str, Any] | None:
    """How much more a profile that was written of somebody is like their own profile than like other people's.

    `right`: cosine with the own one minus the mean of the others, over people; `shuffled`: the same of what was written
    of another person; both with intervals, and `people`. What could be said of anybody has 0 in both. None of too few.
    """
    people = np.arange(len(written))
    if len(people) < FEWEST:
        return None
    likeness_pp = encoder.encode(written) @ encoder.encode(own).T

    def margin(dealt: Ints) -> Floats:
        own_p = likeness_pp[dealt, people]
        return np.asarray(own_p - (likeness_pp[dealt].sum(1) - own_p) / (len(people) - 1), np.float64)

    found = {"right": margin(people), "shuffled": margin(deal(len(people), seed))}
    return {**flatten(bootstrap_means(found, seed)), "people": len(people)}


def chosen(margin_c: Floats) -> Floats:
    """[c] 1 where the right choice fits better, 0 where the wrong one does, else a half."""
    return (np.sign(margin_c) + 1) / 2


def couples(pairs: Pairs, seed: int = 0) -> tuple[Ints, Ints]:
    """Two rows [c] of each couple: different texts on one item by two people; at most `MOST_COUPLES`, drawn."""
    of_item: defaultdict[int, list[int]] = defaultdict(list)
    for row, item in enumerate(pairs.items.tolist()):
        of_item[item].append(row)
    twos = [two for rows in of_item.values() for two in combinations(rows, 2)]
    differ = np.array([pairs.texts[a] != pairs.texts[b] for a, b in twos], dtype=bool)
    one, other = np.array(twos, dtype=np.int64).reshape(-1, 2).T
    kept = np.flatnonzero((pairs.users[one] != pairs.users[other]) & differ)
    kept = np.random.default_rng(seed).permutation(kept)[:MOST_COUPLES]
    return one[kept], other[kept]


def _together(*parts: Pairs) -> Pairs:
    users, items = (np.concatenate([getattr(part, name) for part in parts]) for name in ("users", "items"))
    return Pairs(users, items, tuple(text for part in parts for text in part.texts))


def _by_model(dataset: Dataset, explainer: Scorer, seed: int) -> Floats:
    """A text that was learnt from is likely for whoever was shown then: both must be held out."""
    pairs = _together(dataset.pairs("valid"), dataset.pairs("test"))
    one, other = couples(pairs, seed)
    if not len(one):
        return np.empty(0)
    asked = pairs.select(np.concatenate([one, other]))
    swapped = pairs.users[np.concatenate([other, one])]
    lost_2c = explainer.nll(asked, user_rows=swapped).sum.astype(np.float64) - explainer.nll(asked).sum
    return chosen(lost_2c.reshape(2, -1).sum(axis=0))


def _by_profile(dataset: Dataset, encoder: Encoder, seed: int) -> Floats:
    pairs, profiles = _together(*map(dataset.pairs, SPLITS)), dataset.profiles("user")
    pairs = pairs.select([row for row, user in enumerate(pairs.users.tolist()) if user in profiles])
    one, other = couples(pairs, seed)
    if not len(one):
        return np.empty(0)
    users = pairs.users.tolist()
    of_users, of_texts = (
        [encoder.encode([texts[row] for row in rows.tolist()]) for rows in (one, other)]
        for texts in ([profiles[user] for user in users], pairs.texts)
    )
    return chosen(((of_users[0] - of_users[1]) * (of_texts[0] - of_texts[1])).sum(axis=1).astype(np.float64))


# --- Likes


def _likes(
    dataset: Dataset, encoder: Encoder, representations: Representations, unread: Collection[int], seed: int
) -> dict[str, Floats]:
    """[k] for each person the share of right choices over their likes, each beside one of a stranger's."""
    edges, told = dataset.edges("train"), dataset.phrases("user")
    users, starts = np.unique(edges[:, 0], return_index=True)
    histories = dict(zip(users.tolist(), np.split(edges[:, 1], starts[1:]), strict=True))
    people = sorted(histories.keys() & told.keys() & set(unread))
    people = np.random.default_rng(seed).permutation(people)[:MOST_PEOPLE].tolist()
    if len(people) < 2 * FOLDS:
        return {}
    likes_k = [encoder.encode(told[user][:LIKES]) for user in people]
    folds = np.array_split(np.arange(len(people)), FOLDS)
    stranger_k = np.concatenate([fold[deal(len(fold), seed)] for fold in folds])

    def right(known: Callable[[list[int]], NDArray[np.floating]]) -> Floats:
        """By what is known of a history; a fold's map is learnt from the others."""
        known_kW = np.stack([known(histories[user].tolist()) for user in people])
        known_kW /= np.maximum(np.linalg.norm(known_kW, axis=1, keepdims=True), 1e-12)
        mean_kV = np.stack([likes.mean(axis=0) for likes in likes_k])
        maps = [ridge(np.delete(known_kW, fold, axis=0), np.delete(mean_kV, fold, axis=0)) for fold in folds]
        expected_kV = np.concatenate([of(known_kW[fold]) for of, fold in zip(maps, folds, strict=True)])
        shares = []
        for own, other in enumerate(stranger_k.tolist()):
            both = zip(likes_k[own], likes_k[other], strict=False)
            margins = [float((expected_kV[own] - expected_kV[other]) @ (one - two)) for one, two in both]
            shares.append(chosen(np.array(margins)).mean())
        return np.array(shares)

    def as_set(items: list[int]) -> Floats:
        taken = np.zeros(len(dataset.items))
        taken[items] = 1
        return taken

    history = representations.representation_for_history
    return {"like by history": right(history), "like by items": right(as_set)}
