"""Texts by how much the method could know of the user: XRec's sparsity groups (section 4.4, its issue 6).

Users of the test pairs are ranked by how often they occur among the training explanations and cut into five
groups of equal size, `tst1` (fewest) to `tst5`; those who do not occur at all are `unseen`, XRec's zero-shot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.text import Encoder, TextScores, score_texts, variety
from forwhy.evaluate.words import words

if TYPE_CHECKING:
    from forwhy.data.dataset import Dataset
    from forwhy.evaluate.outputs import Outputs

__all__ = ["LEAST", "TextGroup", "sparsity_groups", "text_groups", "warm_group"]

Ints = NDArray[np.int64]

SEEN = ("tst1", "tst2", "tst3", "tst4", "tst5")
UNSEEN = "unseen"
LEAST = 5
"""Pairs: of fewer no number is given, as its interval would say nothing."""


@dataclass(frozen=True)
class TextGroup:
    """Test pairs of similar users, and the metrics of their texts."""

    pairs: int
    users: int
    training_texts: tuple[int, int]
    """Fewest and most training explanations of a user in the group; (0, 0) without pairs."""
    scores: TextScores | None
    """None with fewer than `LEAST` pairs."""


def sparsity_groups(dataset: "Dataset") -> dict[str, Ints]:
    """TextGroup -> its users (internal numbers), each user of a test pair in exactly one; sizes differ by one.

    Ties in training explanations are broken by training interactions, fewest first, then by number: in a
    small data set most users tie (`TextGroup.training_texts` shows it). With fewer than five users the last
    groups are empty. O(E log E).
    """
    tested = np.unique(dataset.pairs("test").users)
    told = _training_texts(dataset)[tested]
    visits = np.bincount(dataset.edges("train")[:, 0], minlength=len(dataset.users))[tested]
    ranked = np.lexsort((tested, visits, told))
    seen = tested[ranked[told[ranked] > 0]]
    return {**dict(zip(SEEN, np.array_split(seen, len(SEEN)), strict=True)), UNSEEN: tested[told == 0]}


def text_groups(
    dataset: "Dataset", outputs: "Outputs", scores: TextScores, least: int = LEAST
) -> dict[str, TextGroup]:
    """Each of `sparsity_groups` with the metrics of its pairs; pairs of other users are in none.

    Args:
        dataset: As the run saw it (`data.protocols`): what was removed counts as unseen.
        outputs: Texts with their pairs.
        scores: Of these outputs, row by row; metrics of `features` other than `fmr` are not in the groups.
        least: Pairs that a group must have for its numbers to be given.
    """
    users = dataset.users.numbers([user for user, _ in outputs.pairs])
    found = {}
    for name, members in sparsity_groups(dataset).items():
        rows = np.flatnonzero(np.isin(users, members))
        part = _rows_of(scores, outputs.predictions, rows) if len(rows) >= least else None
        found[name] = _group(dataset, users[rows], part)
    return found


def warm_group(dataset: "Dataset", outputs: "Outputs", encoder: Encoder | None = None) -> TextGroup:
    """The group of `Dataset.warm_pairs`, scored on its own."""
    users = dataset.users.numbers([user for user, _ in outputs.pairs])
    enough = len(outputs) >= LEAST
    return _group(
        dataset, users, score_texts(outputs.predictions, outputs.references, encoder) if enough else None
    )


def _group(dataset: "Dataset", users: Ints, scores: TextScores | None) -> TextGroup:
    """Pairs whose users are `users` [pairs]."""
    told = _training_texts(dataset)[np.unique(users)]
    span = (int(told.min()), int(told.max())) if len(told) else (0, 0)
    return TextGroup(len(users), len(told), span, scores)


def _training_texts(dataset: "Dataset") -> Ints:
    """[U] training explanations of each user."""
    return np.bincount(dataset.pairs("train").users, minlength=len(dataset.users))


def _rows_of(scores: TextScores, predictions: Sequence[str], rows: Ints) -> TextScores:
    texts = [predictions[row] for row in rows]
    return TextScores(
        {metric: values[rows] for metric, values in scores.per_pair.items()},
        {kind: counts[rows] for kind, counts in scores.counts.items()},
        variety(texts, [words(text) for text in texts]),
    )
