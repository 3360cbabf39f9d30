"""Information gain: what the right conditioning is worth to the language model.

Mean NLL per target token with another pair's user (item, both) shown, minus with the right one, in nats
per token. Zero: the explainer ignores who it talks about, whatever its BLEU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.controls import deal
from forwhy.evaluate.significance import Interval, bootstrap

if TYPE_CHECKING:
    from forwhy.data.dataset import Pairs


class Nll(Protocol):
    """Negative log-likelihood of each pair's explanation, as an explainer's `nll` returns it."""

    @property
    def sum(self) -> NDArray[np.floating]:
        """[n] nats, summed over the target tokens."""

    @property
    def tokens(self) -> NDArray[np.integer]:
        """[n] target tokens, end token included."""


class Scorer(Protocol):
    """An explainer that can score given texts."""

    def nll(
        self,
        pairs: "Pairs",
        user_rows: NDArray[np.int64] | None = None,
        item_rows: NDArray[np.int64] | None = None,
    ) -> Nll:
        """NLL of the pairs' texts; `user_rows[k]` (`item_rows[k]`) is shown in place of pair k's own."""


@dataclass(frozen=True)
class Gain:
    """NLL of the right texts under the right conditioning, and what that conditioning is worth."""

    nll: Interval
    """Nats per target token."""
    gain: dict[str, Interval]
    """"user", "item", "both" shuffled -> nats per target token lost."""
    pairs: int


def measure_gain(explainer: Scorer, pairs: "Pairs", seed: int = 0) -> Gain:
    """Score `pairs` four times: as they are, with another user, another item, another of both.

    Cost: four passes of the language model over the pairs. The strangers are users and items of the same
    pairs, never the right one while there is another.
    """
    users = pairs.users[deal(len(pairs), seed, pairs.users)]
    items = pairs.items[deal(len(pairs), seed + 1, pairs.items)]
    true = explainer.nll(pairs)
    gain = information_gain(
        true,
        explainer.nll(pairs, user_rows=users),
        explainer.nll(pairs, item_rows=items),
        explainer.nll(pairs, user_rows=users, item_rows=items),
    )
    return Gain(mean_nll(true), {side: Interval(**gain[side]) for side in gain}, len(pairs))


def information_gain(
    nll_true: Nll, nll_user_shuffled: Nll, nll_item_shuffled: Nll, nll_both_shuffled: Nll
) -> dict[str, dict[str, float]]:
    """`{"user": {"mean", "low", "high"}, "item": ..., "both": ...}` in nats per target token.

    Token-weighted means; 95% intervals from resampled pairs, right and shuffled together.

    Raises:
        ValueError: the shuffled runs scored other texts (their token counts differ).
    """
    shuffled: Mapping[str, Nll] = {
        "user": nll_user_shuffled,
        "item": nll_item_shuffled,
        "both": nll_both_shuffled,
    }
    return {side: _per_token(_lost(nll_true, other), nll_true).document() for side, other in shuffled.items()}


def mean_nll(nll: Nll) -> Interval:
    """Nats per target token with the bootstrap 95% interval over pairs."""
    return _per_token(np.asarray(nll.sum, dtype=np.float64), nll)


def _lost(true: Nll, shuffled: Nll) -> NDArray[np.float64]:
    if not np.array_equal(true.tokens, shuffled.tokens):
        raise ValueError("right and shuffled NLL must score the same texts: their token counts differ")
    return np.asarray(shuffled.sum, dtype=np.float64) - true.sum


def _per_token(sums_n: NDArray[np.float64], nll: Nll) -> Interval:
    rows_n2 = np.stack([sums_n, np.asarray(nll.tokens, dtype=np.float64)], axis=1)
    return bootstrap(rows_n2, lambda sums: sums[..., :1] / sums[..., 1:])[0]
