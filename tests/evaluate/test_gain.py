"""Information gain of made-up likelihoods."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from forwhy.data.dataset import Pairs
from forwhy.evaluate.gain import information_gain, measure_gain, per_token


@dataclass
class Nll:
    sum: np.ndarray
    tokens: np.ndarray


TOKENS = np.array([10, 20, 30])
TRUE = Nll(np.array([20.0, 50.0, 80.0]), TOKENS)


def shifted(by: float) -> Nll:
    return Nll(TRUE.sum + by * TOKENS, TOKENS)


def test_gain_is_lost_nats_per_token() -> None:
    gain = information_gain(TRUE, shifted(0.25), shifted(-0.5), shifted(0.0))
    assert gain["user"] == pytest.approx((0.25, 0.25, 0.25))
    assert gain["item"].mean == pytest.approx(-0.5)
    assert gain["both"].mean == 0
    assert per_token(TRUE.sum, TRUE.tokens).mean == pytest.approx(150 / 60)


def test_intervals_come_from_pairs() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 40, 300)
    true = Nll(tokens * 2.8, tokens)
    lost = Nll(true.sum + tokens * generator.normal(0.1, 0.5, 300), tokens)
    both = information_gain(true, lost, lost, lost)["both"]
    assert both.low < both.mean < both.high
    assert both.high - both.low == pytest.approx(4 * 0.5 / np.sqrt(300) * 1.1, rel=0.25)


def test_other_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="token counts differ"):
        information_gain(TRUE, TRUE, TRUE, Nll(TRUE.sum, TOKENS + 1))


@dataclass
class Listener:
    """NLL 1 per token, 2 when the user is a stranger, 1.5 more when the item is, and 4 more when its title is."""

    asked: list[tuple[bool, bool]] = field(default_factory=list)

    def nll(
        self,
        pairs: Pairs,
        user_rows: np.ndarray | None = None,
        item_rows: np.ndarray | None = None,
        titled: bool = False,
    ) -> Nll:
        users = pairs.users if user_rows is None else user_rows
        items = pairs.items if item_rows is None else item_rows
        self.asked.append((user_rows is not None, item_rows is not None))
        nats = 1.0 + (users != pairs.users) + (1.5 + 4 * titled) * (items != pairs.items)
        return Nll(4 * nats, np.full(len(pairs), 4))


def test_measured_with_strangers_only() -> None:
    pairs = Pairs(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7]), ("a", "b", "c", "d"))
    listener = Listener()
    found = measure_gain(listener, pairs)
    gain = found["information_gain"]
    assert {side: gain[side] for side in gain["intervals"]} == {"user": 1, "item": 1.5, "both": 2.5}
    assert found["nll"] == 1
    assert gain["pairs"] == 4
    assert listener.asked == [(False, False), (True, False), (False, True), (True, True)]


def test_where_titles_are_shown_everything_is_dealt_too() -> None:
    pairs = Pairs(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7]), ("a", "b", "c", "d"))
    gain = measure_gain(Listener(), pairs, titles=True)["information_gain"]
    assert {side: gain[side] for side in gain["intervals"]} == {
        "user": 1, "item": 1.5, "both": 2.5, "everything": 6.5,
    }  # fmt: skip
