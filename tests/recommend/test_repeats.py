"""What an item of the history gains in lists and scores."""

import numpy as np
import pytest

from forwhy.data.histories import Catalogue, Histories, Sequences
from forwhy.recommend.base import Recommender
from forwhy.recommend.repeats import likeliest_gain, mass_of_lists, taken_again, with_gain

from .conftest import dataset


def listed(*pairs: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Items and the logarithms of their probabilities."""
    return np.array([item for item, _ in pairs]), np.log(np.array([share for _, share in pairs], np.float32))


def test_a_list_finds_its_new_order() -> None:
    items, scores = with_gain(
        (np.array([4, 2, 9]), np.array([-1, -2, -3], np.float32)), np.array([4, 7]), -1.5
    )
    assert items.tolist() == [2, 4, 9]
    assert scores.tolist() == [-2.0, -2.5, -3.0]


def test_the_gain_makes_what_happened_likeliest() -> None:
    """Against a search over gains, with the likelihood written out."""
    lists = [listed((0, 0.5), (1, 0.2)), listed((3, 0.1), (2, 0.05)), listed((5, 0.3), (0, 0.3))]
    histories, targets = Histories.of([[0, 1], [2], [5]]), np.array([1, 4, 0])
    again_B = taken_again(histories, targets)
    assert again_B.tolist() == [True, False, False]
    mass = np.array([0.7, 0.05, 0.3])
    gains = np.linspace(-5, 5, 10_001)
    odds = np.exp(gains)[:, None] * mass
    again = odds / (1 - mass + odds)
    # One of three took again; the half more that is counted is a weight of its own on the gain.
    likelihood = np.log(again[:, 0]) + np.log(1 - again[:, 1:]).sum(1) + 0.5 * gains
    found = mass_of_lists(lists, histories)
    np.testing.assert_allclose(found, mass, rtol=1e-6)
    assert likeliest_gain(found, again_B) == pytest.approx(gains[likelihood.argmax()], abs=2e-3)


def test_nobody_and_everybody_takes_again() -> None:
    never, always = (likeliest_gain(np.full(40, 0.5), np.full(40, again)) for again in (False, True))
    assert never == pytest.approx(np.log(0.5 / 39.5), abs=2e-3)
    assert always == pytest.approx(20.0, abs=2e-3)


def test_without_repeats_in_any_list_nothing_is_learned() -> None:
    assert likeliest_gain(np.zeros(3), np.zeros(3, bool)) == 0.0
    assert likeliest_gain(np.empty(0), np.empty(0, bool)) == 0.0


class Fixed(Recommender):
    """Scores as they were given, of one person."""

    def __init__(self, scores: list[float], counts: bool) -> None:
        super().__init__(Catalogue.of(DATA, Sequences.from_dataset(DATA).train))
        self.counted, self.given = counts, np.array(scores, np.float32)  # type: ignore[misc]

    def scores_after(self, histories: Histories) -> np.ndarray:
        return self._gained(np.repeat(self.given[None], len(histories), 0), histories)


DATA = dataset([[0, 1, 2, 0], [1, 2, 0, 3]])


@pytest.mark.parametrize("counts", [False, True])
def test_scores_of_both_kinds_gain_the_same_probability(counts: bool) -> None:
    """Half of the mass lies on items of the history: one of two people takes again, and half a repeat is added."""
    shares = np.array([0.3, 0.2, 0.1, 0.4])
    one = Fixed((shares * 7 if counts else np.log(shares) + 3).tolist(), counts)
    np.testing.assert_allclose(one.probabilities(one.given[None])[0], shares, rtol=1e-6)
    sequences = Sequences(Histories.of([[0, 1], [1, 0]]), np.array([1, 2]), np.array([-1, -1]), 4)
    one.learn_repeats(sequences)
    assert one.repeat_gain == pytest.approx(np.log(3), abs=2e-3), "expected 2 · .75 of them again, as wanted"
    moved = one.probabilities(one.scores_after(Histories.of([[0, 1, 0]])))[0]
    np.testing.assert_allclose(moved, shares * [3, 3, 1, 1] / 2, rtol=2e-3)


def test_nothing_known_is_the_same_for_all() -> None:
    one = Fixed([0, 0, 0, 0], counts=True)
    assert one.probabilities(one.given[None]).tolist() == [[0.25] * 4]
    empty = Sequences(Histories.of([[0]]), np.array([-1]), np.array([-1]), 4)
    assert one.learn_repeats(empty).repeat_gain == 0.0
