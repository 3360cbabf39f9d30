"""What an item of the history gains in a generative recommender's lists."""

import numpy as np
import pytest

from forwhy.data.histories import Histories
from forwhy.recommend.repeats import likeliest_gain, with_gain


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
    mass = np.array([0.7, 0.05, 0.3])
    gains = np.linspace(-5, 5, 10_001)
    odds = np.exp(gains)[:, None] * mass
    again = odds / (1 - mass + odds)
    # One of three took again; the half more that is counted is a weight of its own on the gain.
    likelihood = np.log(again[:, 0]) + np.log(1 - again[:, 1:]).sum(1) + 0.5 * gains
    assert likeliest_gain(lists, histories, targets) == pytest.approx(gains[likelihood.argmax()], abs=2e-3)


def test_nobody_and_everybody_takes_again() -> None:
    lists, histories = [listed((0, 0.5), (1, 0.2))] * 40, Histories.of([[0]] * 40)
    never = likeliest_gain(lists, histories, np.full(40, 3))
    always = likeliest_gain(lists, histories, np.full(40, 0))
    assert never == pytest.approx(np.log(0.5 / 39.5), abs=2e-3)
    assert always == pytest.approx(20.0, abs=2e-3)


def test_without_repeats_in_any_list_nothing_is_learned() -> None:
    assert likeliest_gain([listed((0, 0.5))], Histories.of([[1]]), np.array([1])) == 0.0
    assert likeliest_gain([], Histories.of([]), np.array([], dtype=np.int64)) == 0.0
