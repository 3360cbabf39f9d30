"""The budget is never exceeded, whatever calls take, and what is judged is the first of what was asked."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.errors import UserError
from forwhy.evaluate.judge import JudgeConfig
from forwhy.options import checked
from forwhy.text.chat.base import Answer, Ledger, Tally

CALLS = st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 500), st.floats(0, 1)), max_size=30)


def priced(budget: float | None = None) -> JudgeConfig:
    return JudgeConfig(model="m", budget=budget, input_price=2.0, output_price=10.0)


def counted(budget: float) -> Ledger:
    """A budget of calls."""
    return JudgeConfig(model="m", budget=budget).ledger()


def is_made(ledger: Ledger, bound: Tally, used: Tally | None = None) -> bool:
    """Whether a call of this bound is made."""
    answer = Answer(used=bound if used is None else used)
    return ledger.call(bound, lambda: answer) is answer


def test_cost_by_hand() -> None:
    assert priced().cost(Tally(3, 1_000_000, 50_000)) == pytest.approx(2.5)
    assert JudgeConfig(model="m").cost(Tally(3, 1, 1)) is None


@given(CALLS, st.floats(0.0001, 0.05))
def test_no_order_of_calls_exceeds_the_budget(calls: list[tuple[int, int, float]], budget: float) -> None:
    config, refused = priced(budget), False
    ledger = config.ledger()
    for read, written, share in calls:
        made = is_made(ledger, Tally(1, read, written), Tally(1, int(read * share), int(written * share)))
        assert not (refused and made)
        refused = refused or not made
        cost = config.cost(ledger.bought)
        assert cost is not None
        assert cost <= budget


def test_a_call_that_just_fits_is_made() -> None:
    assert is_made(priced(4e-6).ledger(), Tally(1, 2, 0))
    assert not is_made(priced(4e-6).ledger(), Tally(1, 3, 0))
    assert is_made(counted(1), Tally(1, 10**9, 10**9))


def test_without_prices_calls_are_counted() -> None:
    ledger = counted(2)
    assert [is_made(ledger, Tally(1)) for _ in range(3)] == [True, True, False]
    assert ledger.closed


def test_what_the_cache_cost_counts() -> None:
    ledger = counted(3)
    ledger.cached += Tally(3)
    assert not is_made(ledger, Tally(1))


def test_a_call_that_fails_costs_its_bound() -> None:
    ledger = counted(3)
    with pytest.raises(ZeroDivisionError):
        ledger.call(Tally(1, 5, 7), lambda: Answer(str(1 // 0)))
    assert ledger.bought == Tally(1, 5, 7)


def test_a_call_waits_for_those_under_way_when_they_decide() -> None:
    ledger, found, under_way, end = counted(1), list[bool](), threading.Event(), threading.Event()

    def free() -> Answer:
        """Comes to nothing."""
        under_way.set()
        end.wait(5)
        return Answer(used=Tally())

    first = threading.Thread(target=lambda: ledger.call(Tally(1), free))
    first.start()
    assert under_way.wait(5)
    waiting = threading.Thread(target=lambda: found.append(is_made(ledger, Tally(1))))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    end.set()
    first.join(5)
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
