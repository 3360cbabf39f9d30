"""Controls that know the pair: what another pair of the same item or user was told, and the item's profile.

A method that writes of a pair must beat the text of its nearest neighbour, which nobody had to write. Only
training explanations of pairs that are held out nowhere are read; a pair without a neighbour has none.

Shapes: n pairs, -1 where a row is no pair of the data set.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.controls import TextTable, text_table
from forwhy.evaluate.features import Features
from forwhy.evaluate.matching import Matched
from forwhy.evaluate.text import Encoder, Measure

if TYPE_CHECKING:
    from forwhy.data.dataset import Dataset

__all__ = ["known_controls", "known_table", "nearest_texts", "profile_texts"]

Ints = NDArray[np.int64]
Texts = list[str | None]


def known_table(
    texts: Matched,
    dataset: "Dataset | None",
    encoder: Encoder | None,
    seed: int,
    features: Features | None = None,
    measures: Sequence[Measure] = (),
) -> TextTable:
    """`text_table` of matched outputs beside every control that the data set allows; without one only dealt."""
    outputs = texts.reading.outputs
    training = () if dataset is None else dataset.pairs("train").texts
    others = known_controls(dataset, texts.users, texts.items) if dataset is not None and training else None
    return text_table(
        outputs.predictions, outputs.references, training, encoder, seed, features, measures, others
    )


def known_controls(dataset: "Dataset", users: Ints, items: Ints) -> dict[str, Texts]:
    """`nearest_item`, `nearest_user` and `profile` of n pairs in internal numbers; None where there is none."""
    return {
        "nearest_item": nearest_texts(dataset, users, items),
        "nearest_user": nearest_texts(dataset, users, items, by_user=True),
        "profile": profile_texts(dataset, items),
    }


def nearest_texts(dataset: "Dataset", users: Ints, items: Ints, by_user: bool = False) -> Texts:
    """The training explanation of the pair's item whose user is most like the pair's; None without any.

    Likeness is the cosine of the two users' sets of training items (leak-free graph): shared items over the
    geometric mean of their numbers; the smallest id wins among equals. `by_user` turns both sides round: the
    same user about the item most like this one, by the users they share. Cost: the interactions once, and
    the sets of all explained neighbours.
    """
    edges, train = dataset.edges("train"), dataset.pairs("train")
    held = {(user, item) for user, item in dataset.heldout_pairs().tolist()}
    told: dict[int, dict[int, str]] = {}
    for user, item, text in zip(train.users.tolist(), train.items.tolist(), train.texts, strict=True):
        if (user, item) not in held:
            of, teller = (user, item) if by_user else (item, user)
            told.setdefault(of, {})[teller] = text
    if by_user:
        users, items, edges = items, users, edges[:, ::-1]
    compared = [*{teller for tellers in told.values() for teller in tellers}, *users.tolist()]
    taken = _sets(edges[np.isin(edges[:, 0], compared)])
    return [
        _nearest(told.get(of, {}), who, taken) for who, of in zip(users.tolist(), items.tolist(), strict=True)
    ]


def profile_texts(dataset: "Dataset", items: Ints) -> Texts:
    """The profile of each pair's item, or its title, categories and description; None where nothing is known.

    Shipped profiles may have been written from held-out text: that makes the control stronger, not weaker.
    """
    profiles, texts = dataset.profiles("item"), dataset.item_texts()
    return [
        None if item < 0 else (profiles.get(item) or texts[item]).strip() or None for item in items.tolist()
    ]


def _sets(edges: Ints) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for owner, taken in edges.tolist():
        found.setdefault(owner, set()).add(taken)
    return found


def _nearest(told: Mapping[int, str], who: int, taken: Mapping[int, set[int]]) -> str | None:
    own: set[int] = taken.get(who, set())

    def likeness(other: int) -> float:
        theirs = taken.get(other, set())
        return len(own & theirs) / math.sqrt(max(1, len(own) * len(theirs)))

    others = sorted(other for other in told if other != who)
    return told[max(others, key=likeness)] if others else None
