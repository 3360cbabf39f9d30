"""Experts in one probability: p(item | history) ~ (sum over experts of w(history) · p_expert(item | history)^b)^c.

A power mean: with b = 1 one sure expert decides, the smaller b, the more they have to agree; each expert has its own.
The weights w are a softmax of a few traits of the history. All of it is learned by the likelihood of validation items.
Shapes: B people, I items, M experts, F traits, C candidates.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from forwhy.data.because import Because
from forwhy.data.histories import Catalogue, Histories, Sequences
from forwhy.recommend.base import Ints, Recommender, Scores

Floats = NDArray[np.float64]
Experts = Mapping[str, Recommender]
log = logging.getLogger(__name__)

USUAL_POWER = 0.25
"""Exponent b of every expert until something is learned: the best common one on Beauty's validation items."""
LEARNED_FROM, NEAREST = 8000, 50
"""Users whose validation items are read at most, and items of each expert that a validation item is told apart from."""
AT_ONCE = 256
"""Histories whose probabilities are held at once while weights are learned."""
UNSURE = 1.0
"""Strength of the belief that experts weigh alike, in users: five users hardly move a weight."""
FLOOR = 1e-12
"""The least probability."""


class MixtureRecommender(Recommender):
    """Scores log p; serves whom any of its experts serves.

    An expert that says nothing after a history (all of its scores are equal) gives its weight to the others, so new
    items come in through what is said of them. Cost: that of the experts, and O(M·I) per person.
    """

    def __init__(
        self, catalogue: Catalogue, experts: Experts, learnt: "Learnt | None" = None, gain: float = 0.0
    ) -> None:
        """`learnt`: how the experts are put together, by default alike; `gain`: see `repeat_gain`."""
        super().__init__(catalogue)
        self.experts, self.repeat_gain = dict(experts), gain
        self.learnt = learnt or Learnt.alike(len(experts))
        shape = (many := len(experts), 2 + many)
        if not many or self.learnt.gates_MF.shape != shape or self.learnt.powers_M.shape != shape[:1]:
            raise ValueError(f"{many} experts, and weights of {self.learnt.gates_MF.shape}")
        # What taking again is worth is learned of them all together.
        self._bare = [one.without_gain() for one in experts.values()]
        windows = [one.window for one in experts.values() if one.window is not None]
        self.window = max(windows, default=None)

    @classmethod
    def fit(cls, catalogue: Catalogue, experts: Experts, sequences: Sequences, seed: int = 0) -> Self:
        """Learn by validation items that are new to their user; without any the experts weigh alike.

        A validation item is told apart from the `NEAREST` best items of each expert: the order at the top of the list
        is what weights are for. Users whose item is none of these say nothing.
        """
        found = cls(catalogue, experts)
        histories, targets = sequences.validation(LEARNED_FROM, seed)
        rows = np.arange(len(targets))
        blocks = np.split(rows, rows[AT_ONCE::AT_ONCE])
        told = Told.joined([found._told(histories.take(some), targets[some]) for some in blocks])
        if len(told.targets_B):
            found.learnt = likeliest(told)[1]
        log.info("%d validation items say how experts weigh: %s", len(told.targets_B), found.learnt)
        return found.learn_repeats(sequences, seed)

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] log p, and `repeat_gain` more where the history holds the item."""
        logs_BI = self.learnt.sharpness * np.log(np.maximum(self.parts_after(histories).sum(0), FLOOR))
        logs_BI -= logs_BI.max(1, keepdims=True)
        logs_BI -= np.log(_among_new(np.exp(logs_BI), histories)[1])
        return self._gained(logs_BI.astype(np.float32), histories)

    def parts_after(self, histories: Histories) -> Floats:
        """[M, B, I] w p^b: what each expert adds to the sum of each item."""
        chances_MBI, traits_BF, speaks_BM = self._known(histories)
        weights_BM = _softmax(traits_BF @ self.learnt.gates_MF.T, speaks_BM)
        return np.asarray(chances_MBI ** self.learnt.powers_M[:, None, None] * weights_BM.T[:, :, None])

    def _known(self, histories: Histories) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """[M, B, I] each expert's probabilities among new items, [B, F] traits, [B, M] who says anything."""
        scores = [one.scores_after(histories) for one in self._bare]
        chances = [
            _among_new(one.probabilities(each), histories)
            for one, each in zip(self._bare, scores, strict=True)
        ]
        chances_MBI = np.stack([each / sums_B1 for each, sums_B1 in chances])
        speaks_BM = np.stack([each.max(1) > each.min(1) for each in scores], 1)
        return chances_MBI, traits(histories, chances_MBI), speaks_BM

    def _told(self, histories: Histories, targets_B: Ints) -> "Told":
        """What is learned from these validation items."""
        chances_MBI, traits_BF, speaks_BM = self._known(histories)
        chances_MBI[:, histories.rows, histories.items] = 0.0
        experts, _, items = chances_MBI.shape
        nearest, found = min(NEAREST, items), []
        for row, target in enumerate(targets_B.tolist()):
            near = np.unique(np.argpartition(-chances_MBI[:, row], nearest - 1)[:, :nearest])
            near = near[chances_MBI[:, row, near].any(0)]
            if len(place := np.flatnonzero(near == target)):
                of_near_CM = np.zeros((nearest * experts, experts))
                of_near_CM[: len(near)] = chances_MBI[:, row, near].T
                found.append((row, of_near_CM, int(place[0])))
        rows = [row for row, _, _ in found]
        chances_BCM = np.array([each for _, each, _ in found]).reshape(-1, nearest * experts, experts)
        places_B = np.array([place for *_, place in found], np.int64)
        return Told(chances_BCM, places_B, traits_BF[rows], speaks_BM[rows])

    def _because(self, user: int | None, item: int, history: Ints) -> Because:
        """What the score loses without each item of the history, and the part of each expert."""
        because = super()._because(user, item, history)
        parts_M = self.parts_after(Histories.of([history]))[:, 0, item]
        shares = (parts_M / max(float(parts_M.sum()), FLOOR)).tolist()
        because.experts.update(zip(self.experts, shares, strict=True))
        return because


@dataclass(frozen=True)
class Learnt:
    """How experts are put together."""

    gates_MF: Floats
    """Weights of the traits of a history, 0 where experts weigh alike."""
    powers_M: Floats
    """b of each expert: large where it is right when it is sure, near 0 where its order alone counts."""
    sharpness: float
    """c, the exponent of the sum."""

    @classmethod
    def alike(cls, experts: int) -> Self:
        """A power mean of experts of equal weight."""
        return cls(np.zeros((experts, 2 + experts)), np.full(experts, USUAL_POWER), 1 / USUAL_POWER)

    def __str__(self) -> str:
        gates = self.gates_MF.round(2).tolist()
        return f"powers {self.powers_M.round(2)}, sharpness {self.sharpness:.2f}, weights of traits {gates}"


def traits(histories: Histories, chances_MBI: Floats) -> Floats:
    """[B, F] of each history: 1, its length, and how sure each expert is; about 0 to 1 whatever the catalogue."""
    items = max(chances_MBI.shape[2], 2)
    sure_BM = 1 + np.log(np.maximum(chances_MBI.max(2).T, FLOOR)) / np.log(items)
    length_B = np.log1p(histories.lengths) / 3
    return np.column_stack([np.ones(len(histories)), length_B, sure_BM])


@dataclass(frozen=True)
class Told:
    """Validation items among the candidates C of their user."""

    chances_BCM: Floats
    """Probabilities; 0 of all experts where there are fewer candidates."""
    targets_B: Ints
    """Which candidate was taken."""
    traits_BF: Floats
    speaks_BM: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All of them."""
        return cls(*(np.concatenate([getattr(one, it.name) for one in parts]) for it in fields(cls)))


def likeliest(told: Told) -> tuple[float, Learnt]:
    """Gates G, powers b and sharpness c under which the taken candidates are likeliest, and what they cost.

    Minimises -sum log softmax_C(c log sum_M w p^b)[taken] + UNSURE/2 (|G|² + |log b/b0|² + log² c b0) by L-BFGS, where
    w = softmax(G traits) and b0 is the usual power.
    """
    rows, there_BC = np.arange(len(told.targets_B)), told.chances_BCM.any(2)
    logs_BCM = np.log(np.maximum(told.chances_BCM, FLOOR))
    experts, traits_ = logs_BCM.shape[2], told.traits_BF.shape[1]

    def learnt(flat: Floats) -> Learnt:
        gates, powers, (sharp,) = np.split(flat, [experts * traits_, -1])
        return Learnt(gates.reshape(experts, -1), USUAL_POWER * np.exp(powers), np.exp(sharp) / USUAL_POWER)

    def cost(flat: Floats) -> tuple[float, Floats]:
        now = learnt(flat)
        weights_BM = _softmax(told.traits_BF @ now.gates_MF.T, told.speaks_BM)
        parts_BCM = np.where(told.chances_BCM > 0, np.exp(logs_BCM * now.powers_M), 0.0) * weights_BM[:, None]
        sums_BC = np.maximum(parts_BCM.sum(2), FLOOR)
        whole_BC = np.where(there_BC, now.sharpness * np.log(sums_BC), -np.inf)
        chances_BC = np.exp(whole_BC - whole_BC.max(1, keepdims=True))
        chances_BC /= chances_BC.sum(1, keepdims=True)
        value = UNSURE / 2 * flat @ flat - np.log(np.maximum(chances_BC[rows, told.targets_B], FLOOR)).sum()
        chances_BC[rows, told.targets_B] -= 1
        slopes_BCM = parts_BCM * (now.sharpness * chances_BC / sums_BC)[:, :, None]
        to_gates = (slopes_BCM.sum(1).T @ told.traits_BF).ravel()
        to_powers = np.einsum("bcm,bcm->m", slopes_BCM, logs_BCM) * now.powers_M
        to_sharp = [(chances_BC * np.where(there_BC, whole_BC, 0.0)).sum()]
        return float(value), np.concatenate([to_gates, to_powers, to_sharp]) + UNSURE * flat

    found = optimize.minimize(cost, np.zeros(experts * traits_ + experts + 1), jac=True, method="L-BFGS-B")
    return float(found.fun), learnt(found.x)


def _softmax(logits_BM: Floats, speaks_BM: NDArray[np.bool_]) -> Floats:
    """Weights of those who say anything; alike where nobody does."""
    heard_BM = speaks_BM | ~speaks_BM.any(1, keepdims=True)
    logits_BM = np.where(heard_BM, logits_BM, -np.inf)
    weights_BM = np.exp(logits_BM - logits_BM.max(1, keepdims=True))
    return np.asarray(weights_BM / weights_BM.sum(1, keepdims=True))


def _among_new(chances_BI: Floats, histories: Histories) -> tuple[Floats, Floats]:
    """Chances, and [B, 1] their sum over items that the history does not hold; over all where it holds all."""
    new_BI = chances_BI.copy()
    new_BI[histories.rows, histories.items] = 0.0
    sums_B1 = new_BI.sum(1, keepdims=True)
    return chances_BI, np.where(sums_B1 > FLOOR, sums_B1, chances_BI.sum(1, keepdims=True))
