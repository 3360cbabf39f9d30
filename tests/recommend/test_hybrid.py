"""The hybrid: its probabilities by hand, its weights on data that say who is right, its experts whole."""

from copy import copy
from pathlib import Path

import numpy as np
import pytest

from forwhy.data.histories import Catalogue, Histories, Sequences
from forwhy.recommend.base import Recommender
from forwhy.recommend.mixture import Learnt, MixtureRecommender, Told, likeliest
from forwhy.recommend.sequential import NextItemRecommender
from forwhy.systems.hybrid import HybridRecommender
from forwhy.systems.item_knn import ItemKnnRecommender, KnnConfig
from forwhy.systems.sasrec import SasRecConfig
from forwhy.testing import artifact_laws, recommender_laws

from .conftest import dataset, ring

ITEMS = 12
DATA = dataset(ring(60, ITEMS, 7))
SEQUENCES = Sequences.from_dataset(DATA)
CATALOGUE = Catalogue.of(DATA, SEQUENCES.train)


class Steps(Recommender):
    """Gives the item so many places behind the last one most of the probability, after histories of some lengths."""

    def __init__(self, step: int, speaks: range = range(99)) -> None:
        super().__init__(CATALOGUE)
        self.step, self.speaks = step, speaks

    def scores_after(self, histories: Histories) -> np.ndarray:
        scores = np.zeros((len(histories), ITEMS), np.float32)
        for row in range(len(histories)):
            if len(histories[row]) in self.speaks and len(histories[row]):
                scores[row, (histories[row][-1] + self.step) % ITEMS] = 5.0
        return self._gained(scores, histories)


def by_hand(expert: Recommender, history: list[int]) -> np.ndarray:
    """Probabilities of an expert, which add to one among new items."""
    shares = np.exp(expert.scores_after(Histories.of([history]))[0].astype(np.float64))
    return shares / shares[np.setdiff1d(np.arange(ITEMS), history)].sum()


def test_a_score_is_the_logarithm_of_the_power_mean() -> None:
    experts = {"a": Steps(1), "b": Steps(2)}
    gates = np.array([[0.3, 0.0, 1.0, 0.0], [0.0, 0.5, 0.0, -1.0]])
    found = MixtureRecommender(CATALOGUE, experts, Learnt(gates, np.array([0.5, 0.8]), 3.0))
    history = [3, 4]
    chances = np.stack([by_hand(one, history) for one in experts.values()])
    told = np.array([1.0, np.log1p(2) / 3, *(1 + np.log(chances.max(1)) / np.log(ITEMS))])
    weights = np.exp(gates @ told) / np.exp(gates @ told).sum()
    parts = weights[:, None] * chances ** np.array([[0.5], [0.8]])
    whole = parts.sum(0) ** 3.0
    new = np.setdiff1d(np.arange(ITEMS), history)
    scores = found.scores_after(Histories.of([history]))[0]
    np.testing.assert_allclose(scores, np.log(whole / whole[new].sum()), rtol=1e-5)
    np.testing.assert_allclose(found.parts_after(Histories.of([history]))[:, 0], parts)


def test_the_expert_that_is_right_gets_the_weight_and_five_users_hardly_move_it() -> None:
    experts = {"wrong": Steps(5), "right": Steps(1)}
    many = MixtureRecommender.fit(CATALOGUE, experts, SEQUENCES)
    assert many.scores_after(Histories.of([[2, 3]]))[0].argmax() == 4
    assert many.because("u0", "i00").experts.keys() == {"wrong", "right"}

    def weight(users: int) -> float:
        valid = np.where(np.arange(60) < users, SEQUENCES.valid, -1)
        few = Sequences(SEQUENCES.train, valid, SEQUENCES.test, ITEMS)
        found = MixtureRecommender.fit(CATALOGUE, experts, few)
        return float(
            found.parts_after(Histories.of([[2, 3]]))[1].sum()
            / found.parts_after(Histories.of([[2, 3]])).sum()
        )

    assert weight(0) == pytest.approx(0.5, abs=0.1), "nobody: alike"
    assert weight(5) < weight(20) < weight(60)
    assert weight(60) > 0.65


def told(users: int, seed: int = 0) -> Told:
    """Candidates of people as two experts see them; the second trait says which of them is right."""
    generator = np.random.default_rng(seed)
    chances = generator.dirichlet(np.full(5, 0.3), (users, 2)).transpose(0, 2, 1)
    traits = np.column_stack([np.ones(users), np.arange(users) % 2])
    chances[: users // 2, 4] = 0.0  # fewer candidates
    return Told(
        chances,
        chances[np.arange(users), :, np.arange(users) % 2].argmax(1),
        traits,
        np.ones((users, 2), bool),
    )


def test_weights_depend_on_the_history() -> None:
    logits = np.array([[1, 0], [1, 1]]) @ likeliest(told(400))[1].gates_MF.T
    assert logits[0, 0] - logits[0, 1] > 2
    assert logits[1, 1] - logits[1, 0] > 2


def test_what_is_learned_is_the_least_cost() -> None:
    data, generator = told(60, 1), np.random.default_rng(0)
    data.speaks_BM[::7, 0] = False

    def cost(found: Learnt) -> float:
        logits = np.where(data.speaks_BM, data.traits_BF @ found.gates_MF.T, -np.inf)
        weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        value = ((found.gates_MF**2).sum() + np.log(found.sharpness / 4) ** 2) / 2
        value += (np.log(4 * found.powers_M) ** 2).sum() / 2
        for row, taken in enumerate(data.targets_B):
            known = data.chances_BCM[row].any(1)
            shares = ((data.chances_BCM[row] ** found.powers_M * weights[row]).sum(1) ** found.sharpness)[
                known
            ]
            value -= np.log(shares[taken] / shares.sum())
        return float(value)

    least, best = likeliest(data)
    assert least == pytest.approx(cost(best), rel=1e-5)
    for _ in range(50):
        moved = [it * np.exp(0.05 * generator.normal(size=2)) for it in (best.powers_M, best.sharpness)]
        gates = best.gates_MF + 0.05 * generator.normal(size=best.gates_MF.shape)
        assert least <= cost(Learnt(gates, moved[0], float(moved[1][0]))) + 1e-6


def test_who_says_nothing_gives_the_weight_to_the_others() -> None:
    found = MixtureRecommender(CATALOGUE, {"short": Steps(1, range(3)), "any": Steps(2)})
    long, short = Histories.of([[1, 2, 3, 4]]), Histories.of([[1, 2]])
    parts = found.parts_after(long)[:, 0]
    assert not parts[0].any()
    np.testing.assert_allclose(parts[1], by_hand(Steps(2), [1, 2, 3, 4]) ** found.learnt.powers_M[1])
    assert found.parts_after(short)[0, 0].any()
    nobody = found.scores_after(Histories.of([[]]))[0]
    assert np.ptp(nobody) == 0, "after an empty history all are alike"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> HybridRecommender:
    options = SasRecConfig(dims=8, window=6, epochs=3, learning_rate=1e-2, dropout=0.0, device="cpu")
    network = NextItemRecommender.fit(DATA, tmp_path_factory.mktemp("sasrec"), options)
    experts = {"sasrec": network, "item-knn": ItemKnnRecommender(CATALOGUE, KnnConfig(window=6))}
    return HybridRecommender.fit(CATALOGUE, experts, SEQUENCES)


def test_it_obeys_the_laws(whole: HybridRecommender, tmp_path: Path) -> None:
    users = list(DATA.users.values)[:8]
    seen = {
        user: {DATA.items.values[item] for item in SEQUENCES.train[row]} for row, user in enumerate(users)
    }
    recommender_laws(whole, users, seen)
    artifact_laws(lambda: whole, tmp_path)


def test_loaded_it_says_the_same_and_why(whole: HybridRecommender, tmp_path: Path) -> None:
    whole.save_pretrained(tmp_path / "model")
    loaded = HybridRecommender.from_pretrained(tmp_path / "model")
    users = np.arange(20)
    assert loaded.scores(users).tobytes() == whole.scores(users).tobytes()
    because = loaded.because(None, "i05", history=["i03", "i04"])
    assert set(because.experts) == {"sasrec", "item-knn"}
    assert sum(because.experts.values()) == pytest.approx(1.0)
    assert {one.item_id for one in because.shares} == {"i03", "i04"}


def test_what_was_taken_gains_once(whole: HybridRecommender) -> None:
    """The experts' own gains do not count a second time: nobody here takes anything twice."""
    assert whole.repeat_gain < -1
    history, bare = Histories.of([[3, 4]]), copy(whole)
    bare.repeat_gain = 0.0
    moved = (whole.scores_after(history) - bare.scores_after(history))[0]
    np.testing.assert_allclose(moved[[3, 4]], whole.repeat_gain, atol=1e-4)
    assert not np.delete(moved, [3, 4]).any()
    assert all(one.repeat_gain == 0 for one in whole._bare)
