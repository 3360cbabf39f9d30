"""The budget is never exceeded, whatever calls take, and what is judged is the first of what was asked."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.errors import UserError
from forwhy.evaluate.judge import JudgeConfig
from forwhy.options import checked
from forwhy.text.chat.base import Ledger, Tally

CALLS = st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 500), st.floats(0, 1)), max_size=30)


def priced(budget: float) -> Ledger:
    return JudgeConfig(model="m", budget=budget, input_price=2.0, output_price=10.0).ledger()


def test_cost_by_hand() -> None:
    assert priced(1).cost(Tally(3, 1_000_000, 50_000)) == pytest.approx(2.5)
    assert JudgeConfig(model="m").ledger().cost(Tally(3, 1, 1)) is None


@given(CALLS, st.floats(0.0001, 0.05))
def test_no_order_of_calls_exceeds_the_budget(calls: list[tuple[int, int, float]], budget: float) -> None:
    ledger, refused = priced(budget), False
    for read, written, share in calls:
        bound = Tally(1, read, written)
        held = ledger.hold(bound)
        assert not (refused and held)
        refused = refused or not held
        if held:
            ledger.book(bound, Tally(1, int(read * share), int(written * share)))
        cost = ledger.cost(ledger.bought)
        assert cost is not None
        assert cost <= budget


def test_a_call_that_just_fits_is_made() -> None:
    assert priced(4e-6).hold(Tally(1, 2, 0))
    assert not priced(4e-6).hold(Tally(1, 3, 0))
    assert JudgeConfig(model="m", budget=1).ledger().hold(Tally(1, 10**9, 10**9))


def test_without_prices_calls_are_counted() -> None:
    ledger = JudgeConfig(model="m", budget=2).ledger()
    for _ in range(2):
        assert ledger.hold(Tally(1))
        ledger.book(Tally(1), Tally(1))
    assert not ledger.hold(Tally(1))
    assert ledger.closed


def test_what_the_cache_cost_counts() -> None:
    ledger = JudgeConfig(model="m", budget=3).ledger()
    ledger.cached += Tally(3)
    assert not ledger.hold(Tally(1))


def test_a_call_waits_for_those_under_way_when_they_decide() -> None:
    ledger, found = JudgeConfig(model="m", budget=1).ledger(), []
    assert ledger.hold(Tally(1))
    waiting = threading.Thread(target=lambda: found.append(ledger.hold(Tally(1))))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    ledger.book(Tally(1), Tally())  # it came to nothing and was free
    waiting.join(5)
    assert found == [True]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"input_price": 1.0}, "prices: .*give both"),
        ({"budget": 0}, "budget"),
        ({"budget": float("nan")}, "budget"),
        ({"input_price": -1, "output_price": 1}, "input_price"),
        ({"model": ""}, "model"),
        ({"concurrency": 0, "timeout": 0}, "concurrency.*timeout"),
        ({"key": "secret"}, "key"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=f"judge: .*{named}"):
        checked(JudgeConfig, {"model": "m", **options}, "judge")
